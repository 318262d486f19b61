"""Durations of phones against a reference: hand-made alignments, and recordings slowed down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowtts.alignment import Alignment, PhoneTime
from flowtts.audio.io import read
from flowtts.eval import duration_items
from flowtts.eval.duration_items import DurationError, DurationSpread, PhoneTimes
from flowtts.eval.durations import fdd, ms_mae
from flowtts.text import Analysis
from flowtts.types import Audio, Item, Metric, Score
from flowtts.voice import shipped

VOICES = {
    name: (read(path), path.with_suffix(".txt").read_text(encoding="utf-8").strip())
    for name, path in shipped().items()
    if name in ("slt", "awb")
}


class ByHand:
    """Aligns a recording whose samples are the frames of its phones; pauses before and after last 7 frames."""

    def __init__(self) -> None:
        self.asked = 0

    def align(self, audio: Audio, analysis: Analysis) -> Alignment:
        self.asked += 1
        lengths = iter(audio.samples)
        phones, clock = [], 0.0
        for phone in analysis.phones:
            seconds = 0.07 if phone.word < 0 else float(next(lengths)) / 100
            phones.append(PhoneTime(phone.symbol, phone.word, clock, clock + seconds))
            clock += seconds
        return Alignment((), tuple(phones))


def spoken(*frames: int) -> Audio:
    """At a sampling rate that makes it last as long as its phones and pauses do."""
    return Timed(np.array(frames, "f4"), 16_000, (sum(frames) + 14) / 100)


class Timed(Audio):
    """A recording of a length of its own."""

    def __init__(self, samples: Any, sample_rate: int, seconds: float) -> None:
        super().__init__(samples, sample_rate)
        object.__setattr__(self, "_seconds", seconds)

    @property
    def seconds(self) -> float:
        return float(vars(self)["_seconds"])


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> ByHand:
    aligner = ByHand()
    monkeypatch.setattr(duration_items, "english_aligner", lambda: aligner)
    return aligner


ITEMS = [
    # "cat": K AE T; "a": AH; "mat": M AE T.
    Item(spoken(4, 9, 6), "cat", reference=spoken(5, 12, 6), id="cat"),
    Item(spoken(8), "a", reference=spoken(5), id="a"),
    Item(spoken(3, 20, 10), "mat", reference=spoken(4, 14, 10), id="mat"),
]
PAIRS = [(item.audio.samples, item.reference.samples) for item in ITEMS if item.reference]


def judge(name: str, items: list[Item], times: PhoneTimes | None = None) -> Score:
    times = times or PhoneTimes()
    metric: Metric = DurationError(times) if name == "duration-mae" else DurationSpread(name, times)
    return metric(items)


def padded(side: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(pair[side]) for pair in PAIRS], batch_first=True)


def test_the_error_is_voicebox_s_over_all_phones(by_hand: ByHand) -> None:
    found = judge("duration-mae", ITEMS)
    assert found.items == {"cat": pytest.approx(4 / 3), "a": pytest.approx(3), "mat": pytest.approx(7 / 3)}
    assert found.weights == {"cat": 3, "a": 1, "mat": 3}
    real = padded(1) > 0
    assert found.value == pytest.approx(ms_mae(padded(0), padded(1), real).item()) == pytest.approx(14 / 7)


def test_correlation_is_of_the_mean_durations(by_hand: ByHand) -> None:
    found = judge("duration-corr", ITEMS)
    means = np.array([[side.mean() for side in pair] for pair in PAIRS]).T
    assert found.value == pytest.approx(np.corrcoef(means)[0, 1])
    assert found.items == {} and found.count == 3
    assert -1 <= found.low <= found.value <= found.high <= 1


def test_the_distance_is_of_all_phones(by_hand: ByHand) -> None:
    found = judge("fdd", ITEMS)
    made, reference = (np.concatenate(side) for side in zip(*PAIRS, strict=True))
    assert found.value == pytest.approx((made.mean() - reference.mean()) ** 2 + (made.std() - reference.std()) ** 2)
    assert found.value == pytest.approx(fdd(torch.tensor(made), torch.tensor(reference)).item())
    assert 0 <= found.low <= found.value <= found.high


def test_metrics_share_one_alignment(by_hand: ByHand) -> None:
    times = PhoneTimes()
    for name in ("duration-mae", "duration-corr", "fdd"):
        judge(name, ITEMS, times)
    assert by_hand.asked == 2 * len(ITEMS)


def test_a_set_of_which_nothing_can_be_said(by_hand: ByHand) -> None:
    found = judge("duration-corr", ITEMS[:1])
    assert np.isnan(found.value) and "two recordings" in found.dropped["cat"]
    alike = [Item(spoken(4, 9, 6), "cat", reference=spoken(5, 12, 6), id=str(n)) for n in range(3)]
    assert "differ" in judge("duration-corr", alike).dropped["0"]
    assert judge("fdd", ITEMS[:1]).count == 1
    nothing = judge("fdd", [Item(spoken(8), "a", id="alone")])
    assert np.isnan(nothing.value) and nothing.dropped == {"alone": "it has no reference"}


def test_a_recording_is_as_itself() -> None:
    items = [Item(audio, text, reference=audio, id=name) for name, (audio, text) in VOICES.items()]
    times = PhoneTimes()
    assert judge("duration-mae", items, times).value == 0
    assert judge("fdd", items, times).value == 0
    assert judge("duration-corr", items, times).value == pytest.approx(1)


def test_slower_speech_has_longer_phones() -> None:
    pyworld: Any = pytest.importorskip("pyworld")
    audio, text = VOICES["slt"]
    sound = audio.samples.astype("f8")
    f0, clock = pyworld.dio(sound, 16_000)
    features = (f0, pyworld.cheaptrick(sound, f0, clock, 16_000), pyworld.d4c(sound, f0, clock, 16_000))
    at = np.arange(0, len(f0) - 1, 0.7).astype(int)
    slow = Audio(pyworld.synthesize(*(feature[at] for feature in features), 16_000).astype("f4"), 16_000)
    items, times = [Item(slow, text, reference=audio, id="slow")], PhoneTimes()
    made, reference = times.of(items, "any")[0]["slow"]
    assert (made.sum() / reference.sum()).item() == pytest.approx(1 / 0.7, rel=0.03)
    longer = (made.double() - reference).mean().item()
    assert longer <= judge("duration-mae", items, times).value < 1.2 * longer
    assert judge("fdd", items, times).value > longer**2


def test_what_cannot_be_judged_is_dropped_with_the_reason() -> None:
    audio, text = VOICES["slt"]
    silent = Audio(np.zeros(48_000, "f4"), 16_000)
    items = [
        Item(audio, text, id="alone"),
        Item(silent, text, reference=audio, id="silent"),
        Item(audio, text, reference=silent, id="nothing"),
        Item(Audio(np.zeros(0, "f4"), 16_000), text, reference=audio, id="empty"),
        Item(Audio(audio.samples[:4000], 16_000), text, reference=audio, id="short"),
        Item(audio, "...", reference=audio, id="wordless"),
        Item(audio, text, reference=VOICES["awb"][0], id="another"),
        Item(audio, text, reference=audio, id="fine"),
    ]
    times = PhoneTimes()
    for name in ("duration-mae", "fdd"):
        found = judge(name, items, times)
        assert found.dropped["alone"] == "it has no reference"
        assert found.dropped["silent"].startswith("it cannot be aligned: the recording is silent")
        assert found.dropped["nothing"].startswith("the reference cannot be aligned: the recording is silent")
        assert "silent" in found.dropped["empty"]
        assert "cannot hold its" in found.dropped["short"]
        assert "nothing to say" in found.dropped["wordless"]
        assert "does not fit the recording" in found.dropped["another"]
        assert found.count == 1 and found.value == 0
