"""Text for published weights: byte pairs of its own alphabet."""

from __future__ import annotations

import json
from pathlib import Path

import published_tortoise as published
import pytest
import torch

from flowtts.recipes.tortoise.tokens import BPETokens
from flowtts.text import Analysis
from flowtts.types import UserError

STOP, UNKNOWN, SPACE, A, B, C, AB, COMMA, FULL_STOP = range(9)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(published.tokeniser(9)))
    return path


def test_letters_pairs_spaces_and_a_stop(file: Path) -> None:
    tokens = BPETokens(file)
    assert tokens.symbols == ("[STOP]", "[UNK]", "[SPACE]", "a", "b", "c", "ab", ",", ".")
    made = tokens.encode('  Ab "C",\n\tB,a.')
    assert made.dtype == torch.int64
    assert made.tolist() == [AB, SPACE, C, COMMA, SPACE, B, COMMA, SPACE, A, FULL_STOP, STOP]
    assert tokens.encode("àb").tolist() == [AB, STOP]


def test_numbers_are_read(file: Path) -> None:
    letters = json.loads(file.read_text())
    named = ["[STOP]", "[UNK]", "[SPACE]", *"abcdefghijklmnopqrstuvwxyz", ".", "-"]
    letters["model"] |= {"vocab": {name: i for i, name in enumerate(named)}, "merges": []}
    file.write_text(json.dumps(letters))
    tokens = BPETokens(file)

    def read(text: str) -> str:
        return "".join(tokens.symbols[i] for i in tokens.encode(text)).replace("[SPACE]", " ")

    assert read("Dr. No has 21 cats") == "doctor no has twenty-one cats[STOP]"
    assert read("one – two — three") == "one - two -- three[STOP]"


def test_a_text_of_the_front_end_is_taken_as_it_was_normalised(file: Path) -> None:
    analysis = Analysis(source="12", normalised="Ab c", words=(), phones=())
    assert BPETokens(file)(analysis).tolist() == [AB, SPACE, C, STOP]


@pytest.mark.parametrize(
    ("text", "said"), [("{HH AH0}", "phones in braces"), ("日本", "'日'"), ("", "no word"), ("...", "no word")]
)
def test_what_cannot_be_read(file: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        BPETokens(file).encode(text)


def test_files_that_are_something_else(file: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        BPETokens(file.with_name("gone"))
    held = json.loads(file.read_text())
    for change in ({"[STOP]": 9}, {"d": 20}):
        file.write_text(json.dumps({**held, "model": {**held["model"], "vocab": {**held["model"]["vocab"], **change}}}))
        with pytest.raises(UserError, match=r"is not Tortoise's|no tokeniser"):
            BPETokens(file)
    for text in ("", "[]", "{", json.dumps({**held, "model": 3})):
        file.write_text(text)
        with pytest.raises(UserError, match="no tokeniser that can be read"):
            BPETokens(file)
