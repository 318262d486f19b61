"""Speaking rate, pauses and level on sounds whose prosody is known, and on recordings."""

from __future__ import annotations

import numpy as np
import pytest

from flowtts.audio.io import read
from flowtts.eval.prosody import ERRORS, PLAIN, PlainProsody, ProsodyError, prosody
from flowtts.text import FrontEnd
from flowtts.types import Audio, Item, Metric
from flowtts.voice import shipped

RATE = 16_000
TEXT = "A banana."
"""Four syllables."""


def bursts(*seconds: float, amplitude: float = 0.5) -> Audio:
    """A sine of 200 Hz and silence by turns, beginning with silence."""
    parts = []
    for turn, length in enumerate(seconds):
        times = np.arange(round(length * RATE)) / RATE
        parts.append(amplitude * (turn % 2) * np.sin(2 * np.pi * 200 * times))
    return Audio(np.concatenate(parts).astype("f4"), RATE)


def metrics() -> list[Metric]:
    return [*(PlainProsody(name) for name in PLAIN), *(ProsodyError(name) for name in ERRORS)]


def values(audio: Audio, reference: Audio | None = None, text: str = TEXT) -> dict[str, float]:
    item = Item(audio, text, reference=reference, id="it")
    return {metric.name: metric([item]).items["it"] for metric in metrics() if reference or metric.name in PLAIN}


def test_prosody_of_bursts() -> None:
    # 1 s and 0.6 s of sound around a pause of 0.4 s; a gap of 0.1 s in the second is no pause.
    found = values(bursts(0.5, 1.0, 0.4, 0.2, 0.1, 0.3, 0.7))
    assert found["rate"] == pytest.approx(4 / 1.6)
    assert found["pauses"] == pytest.approx(0.4 / 2.0)
    assert found["energy"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.05)


@pytest.mark.parametrize(("gap", "paused"), [(0.18, 0.0), (0.2, 0.2)])
def test_a_pause_has_at_least_a_fifth_of_a_second(gap: float, paused: float) -> None:
    assert prosody(bursts(0.1, 0.5, gap, 0.5)).pauses == pytest.approx(paused)


def test_errors_are_differences_from_the_reference() -> None:
    reference = bursts(0.1, 0.8, 0.2, 0.8, 0.1)
    found = values(bursts(0.3, 0.4, 0.6, 0.6, 0.3, amplitude=0.25), reference)
    assert found["rate-error"] == pytest.approx(1.6 / 1.0 - 1)
    assert found["pause-error"] == pytest.approx(0.6 / 1.6 - 0.2 / 1.8)
    assert found["energy-error"] == pytest.approx(20 * np.log10(2), abs=0.05)
    same = values(reference, reference)
    assert [same[name] for name in ERRORS] == [0, 0, 0]


def test_too_slow_is_an_error_as_too_fast_is() -> None:
    reference, slow = bursts(0.1, 1.0, 0.1), bursts(0.1, 2.0, 0.1)
    assert values(slow, reference)["rate-error"] == pytest.approx(0.5)
    assert values(reference, slow)["rate-error"] == pytest.approx(1.0)


def test_syllables_are_those_that_are_read() -> None:
    second = bursts(0.1, 1.0, 0.1)
    # "nineteen eighty-four"; "doctor"; "the" twice.
    for text, syllables in (("1984", 5), ("Dr. Brown", 3), ("The cat sat on the mat.", 6)):
        assert values(second, text=text)["rate"] == pytest.approx(syllables)


def test_people_speak_as_people_do() -> None:
    front_end = FrontEnd()
    for name, path in shipped().items():
        audio, text = read(path), path.with_suffix(".txt").read_text(encoding="utf-8")
        found = values(audio, text=text)
        assert 2 < found["rate"] < 7, name
        assert found["rate"] == pytest.approx(
            sum(phone[-1].isdigit() for word in front_end.analyse(text).words for phone in word.phones)
            / (prosody(audio).seconds - prosody(audio).pauses)
        )


def test_the_pause_between_two_sentences_is_found() -> None:
    reader = read(shipped()["reader-f"])
    # By forced alignment, 3.56 to 4.16 s of the 0.22 to 6.66 s in which she speaks.
    assert prosody(reader).pauses == pytest.approx(0.6, abs=0.12)
    assert prosody(reader).seconds == pytest.approx(6.44, abs=0.2)


def test_little_noise_changes_little() -> None:
    reader = read(shipped()["reader-f"])
    noise = np.random.default_rng(0).standard_normal(len(reader.samples))
    noise *= np.sqrt(np.mean(np.square(reader.samples)) / 100)
    found = values(Audio((reader.samples + noise).astype("f4"), RATE), reader)
    assert found["rate-error"] < 0.02 and found["pause-error"] < 0.02 and found["energy-error"] < 1


def test_what_cannot_be_judged_is_dropped_with_the_reason() -> None:
    fine = bursts(0.1, 1.0, 0.1)
    silent = Audio(np.zeros(RATE, "f4"), RATE)
    click = np.zeros(RATE + 100, "f4")
    click[-1] = 0.5
    items = [
        Item(silent, TEXT, reference=fine, id="silent"),
        Item(Audio(np.zeros(0, "f4"), RATE), TEXT, reference=fine, id="empty"),
        Item(Audio(np.full(RATE, np.nan, "f4"), RATE), TEXT, reference=fine, id="broken"),
        Item(Audio(click, RATE), TEXT, reference=fine, id="click"),
        Item(fine, "...", reference=silent, id="wordless"),
        Item(fine, "{S T}", id="toneless"),
        Item(fine, TEXT, reference=fine, id="fine"),
    ]
    for metric in metrics():
        found = metric(items)
        assert found.dropped["silent"] == "the audio is silent"
        assert found.dropped["empty"] == "the audio is shorter than 0.1 s"
        assert "NaN" in found.dropped["broken"]
        assert found.dropped["click"] == "the audio is silent but for its last 0.02 s"
        if metric.name == "rate":
            assert "nothing to say" in found.dropped["wordless"]
            assert found.dropped["toneless"] == "its text has no syllable"
        if metric.name in ERRORS:
            assert found.dropped["wordless"] == "the reference is silent"
            assert found.dropped["toneless"] == "it has no reference"
        assert list(found.items)[-1] == "fine"
        assert np.isfinite(list(found.items.values())).all() and np.isfinite(found.value)
        assert found.count + len(found.dropped) == len(items)
