"""What was said: pocketsphinx, whose acoustic model, dictionary and language model ship in its wheel.

Used to transcribe prompts that come without text, to rank candidates, and to measure intelligibility.
"""

from __future__ import annotations

import logging
import math
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from flowtts.audio.io import resample
from flowtts.compat import require
from flowtts.sphinx import decode
from flowtts.text import FrontEnd, normalise
from flowtts.types import Audio, UserError

_log = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
"""Hz at which the acoustic model listens."""

BIGRAM_DISCOUNT = 0.5
"""Probability mass that a closed language model leaves to word pairs it has not seen."""

_DICTIONARY = "en-us/cmudict-en-us.dict"
_APOSTROPHES = str.maketrans({"‘": "'", "’": "'", "ʼ": "'"})
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_WORDS = re.compile(r"[a-z' ]*")


def spoken_words(text: str) -> list[str]:
    """The words of a text as scoring and recognition compare them.

    Numbers and abbreviations are written out (``flowtts.text.normalise``), case, accents and punctuation go, hyphens
    separate words, apostrophes inside words stay. Text that already consists of lower-case words is taken as it is,
    so that a recogniser's "st" or "no" is not read as an abbreviation; applied to its own output it changes nothing.

    Returns:
        Lower-case words; empty if the text has none.
    """
    plain = text if _WORDS.fullmatch(text) else normalise(text)
    letters = unicodedata.normalize("NFKD", plain.translate(_APOSTROPHES).lower())
    return _WORD.findall("".join(c for c in letters if not unicodedata.combining(c)))


class PocketsphinxRecogniser:
    """Transcribes English speech of any length; about 0.15 s of one CPU core per second of sound.

    The decoder keeps pocketsphinx's defaults (en-us continuous model, three passes: tree, flat, lattice) except that
    each recording is decoded as one utterance with its own cepstral mean (``full_utt``), so that a transcript does
    not depend on what was heard before.

    Attributes:
        backend: the program, its version and what its language model knows.
    """

    def __init__(
        self,
        sentences: Sequence[str] | None = None,
        pronounce: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        """Load the models.

        Args:
            sentences: None for the open vocabulary of pocketsphinx's own language model; otherwise the recogniser
                expects these sentences: its language model holds their words and word pairs and nothing else, and
                words missing from its dictionary are pronounced by ``pronounce``. Such a recogniser knows the text.
            pronounce: word -> ARPAbet phones, stress digits allowed; flowtts's front end by default.

        Raises:
            UserError: pocketsphinx is missing, or ``sentences`` holds no word.
        """
        pocketsphinx = require("pocketsphinx", "")
        self.backend = f"pocketsphinx {version('pocketsphinx')} (en-us, its language model)"
        if sentences is None:
            self._decoder: Any = pocketsphinx.Decoder(loglevel="FATAL")
            return
        spoken = [words for words in map(spoken_words, sentences) if words]
        if not spoken:
            raise UserError("a closed vocabulary needs sentences with words; give the texts that may be heard")
        self.backend = f"pocketsphinx {version('pocketsphinx')} (en-us, bigrams of the {len(spoken)} texts)"
        vocabulary = {word for words in spoken for word in words}
        pronunciations = _dictionary(Path(pocketsphinx.get_model_path(_DICTIONARY)), vocabulary)
        pronunciations += _pronounced(sorted(vocabulary.difference(_heads(pronunciations))), pronounce)
        sayable = set(_heads(pronunciations))
        model = bigram_arpa([[word for word in words if word in sayable] for words in spoken])
        with tempfile.TemporaryDirectory() as folder:
            language, dictionary = Path(folder, "closed.lm"), Path(folder, "closed.dict")
            language.write_text(model, encoding="utf-8")
            # A decoder over the whole dictionary takes seconds to build.
            dictionary.write_text("".join(f"{line}\n" for line in pronunciations), encoding="utf-8")
            self._decoder = pocketsphinx.Decoder(lm=str(language), dict=str(dictionary), loglevel="FATAL")

    def transcribe(self, audio: Audio) -> str:
        """What is heard: lower-case words separated by spaces, empty if nothing is.

        Args:
            audio: any rate and number of channels; averaged to mono and resampled to 16 kHz.
        """
        samples = resample(audio.mono(), SAMPLE_RATE).samples
        # Digital silence and less than one analysis window make the decoder invent a word or fail.
        if len(samples) < SAMPLE_RATE // 20 or not np.abs(samples).max() >= 2**-15:
            return ""
        pcm = np.clip(np.round(samples * 32768.0), -32768, 32767).astype("<i2")
        decode(self._decoder, pcm.tobytes())
        heard = self._decoder.hyp()
        return "" if heard is None else " ".join(spoken_words(heard.hypstr))


def _dictionary(path: Path, words: Container[str]) -> list[str]:
    """The lines of a pocketsphinx dictionary, "word PHONES" and "word(2) PHONES", that are about some words."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and line.split(None, 1)[0].partition("(")[0] in words]


def _heads(lines: Iterable[str]) -> Iterator[str]:
    return (line.split(None, 1)[0] for line in lines)


def _pronounced(words: Sequence[str], pronounce: Callable[[str], Sequence[str]] | None) -> list[str]:
    """Dictionary lines of words; those that cannot be pronounced are left out with a warning."""
    lines: list[str] = []
    if words and pronounce is None:
        pronounce = _front_end()
    for word in words:
        try:
            phones = pronounce(word) if pronounce is not None else ()
        except UserError as error:
            _log.warning("the recogniser cannot expect %r: %s", word, error)
            continue
        # pocketsphinx's phones carry no stress.
        lines.append(" ".join([word, *(phone.rstrip("012") for phone in phones)]))
    return lines


def bigram_arpa(sentences: Sequence[Sequence[str]], discount: float = BIGRAM_DISCOUNT) -> str:
    """A back-off bigram model of some sentences in the ARPA format, base 10 logarithms.

    P(w | v) = (1 - discount) c(v w) / c(v) for pairs seen; what is left goes to the other words by their unigram
    probability, as in the CMU language model tool.

    Args:
        sentences: words of each; sentence marks are added.
        discount: see above, inside (0, 1).
    """
    if not 0 < discount < 1:
        raise ValueError(f"discount must be inside (0, 1), not {discount}")
    marked = [("<s>", *words, "</s>") for words in sentences]
    pairs = Counter(pair for words in marked for pair in pairwise(words))
    contexts = Counter(word for words in marked for word in words[:-1])
    # <s> only ever comes first, so it is no outcome and takes no probability.
    outcomes = Counter(word for words in marked for word in words[1:])
    total = outcomes.total()
    seen: Counter[str] = Counter()
    for context, word in pairs:
        seen[context] += outcomes[word]

    def back_off(word: str) -> float:
        left = 1.0 - seen[word] / total
        return math.log10(discount / left) if word in contexts and left > 0 else 0.0

    unigrams = [f"-99.0000 <s> {back_off('<s>'):.4f}"]
    unigrams += [f"{math.log10(n / total):.4f} {word} {back_off(word):.4f}" for word, n in sorted(outcomes.items())]
    bigrams = [
        f"{math.log10((1.0 - discount) * n / contexts[first]):.4f} {first} {second}"
        for (first, second), n in sorted(pairs.items())
    ]
    counts = f"\\data\\\nngram 1={len(unigrams)}\nngram 2={len(bigrams)}\n"
    return "\n".join([counts, "\\1-grams:", *unigrams, "", "\\2-grams:", *bigrams, "", "\\end\\", ""])


def _front_end() -> Callable[[str], Sequence[str]]:
    reader = FrontEnd()

    def pronounce(word: str) -> Sequence[str]:
        return [phone for part in reader.analyse(word).words for phone in part.phones]

    return pronounce
