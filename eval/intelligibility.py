"""Word and character error rate of what a recogniser hears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from weakref import WeakKeyDictionary

from flowtts.compat import require
from flowtts.recognise import PocketsphinxRecogniser, spoken_words
from flowtts.types import Audio, Item, Score

from .bootstrap import ratio_interval
from .judging import Progress, item_names, no_progress, score

Unit = Literal["word", "character"]


class Recogniser(Protocol):
    """A way of hearing words."""

    @property
    def backend(self) -> str:
        """The model or program with its version."""
        ...

    def open(self, texts: Sequence[str]) -> Callable[[Audio], str]:
        """Load the model; the function transcribes. Only a closed vocabulary looks at ``texts``."""
        ...


@dataclass(frozen=True)
class Pocketsphinx:
    """pocketsphinx with its own language model, or one that knows the texts of the whole set.

    A closed vocabulary can only confuse the set's own words: it ranks systems on the same texts, and its error rate
    must not be compared with published ones.
    """

    closed: bool = False

    @property
    def backend(self) -> str:
        """The program and what its language model knows."""
        from importlib.metadata import version

        knows = "bigrams of the texts judged" if self.closed else "its language model"
        return f"pocketsphinx {version('pocketsphinx')} (en-us, {knows})"

    def open(self, texts: Sequence[str]) -> Callable[[Audio], str]:
        """Load the decoder."""
        return PocketsphinxRecogniser(texts if self.closed else None).transcribe


class Transcripts:
    """What a recogniser heard, kept as long as the recordings live, so that WER and CER share one listening.

    Args:
        recogniser: who hears.
        progress: called per recording.
        known: all that may be said, for a closed vocabulary; if empty, the texts of the items. A set that is judged in
            parts needs it, to be heard as if it were judged at once.
    """

    def __init__(
        self, recogniser: Recogniser, progress: Progress = no_progress, known: Sequence[str] = ()
    ) -> None:  # fmt: skip
        self.recogniser = recogniser
        self._progress, self._known = progress, tuple(known)
        self._texts: tuple[str, ...] = ()
        self._heard: WeakKeyDictionary[Audio, str] = WeakKeyDictionary()

    def of(self, items: Sequence[Item], name: str) -> list[str]:
        """One transcript per item; the model is loaded if something new is to be heard and released afterwards."""
        texts = self._known or tuple(item.text for item in items)
        if texts != self._texts:
            self._heard.clear()
            self._texts = texts
        new = [audio for audio in dict.fromkeys(item.audio for item in items) if audio not in self._heard]
        transcribe = self.recogniser.open(texts) if new else None
        for done, audio in enumerate(new):
            self._progress(name, done, len(new))
            if transcribe is not None:
                self._heard[audio] = transcribe(audio)
        self._progress(name, len(new), len(new))
        return [self._heard[item.audio] for item in items]


@dataclass(eq=False)
class ErrorRate:
    """Errors over reference words (or characters, spaces included), summed over all items; 0.05 means 5 %.

    Both sides pass ``flowtts.recognise.spoken_words``. Sound in which nothing is heard counts as all words deleted:
    that is the system's failure, not the judge's. Only items without a word in their text are dropped.

    Attributes:
        name: of the metric.
        transcripts: whose hearing is scored.
        unit: "word" or "character".
    """

    name: str
    transcripts: Transcripts
    unit: Unit = "word"
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        require("jiwer", "eval")

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together."""
        named = dict(zip(item_names(items), items, strict=True))
        words = {name: spoken_words(item.text) for name, item in named.items()}
        dropped = {name: "its text has no words" for name in named if not words[name]}
        judged = [name for name in named if name not in dropped]
        heard = self.transcripts.of([named[name] for name in judged], self.name)
        errors: dict[str, int] = {}
        lengths: dict[str, int] = {}
        for name, said in zip(judged, heard, strict=True):
            errors[name], lengths[name] = count_errors(words[name], spoken_words(said), self.unit)
        interval = ratio_interval(list(errors.values()), list(lengths.values()))
        rates = {name: errors[name] / lengths[name] for name in errors}
        return score(
            interval, rates, dropped, self.transcripts.recogniser.backend, weights=lengths,
            heard=dict(zip(judged, heard, strict=True)),
        )  # fmt: skip


def count_errors(reference: Sequence[str], heard: Sequence[str], unit: Unit = "word") -> tuple[int, int]:
    """Substitutions, deletions and insertions of the best alignment, and the reference's length.

    Args:
        reference: words, at least one.
        heard: words.
        unit: what is counted; characters include the single spaces between words.

    Raises:
        UserError: the extra "eval" is missing.
    """
    jiwer = require("jiwer", "eval")
    process = jiwer.process_words if unit == "word" else jiwer.process_characters
    found = process(" ".join(reference), " ".join(heard))
    errors = found.substitutions + found.deletions + found.insertions
    return int(errors), int(found.hits + found.substitutions + found.deletions)
