"""Share of LJSpeech's sentences that ``flowtts.text.normalise`` reads as the person did.

    python benchmarks/text_normalise.py ljspeech.tsv [--show]

The table has the columns id, text, normalised. Rows whose text and reading differ measure what the rules read; rows
where they are equal measure what the rules spoil. Case, punctuation and accents do not count. The corpus leaves
abbreviations unexpanded in its readings and documents how they are read; both sides get that expansion.
"""

from __future__ import annotations

import argparse
import csv
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from flowtts.text import normalise

# The first two lines are the list in LJSpeech's README; the rest it also leaves as written.
_SAME = {
    "mr": "mister", "mrs": "missus", "dr": "doctor", "no": "number", "st": "saint", "co": "company", "jr": "junior",
    "maj": "major", "gen": "general", "drs": "doctors", "rev": "reverend", "lt": "lieutenant", "hon": "honorable",
    "sgt": "sergeant", "capt": "captain", "esq": "esquire", "ltd": "limited", "col": "colonel", "ft": "fort",
    "etc": "et cetera", "inc": "incorporated", "bart": "baronet", "prof": "professor", "supt": "superintendent",
}  # fmt: skip
_ABBREVIATION = re.compile(rf"\b({'|'.join(_SAME)})\.")


@dataclass(frozen=True)
class Row:
    """A sentence, a person's reading of it and ours."""

    id: str
    text: str
    wanted: str
    read: str

    @property
    def right(self) -> bool:
        """Whether the readings agree."""
        return canonical(self.wanted) == canonical(self.read)


def canonical(text: str) -> str:
    """Lower-case words without accents or punctuation; dotted initials joined, documented abbreviations expanded."""
    text = re.sub(r"\bi\.\s?e\.", "that is ", text)
    text = re.sub(r"\be\.\s?g\.", "for example ", text)
    text = unicodedata.normalize("NFKD", text.lower())
    text = "".join(letter for letter in text if not unicodedata.combining(letter)).replace("’", "'")
    text = re.sub(r"\b((?:[a-z]{1,2}\.)+[a-z])\.", lambda match: match[1].replace(".", ""), text)
    text = _ABBREVIATION.sub(lambda match: _SAME[match[1]], text)
    return " ".join(re.sub(r"[^a-z0-9 ]", " ", text.replace("'", "")).split())


def read_rows(path: Path) -> list[Row]:
    """Rows of the table that have a person's reading, with ours."""
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Row(r["id"], r["text"], r["normalised"], normalise(r["text"])) for r in table if r["normalised"]]


def main() -> None:
    """Print both shares; with --show the sentences that went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--show", action="store_true", help="print what went wrong")
    args = parser.parse_args()
    rows = read_rows(args.table)
    for name, part in (
        ("reading differs from text", [row for row in rows if row.text != row.wanted]),
        ("reading equals text", [row for row in rows if row.text == row.wanted]),
    ):
        wrong = [row for row in part if not row.right]
        print(f"{name}: {len(part) - len(wrong)} of {len(part)} right ({1 - len(wrong) / len(part):.2%})")
        for row in wrong if args.show else ():
            print(f"  {row.id}\n    text {row.text}\n    want {row.wanted}\n    read {row.read}")


if __name__ == "__main__":
    main()
