"""Error rates: counting, hearing, sharing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from flowtts.audio.io import read
from flowtts.eval.intelligibility import ErrorRate, Pocketsphinx, Transcripts, count_errors
from flowtts.types import Audio, Item, Metric

TEXT = "The old captain counted seven lanterns, and the river was quiet."
ASSETS = Path(__file__).parent / "assets"


@dataclass
class Script:
    """A recogniser that hears what it is told to, and counts."""

    says: dict[Audio, str]
    backend: str = "script"
    opened: list[Sequence[str]] = field(default_factory=list)

    def open(self, texts: Sequence[str]) -> Callable[[Audio], str]:
        self.opened.append(texts)
        return self.says.__getitem__


def items_of(*pairs: tuple[str, str]) -> tuple[list[Item], Script]:
    sounds = [Audio(np.zeros(16_000, np.float32), 16_000) for _ in pairs]
    items = [Item(sound, text, id=f"i{n}") for n, (sound, (text, _)) in enumerate(zip(sounds, pairs, strict=True))]
    return items, Script({sound: said for sound, (_, said) in zip(sounds, pairs, strict=True)})


@pytest.mark.parametrize(
    ("reference", "heard", "words", "characters"),
    [
        ("a b c", "a b c", (0, 3), (0, 5)),
        ("the cat sat", "the bat sat", (1, 3), (1, 11)),
        ("the cat sat", "cat sat", (1, 3), (4, 11)),
        ("the cat", "big cat now", (2, 2), (7, 7)),
        ("one two", "", (2, 2), (7, 7)),
        ("a", "b c d", (3, 1), (5, 1)),
    ],
)
def test_counts(reference: str, heard: str, words: tuple[int, int], characters: tuple[int, int]) -> None:
    assert count_errors(reference.split(), heard.split()) == words
    assert count_errors(reference.split(), heard.split(), "character") == characters


def test_rate_is_over_all_words_and_ignores_writing() -> None:
    items, script = items_of(("Mr. Smith paid 25 dollars!", "mister smith paid twenty five dollars"), ("No.", "yes"))
    found = ErrorRate("wer", Transcripts(script))(items)
    assert found.value == pytest.approx(1 / 7)
    assert found.items == {"i0": 0.0, "i1": 1.0}
    assert (found.count, found.backend, found.sample_rate) == (2, "script", 16_000)
    assert found.low <= found.value <= found.high


def test_silence_counts_as_errors_and_wordless_texts_are_dropped() -> None:
    items, script = items_of(("two words", ""), ("... !", "anything"), ("fine", "fine"))
    found = ErrorRate("wer", Transcripts(script))(items)
    assert found.value == pytest.approx(2 / 3)
    assert found.dropped == {"i1": "its text has no words"}
    assert found.count == 2


def test_word_and_character_rates_listen_once() -> None:
    items, script = items_of(("the cat", "the bat"), ("a dog", "a dog"))
    transcripts = Transcripts(script)
    assert ErrorRate("wer", transcripts)(items).value == pytest.approx(1 / 4)
    assert ErrorRate("cer", transcripts, "character")(items).value == pytest.approx(1 / 12)
    assert len(script.opened) == 1


def test_items_weigh_as_much_as_their_texts_and_say_what_was_heard() -> None:
    items, script = items_of(("The cat!", "the bat"), ("a", "a"), ("...", "hm"), ("two words", ""))
    transcripts = Transcripts(script)
    words, characters = ErrorRate("wer", transcripts)(items), ErrorRate("cer", transcripts, "character")(items)
    assert words.weights == {"i0": 2, "i1": 1, "i3": 2}
    assert characters.weights == {"i0": 7, "i1": 1, "i3": 9}
    assert words.heard == characters.heard == {"i0": "the bat", "i1": "a", "i3": ""}
    for found in (words, characters):
        total = sum(found.items[name] * weight for name, weight in found.weights.items())
        assert found.value == pytest.approx(total / sum(found.weights.values()))


def test_texts_that_are_known_stay_the_same_whatever_is_judged() -> None:
    items, script = items_of(("the cat", "the bat"), ("a dog", "a dog"))
    metric = ErrorRate("wer", Transcripts(script, known=("the cat", "a dog", "an owl")))
    metric(items[:1])
    metric(items)
    # What was heard for one part counts in the next.
    assert script.opened == [("the cat", "a dog", "an owl")] * 2
    assert metric(items).items == {"i0": 0.5, "i1": 0.0}
    assert len(script.opened) == 2


def test_other_texts_are_heard_anew() -> None:
    items, script = items_of(("the cat", "the bat"), ("a dog", "a dog"))
    metric = ErrorRate("wer", Transcripts(script))
    metric(items)
    metric(items[:1])
    assert script.opened == [("the cat", "a dog"), ("the cat",)]


def test_progress_reaches_the_end() -> None:
    items, script = items_of(("the cat", "the bat"), ("a dog", "a dog"))
    calls: list[tuple[str, int, int]] = []
    ErrorRate("wer", Transcripts(script, lambda *call: calls.append(call)))(items)
    assert calls == [("wer", 0, 2), ("wer", 1, 2), ("wer", 2, 2)]


def test_closed_vocabulary_reads_an_engine_and_notices_the_wrong_sentence() -> None:
    said = read(ASSETS / "captain_rms.flac")
    other = "Seven lanterns counted the quiet river, and the captain was old."
    metric: Metric = ErrorRate("wer-closed", Transcripts(Pocketsphinx(closed=True)))
    found = metric([Item(said, TEXT, id="right"), Item(Audio(said.samples.copy(), 16_000), other, id="wrong")])
    assert found.items["right"] <= 1 / 11
    assert found.items["wrong"] > 0.5
    assert "texts judged" in found.backend
