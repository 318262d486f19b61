"""Phone error rates of ways to pronounce words, against a lexicon and against words left out of CMUdict.

    python benchmarks/text_g2p.py [--lexicon LEXICON] [--text TSV …] [--words 2000] [--seed 0]

A lexicon has ``WORD<TAB>PHONES`` lines, several per word where it has several pronunciations; the best match counts.
The words left out are a seeded sample of CMUdict without inflected forms of other entries; g2p-en's network was
trained on them and gruut's CRF on a descendant of CMUdict, so those figures flatter both. Words that nobody trained
on come from the dictionary of the package misaki (if it is installed), less CMUdict; with --text only those that the
tables' column "text" has, which is what a user's unknown words look like.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowtts.text.dictionary import Pronunciation, cmudict
from flowtts.text.formation import WAYS, form
from flowtts.text.network import spelling_network
from flowtts.text.pronounce import Pronouncer

Reader = Callable[[str], Pronunciation]
References = Mapping[str, Sequence[Pronunciation]]

_IPA = {
    "ɑ": "AA", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɔ": "AO", "aʊ": "AW", "aɪ": "AY", "ɛ": "EH", "ɚ": "ER", "ɝ": "ER",
    "eɪ": "EY", "ɪ": "IH", "i": "IY", "oʊ": "OW", "ɔɪ": "OY", "ʊ": "UH", "u": "UW", "b": "B", "tʃ": "CH", "d": "D",
    "ð": "DH", "f": "F", "ɡ": "G", "h": "HH", "dʒ": "JH", "k": "K", "l": "L", "m": "M", "n": "N", "ŋ": "NG",
    "p": "P", "ɹ": "R", "s": "S", "ʃ": "SH", "t": "T", "θ": "TH", "v": "V", "w": "W", "j": "Y", "z": "Z", "ʒ": "ZH",
}  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """Error rates of one reader, in per cent: phones with stress, phones without, words without."""

    words: int
    stressed: float
    plain: float
    wrong_words: float

    def __str__(self) -> str:
        rates = f"PER {self.stressed:6.2f}  PER without stress {self.plain:6.2f}  WER {self.wrong_words:6.2f}"
        return f"{self.words:6d} words  {rates}"


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
        and not any(
            word.endswith(end) and word[: -len(end)] in dictionary for end in ("s", "es", "ed", "ing", "d", "ly")
        )
    ]
    chosen = random.Random(seed).sample(words, count)
    return {word: list(dictionary.lookup(word)) for word in chosen}


def misaki_words() -> dict[str, list[Pronunciation]]:
    """Words of misaki's American dictionaries that CMUdict lacks; empty where misaki is not installed."""
    spec = importlib.util.find_spec("misaki")
    if spec is None or spec.origin is None:
        return {}
    dictionary, found = cmudict(), {}
    for name in ("us_silver.json", "us_gold.json"):
        entries = json.loads((Path(spec.origin).parent / "data" / name).read_text(encoding="utf-8"))
        for word, said in entries.items():
            small = word.lower()
            if re.fullmatch(r"[a-z]{3,}", small) and small not in dictionary and isinstance(said, str) and said:
                # A flap is written T or D.
                found[small] = [from_ipa(_segments(said.replace("ɾ", flap))) for flap in "td"]
    return found


def _segments(said: str) -> list[str]:
    """One-letter phones of misaki as IPA, each with its stress mark in front."""
    for letters, phone in (("ɜɹ", "ɝ"), ("əɹ", "ɚ"), ("ʔn", "tən"), ("ᵊ", "ə"), ("ᵻ", "ɪ")):
        said = said.replace(letters, phone)
    diphthongs = {"A": "eɪ", "I": "aɪ", "O": "oʊ", "W": "aʊ", "Y": "ɔɪ", "ʤ": "dʒ", "ʧ": "tʃ"}
    return [stress + diphthongs.get(phone, phone) for stress, phone in re.findall(r"([ˈˌ]?)(.)", said)]


def words_of(paths: Iterable[Path]) -> set[str]:
    """Lower-case words of the tables' column "text"."""
    found: set[str] = set()
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                found.update(re.findall(r"[a-z]+", row["text"].lower()))
    return found


def gruut_reader() -> Reader | None:
    """The conditional random field of gruut, its IPA as ARPAbet; None where gruut is not installed."""
    if importlib.util.find_spec("gruut") is None or importlib.util.find_spec("gruut_lang_en") is None:
        return None
    from gruut.g2p import GraphemesToPhonemes

    data = importlib.import_module("gruut_lang_en")
    model = GraphemesToPhonemes(Path(str(data.__file__)).parent / "g2p" / "model.crf")
    return lambda word: from_ipa(model(word))


def from_ipa(phones: Iterable[str]) -> Pronunciation:
    """English IPA of gruut as ARPAbet with stress."""
    made = []
    for phone in phones:
        stress = "1" if "ˈ" in phone else "2" if "ˌ" in phone else "0"
        plain = _IPA.get(phone.strip("ˈˌ").replace("ː", "").replace("͡", ""))
        if plain is not None:
            made.append(plain + (stress if plain[0] in "AEIOU" else ""))
    return tuple(made)


def pocketsphinx_reader() -> Reader | None:
    """The dictionary of pocketsphinx, which has no stress; None where it is not installed."""
    spec = importlib.util.find_spec("pocketsphinx")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "model" / "en-us" / "cmudict-en-us.dict"
    pairs = (line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines() if "(" not in line)
    entries = {word: tuple(phones.split()) for word, phones in pairs}
    return lambda word: entries.get(word, ())


def formed(unknown: frozenset[str]) -> Reader:
    """Word formation from what CMUdict has beside ``unknown``; empty where it does not apply."""
    dictionary = cmudict()
    return lambda word: form(word, lambda part: () if part in unknown else dictionary.best(part))


def compare(title: str, references: References) -> None:
    """Network, word formation and gruut over words that the dictionary is not to know."""
    network, gruut = spelling_network(), gruut_reader()
    by_form = formed(frozenset(references))
    readers: dict[str, Reader] = {
        "network alone": network,
        "formation, else network": lambda word: by_form(word) or network(word),
    }
    if gruut is not None:
        readers["gruut CRF"] = gruut
    print(f"{title}: {len(references)} words")
    for name, reader in readers.items():
        print(f"  {name:24s}{measure(reader, references)}", flush=True)
    known = cmudict().best
    rest = dict(references)
    for name, way in WAYS.items():
        reached = {
            word: rest.pop(word) for word in list(rest) if way(word, lambda p: () if p in references else known(p))
        }
        if reached:
            print(f"  words read as {name}")
            print(f"    {'network alone':22s}{measure(network, reached)}", flush=True)
            print(f"    {'formation':22s}{measure(by_form, reached)}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lexicon", type=Path)
    parser.add_argument("--text", type=Path, nargs="*", default=[])
    parser.add_argument("--words", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.lexicon:
        references = read_lexicon(args.lexicon)
        print(f"{args.lexicon.name}; not in CMUdict: {' '.join(w for w in references if w not in cmudict()) or 'none'}")
        readers: dict[str, Reader | None] = {
            "flowtts": Pronouncer().word, "network alone": spelling_network(), "gruut CRF": gruut_reader(),
            "pocketsphinx": pocketsphinx_reader(),
        }  # fmt: skip
        for name, reader in readers.items():
            if reader is not None:
                print(f"  {name:24s}{measure(reader, references)}", flush=True)
    compare("left out of CMUdict", left_out(args.words, args.seed))
    unseen = misaki_words()
    if args.text:
        said = words_of(args.text)
        unseen = {word: wanted for word, wanted in unseen.items() if word in said}
    if unseen:
        sample = random.Random(args.seed).sample(sorted(unseen), min(args.words, len(unseen)))
        compare("not in CMUdict, from misaki", {word: unseen[word] for word in sample})


if __name__ == "__main__":
    main()
