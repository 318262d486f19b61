"""Phone error rates of ways to pronounce words, against a lexicon and against words left out of CMUdict.

    python benchmarks/text_g2p.py [--lexicon LEXICON] [--words 2000] [--seed 0]

A lexicon has ``WORD<TAB>PHONES`` lines, several per word where it has several pronunciations; the best match counts.
The words left out are a seeded sample of CMUdict without inflected forms of other entries. g2p-en's network and gruut's CRF
were trained on CMUdict or a descendant of it, so their figures on these words are flattering; the comparison
between a network alone and word formation in front of the same network is fair.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowtts.text.dictionary import Pronunciation, cmudict
from flowtts.text.formation import form
from flowtts.text.network import spelling_network
from flowtts.text.pronounce import Pronouncer

Reader = Callable[[str], Pronunciation]
References = Mapping[str, Sequence[Pronunciation]]

_IPA = {
    "ɑ": "AA", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɔ": "AO", "aʊ": "AW", "aɪ": "AY", "ɛ": "EH", "ɚ": "ER", "ɝ": "ER", "eɪ": "EY",
    "ɪ": "IH", "i": "IY", "oʊ": "OW", "ɔɪ": "OY", "ʊ": "UH", "u": "UW", "b": "B", "tʃ": "CH", "d": "D", "ð": "DH", "f": "F",
    "ɡ": "G", "h": "HH", "dʒ": "JH", "k": "K", "l": "L", "m": "M", "n": "N", "ŋ": "NG", "p": "P", "ɹ": "R", "s": "S", "ʃ": "SH",
    "t": "T", "θ": "TH", "v": "V", "w": "W", "j": "Y", "z": "Z", "ʒ": "ZH",
}  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """Error rates of one reader, in per cent: phones with stress, phones without, words without."""

    words: int
    stressed: float
    plain: float
    wrong_words: float

    def __str__(self) -> str:
        return f"{self.words:6d} words  PER {self.stressed:6.2f}  PER without stress {self.plain:6.2f}  WER {self.wrong_words:6.2f}"


def distance(made: Sequence[str], wanted: Sequence[str]) -> int:
    """Levenshtein distance."""
    row = list(range(len(wanted) + 1))
    for index, phone in enumerate(made, start=1):
        last, row[0] = row[0], index
        for place, other in enumerate(wanted, start=1):
            last, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, last + (phone != other))
    return row[-1]


def bare(phones: Sequence[str]) -> list[str]:
    """Without stress digits."""
    return [phone.rstrip("012") for phone in phones]


def measure(read: Reader, references: References) -> Rates:
    """Rates of ``read`` over words; the closest pronunciation of each word counts."""
    errors, lengths, plain_errors, plain_lengths, wrong = 0, 0, 0, 0, 0
    for word, wanted in references.items():
        made = read(word)
        error, length = min((distance(made, one), len(one)) for one in wanted)
        plain_error, plain_length = min((distance(bare(made), bare(one)), len(one)) for one in wanted)
        errors, lengths = errors + error, lengths + length
        plain_errors, plain_lengths = plain_errors + plain_error, plain_lengths + plain_length
        wrong += plain_error > 0
    return Rates(
        len(references), 100 * errors / lengths, 100 * plain_errors / plain_lengths, 100 * wrong / len(references)
    )


def read_lexicon(path: Path) -> dict[str, list[Pronunciation]]:
    """All pronunciations of every word of a lexicon file that have phones and no letters."""
    found: dict[str, list[Pronunciation]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        word, _, phones = line.partition("\t")
        if re.fullmatch(r"[A-Za-z']+", word) and phones:
            found.setdefault(word.lower(), []).append(tuple(phones.split()))
    return found


def left_out(count: int, seed: int) -> dict[str, list[Pronunciation]]:
    """A sample of CMUdict without possessives and regular inflections of other entries."""
    dictionary = cmudict()
    words = [
        word
        for word in sorted(dictionary.entries)
        if re.fullmatch(r"[a-z]{4,}", word)
        and not any(word.endswith(end) and word[: -len(end)] in dictionary for end in ("s", "es", "ed", "ing", "d", "ly"))
    ]
    chosen = random.Random(seed).sample(words, count)
    return {word: list(dictionary.lookup(word)) for word in chosen}


def gruut_reader() -> Reader | None:
    """gruut's conditional random field, its IPA as ARPAbet; None where gruut is not installed."""
    if importlib.util.find_spec("gruut") is None or importlib.util.find_spec("gruut_lang_en") is None:
        return None
    import gruut_lang_en
    from gruut.g2p import GraphemesToPhonemes

    model = GraphemesToPhonemes(Path(gruut_lang_en.__file__).parent / "g2p" / "model.crf")
    return lambda word: from_ipa(model(word))


def from_ipa(phones: Iterable[str]) -> Pronunciation:
    """gruut's English IPA as ARPAbet with stress."""
    made = []
    for phone in phones:
        stress = "1" if "ˈ" in phone else "2" if "ˌ" in phone else "0"
        plain = _IPA.get(phone.strip("ˈˌ").replace("ː", "").replace("͡", ""))
        if plain is not None:
            made.append(plain + (stress if plain[0] in "AEIOU" else ""))
    return tuple(made)


def pocketsphinx_reader() -> Reader | None:
    """pocketsphinx's dictionary, which has no stress; None where it is not installed."""
    spec = importlib.util.find_spec("pocketsphinx")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "model" / "en-us" / "cmudict-en-us.dict"
    pairs = (line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines() if "(" not in line)
    entries = {word: tuple(phones.split()) for word, phones in pairs}
    return lambda word: entries.get(word, ())


def formed(words: frozenset[str]) -> Reader:
    """Word formation from what CMUdict has beside ``words``; empty where it does not apply."""
    dictionary = cmudict()
    return lambda word: form(word, lambda part: () if part in words else dictionary.best(part))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lexicon", type=Path)
    parser.add_argument("--words", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    network, gruut, sphinx = spelling_network(), gruut_reader(), pocketsphinx_reader()
    if args.lexicon:
        references = read_lexicon(args.lexicon)
        unknown = {word: wanted for word, wanted in references.items() if word not in cmudict()}
        print(f"{args.lexicon.name}; not in CMUdict: {' '.join(unknown) or 'none'}")
        for name, reader in (("flowtts", Pronouncer().word), ("network alone", network), ("gruut CRF", gruut), ("pocketsphinx", sphinx)):
            if reader is not None:
                print(f"  {name:24s}{measure(reader, references)}", flush=True)
    references = left_out(args.words, args.seed)
    by_form = formed(frozenset(references))
    print(f"{args.words} words left out of CMUdict")
    for name, reader in (("network alone", network), ("formation, else network", lambda word: by_form(word) or network(word)), ("gruut CRF", gruut)):
        if reader is not None:
            print(f"  {name:24s}{measure(reader, references)}", flush=True)
    touched = {word: wanted for word, wanted in references.items() if by_form(word)}
    print("of these, words that formation reads")
    for name, reader in (("network alone", network), ("formation", by_form)):
        print(f"  {name:24s}{measure(reader, touched)}", flush=True)


if __name__ == "__main__":
    main()
