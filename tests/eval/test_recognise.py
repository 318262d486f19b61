"""The pocketsphinx recogniser and its closed language model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from flowtts.audio.io import read, resample
from flowtts.recognise import PocketsphinxRecogniser, bigram_arpa, spoken_words
from flowtts.types import Audio, UserError

TEXT = "The old captain counted seven lanterns, and the river was quiet."
WORDS = "the old captain counted seven lanterns and the river was quiet"
ASSETS = Path(__file__).parent / "assets"


@pytest.fixture(scope="module")
def closed() -> PocketsphinxRecogniser:
    sentences = [TEXT, "A quick zorvanth lived by the Quelmire in 1999."]
    return PocketsphinxRecogniser(sentences, lambda word: ("Z", "AO1", "R", "V", "AE0", "N", "TH"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don’t stop, Mr. Brown!", "don't stop mister brown"),
        ("twenty-five CAFÉS", "twenty five cafes"),
        ("", ""),
        (" … !", ""),
        ("'tis the ladies' hour", "tis the ladies hour"),
        ("st no in us i", "st no in us i"),
    ],
)
def test_spoken_words(text: str, words: str) -> None:
    assert " ".join(spoken_words(text)) == words
    assert spoken_words(words) == words.split()


def test_bigram_model_is_a_distribution_in_every_context() -> None:
    sentences = [["a", "b", "a", "c"], ["b", "b"], ["c"]]
    blocks = bigram_arpa(sentences).split("\\")
    unigrams, back_offs, bigrams = {}, {}, {}
    for line in blocks[3].splitlines()[1:]:
        if line:
            logp, word, back_off = line.split()
            unigrams[word], back_offs[word] = 10 ** float(logp), 10 ** float(back_off)
    for line in blocks[4].splitlines()[1:]:
        if line:
            logp, first, second = line.split()
            bigrams[first, second] = 10 ** float(logp)
    assert set(unigrams) == {"<s>", "</s>", "a", "b", "c"}
    outcomes = ["a", "b", "c", "</s>"]
    assert sum(unigrams[word] for word in outcomes) == pytest.approx(1, abs=1e-3)
    # Half of c's one successor, </s>, is discounted; a's successors b and c have 1 of 2 occurrences each.
    assert bigrams["c", "</s>"] == pytest.approx(0.5, abs=1e-3)
    assert bigrams["a", "b"] == pytest.approx(0.25, abs=1e-3)
    for context in ("<s>", "a", "b", "c"):
        total = sum(bigrams.get((context, word), back_offs[context] * unigrams[word]) for word in outcomes)
        assert total == pytest.approx(1, abs=2e-3), context


def test_bigram_model_of_one_sentence_has_finite_numbers() -> None:
    numbers = [line.split() for line in bigram_arpa([["yes"]]).splitlines() if line and line[0] in "-0"]
    assert all(math.isfinite(float(line[0])) for line in numbers)
    with pytest.raises(ValueError, match="discount"):
        bigram_arpa([["yes"]], 1.0)


def test_closed_vocabulary_hears_the_sentence_at_any_rate_level_and_channels(closed: PocketsphinxRecogniser) -> None:
    audio = read(ASSETS / "captain_rms.flac")
    assert closed.transcribe(audio) == WORDS
    loud = resample(audio, 44_100).samples * np.float32(0.3)
    assert closed.transcribe(Audio(np.stack([loud, loud], axis=1), 44_100)) == WORDS


def test_transcripts_do_not_depend_on_what_came_before(closed: PocketsphinxRecogniser) -> None:
    first, second = read(ASSETS / "captain_rms.flac"), read(ASSETS / "captain_slt.flac")
    noisy = Audio(second.samples + np.random.default_rng(0).normal(0, 0.02, len(second.samples)).astype("f4"), 16_000)
    alone = closed.transcribe(noisy)
    closed.transcribe(first)
    assert closed.transcribe(noisy) == alone


def test_unknown_words_are_taught(closed: PocketsphinxRecogniser) -> None:
    # A name that no dictionary holds, spoken here by the word whose phones it is given.
    audio = read(ASSETS / "captain_rms.flac")
    phones = {"kaptn": ("K", "AE1", "P", "T", "AH0", "N")}
    taught = PocketsphinxRecogniser([TEXT.replace("captain", "kaptn")], phones.__getitem__)
    assert taught.transcribe(audio) == WORDS.replace("captain", "kaptn")


def test_words_that_cannot_be_said_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(word: str) -> tuple[str, ...]:
        raise UserError(f"cannot pronounce {word}")

    kept = PocketsphinxRecogniser([TEXT, "qqxz"], refuse)
    assert "qqxz" in caplog.text
    assert kept.transcribe(read(ASSETS / "captain_rms.flac")) == WORDS


def test_default_pronunciations_come_from_the_front_end() -> None:
    audio = read(ASSETS / "captain_rms.flac")
    assert PocketsphinxRecogniser([TEXT, "Mirobelix zorvanths"]).transcribe(audio) == WORDS


def test_open_vocabulary_hears_most_of_an_engine() -> None:
    recogniser = PocketsphinxRecogniser()
    heard = recogniser.transcribe(read(ASSETS / "captain_rms.flac")).split()
    assert len(set(heard) & set(WORDS.split())) >= 6
    assert "pocketsphinx" in recogniser.backend


@pytest.mark.parametrize("count", [0, 1, 500, 16_000])
def test_silence_and_scraps_are_nothing(closed: PocketsphinxRecogniser, count: int) -> None:
    assert closed.transcribe(Audio(np.zeros(count, np.float32), 16_000)) == ""


def test_no_words_to_expect() -> None:
    with pytest.raises(UserError, match="closed vocabulary"):
        PocketsphinxRecogniser(["...", ""])
