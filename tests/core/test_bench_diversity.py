"""The diversity benchmark on a made-up sampler whose spread is known."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from flowtts.audio.io import read
from flowtts.speech import Chunk, Plan, Speech
from flowtts.types import Audio, Phone, UserError

_BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, _BENCHMARKS)
diversity = pytest.importorskip("diversity")
sys.path.remove(_BENCHMARKS)

VOICES = Path(__file__).parents[2] / "flowtts" / "voices"
PHONES = (Phone("SIL", -1, 0, 0), Phone("AH0_B", 0, 0, 2), Phone("T_E", 0, 0, 2))


class Sampler:
    """Says everything in the shipped voices' recordings; "flow" makes each sample slower than the one before."""

    def __init__(self, refuse: str = "") -> None:
        self.refuse, self.calls = refuse, 0

    def sample(self, text: str, n: int, durations: str = "regression", **options: object) -> list[Speech]:
        self.calls += 1
        if text == self.refuse:
            raise UserError("there is nothing to say")
        made = []
        for number in range(n):
            voice = ("rms", "slt", "awb")[number % 3]
            frames = (7, 10 + number, 20) if durations == "flow" else (7, 10, 20)
            plan = Plan((Chunk(text, text, PHONES, ("at",), frames),), 100.0, {})
            audio = read(VOICES / f"{voice}.flac").mono()
            made.append(
                Speech(Audio(audio.samples[: 3 * audio.sample_rate], audio.sample_rate), plan, number, 1, 1, 1.0)
            )
        return made


TEXTS = [("one", "at"), ("two", "nothing")]


def test_making_resumes_and_counts_refusals(tmp_path: Path) -> None:
    tts = Sampler(refuse="nothing")
    samples, dropped = diversity.make(tts, tmp_path, "flow", TEXTS, 3, {})
    assert [s.name for s in samples] == ["one/000", "one/001", "one/002"]
    assert dropped == {"flow/two": "there is nothing to say"} and tts.calls == 2
    again = Sampler()
    assert len(diversity.make(again, tmp_path, "flow", TEXTS[:1], 3, {})[0]) == 3 and again.calls == 0
    # A recording without its sidecar was cut off while it was written.
    (tmp_path / "flow" / "one" / "001.json").unlink()
    diversity.make(again, tmp_path, "flow", TEXTS[:1], 3, {})
    assert again.calls == 1


def test_spreads_are_those_of_the_durations_pauses_left_out(tmp_path: Path) -> None:
    flow, _ = diversity.make(Sampler(), tmp_path, "flow", TEXTS[:1], 3, {})
    same, _ = diversity.make(Sampler(), tmp_path, "regression", TEXTS[:1], 3, {})
    assert diversity.rate_spread(same) == pytest.approx(0, abs=1e-9)
    assert diversity.phone_spread(same) == pytest.approx(0, abs=1e-9)
    rates = np.array([2 / 0.30, 2 / 0.31, 2 / 0.32])
    assert [s.rate for s in flow] == pytest.approx(rates)
    assert diversity.rate_spread(flow) == pytest.approx(100 * rates.std(ddof=1) / rates.mean())
    assert diversity.phone_spread(flow) > 1


def test_scores_have_both_kinds_and_the_recordings(tmp_path: Path) -> None:
    real = diversity.recordings(VOICES, 6)
    assert len(real) == 6
    scores: dict = {"texts": 1, "each": 3, "real": len(real), "dropped": {}}
    for kind in ("regression", "flow"):
        samples, _ = diversity.make(Sampler(), tmp_path, kind, TEXTS[:1], 3, {})
        scores[kind] = diversity.judge(samples, real, ["fsd"])
    scores["recordings"] = diversity.baseline(real, ["fsd"])
    # The samples are recordings of three people; the audio of both kinds is the same.
    name = "similarity of speakers within a text"
    assert scores["flow"][name]["value"] == scores["regression"][name]["value"] < 0.9
    assert scores["flow"]["fsd"]["count"] == scores["recordings"]["fsd"]["count"] == 3
    made = "\n".join(diversity.markdown(scores))
    assert "| fsd |" in made and "| recordings |" in made
    json.dumps(scores, allow_nan=False)


def test_as_many_samples_as_references_compete() -> None:
    audios = [Audio(np.full(10, i / 10, dtype=np.float32), 16000) for i in range(8)]
    items = diversity.against(audios, audios[:6])
    assert [float(i.audio.samples[0]) for i in items] == pytest.approx([0.0, 0.4, 0.7])
    assert [i.reference for i in items] == audios[3:6]
    assert len(diversity.against(audios[:2], audios)) == 2


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no recording"):
        diversity.recordings(tmp_path, 3)
    with pytest.raises(UserError, match="cannot read"):
        diversity.sentences(tmp_path / "none.tsv", 3)
    (tmp_path / "s.tsv").write_text("id\ttext\na\tshort\n")
    with pytest.raises(UserError, match="no sentence"):
        diversity.sentences(tmp_path / "s.tsv", 3)
