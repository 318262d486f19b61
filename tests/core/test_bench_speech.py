"""The benchmark that scores how models speak: times without a cold start, runs that go on, rows side by side."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flowtts.audio.io import read, write
from flowtts.types import VOICEBOX_MEL, Audio, UserError

_BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, _BENCHMARKS)
speech = pytest.importorskip("speech")
takes = pytest.importorskip("takes")
sys.path.remove(_BENCHMARKS)

RATE = 16_000


def tone(seconds: float) -> Audio:
    return Audio(np.full(round(seconds * RATE), 0.1, dtype=np.float32), RATE)


@dataclass
class Model:
    """Speaks for two seconds, for which it needs one, and ten more for everything that it does for the first time."""

    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    now: float = 0.0
    broken_after: int = 100

    def _first(self, what: str) -> None:
        self.now += 0.0 if what in self.known else 10.0
        self.known.add(what)

    def say(self, text: str, voice: Path, voice_text: str | None, **options: Any) -> Any:
        if len(self.asked) == self.broken_after:
            raise KeyboardInterrupt
        self._first("loading")
        self._first(str(voice))
        self.now += 1.0
        self.asked.append((text, {"voice_text": voice_text, **options}))
        return SimpleNamespace(audio=tone(2.0), seed=7, network_calls=3)

    def plan(self, text: str, voice: Path, voice_text: str | None, **options: Any) -> None:
        self._first(str(voice))


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    made = Model()
    monkeypatch.setattr(speech.time, "perf_counter", lambda: made.now)
    monkeypatch.setattr(speech.time, "process_time", lambda: 2 * made.now)
    return made


def tasks() -> list[Any]:
    named = [("rms", "a"), ("rms", "b"), ("slt", "a")]
    return [speech.Task(f"{v}-{n}", f"text {n}", Path(f"{v}.flac"), "prompt", tone(1.0)) for v, n in named]


def test_real_time_factors_leave_the_cold_start_out(model: Model, tmp_path: Path) -> None:
    options = {"best_of": 4, "decoding": "top_p=0.9"}
    items, factors = speech.spoken(model, tasks(), takes.Kept(tmp_path, {}), options)
    assert (factors["wall"]["value"], factors["cpu"]["value"]) == (0.5, 1.0)
    assert factors["wall"]["low"] == factors["wall"]["high"] == 0.5 and factors["wall"]["count"] == 3
    # The first is said once for nothing.
    assert [text for text, _ in model.asked] == ["text a", "text a", "text b", "text a"]
    assert all(given == {"voice_text": "prompt", **options} for _, given in model.asked)
    assert [item.id for item in items] == ["rms-a", "rms-b", "slt-a"] and items[0].prompt is not None


def test_a_broken_run_goes_on(model: Model, tmp_path: Path) -> None:
    model.broken_after = 3
    with pytest.raises(KeyboardInterrupt):
        speech.spoken(model, tasks(), takes.Kept(tmp_path, {}), {})
    model.broken_after = 100
    items, factors = speech.spoken(model, tasks(), takes.Kept(tmp_path, {}), {})
    assert [text for text, _ in model.asked] == ["text a", "text a", "text b", "text a", "text a"]
    assert len(items) == 3 and factors["wall"]["value"] == 0.5
    speech.spoken(model, tasks(), takes.Kept(tmp_path, {}), {})
    assert len(model.asked) == 5
    with pytest.raises(UserError, match="made with another options"):
        takes.Kept(tmp_path, {"options": {}})


def test_references_that_are_known_are_not_made_again(tmp_path: Path) -> None:
    class Vocoder:
        name = "copier"

        def decode(self, features: Any) -> Any:
            return features.new_zeros(1, RATE)

    tts = SimpleNamespace(vocoder=Vocoder(), spec=VOICEBOX_MEL)
    said = [speech.Task("a", "text", Path("v"), None, tone(1.0), tone(1.5))]
    made = dict(speech.references(tts, said, tmp_path, []))
    assert list(made) == ["copy-synthesis by copier", "engine"]
    assert len(made["engine"][0].audio.samples) == 1.5 * RATE
    assert not made["copy-synthesis by copier"][0].audio.samples.any()
    assert len(read(tmp_path / "engine" / "a.flac").samples) == 1.5 * RATE
    assert list(dict(speech.references(tts, said, tmp_path, ["copy-synthesis by copier"]))) == ["engine"]


def test_readers_are_those_held_out(tmp_path: Path) -> None:
    for name, seconds in (("3-1", 9.0), ("11-1", 8.5), ("4-1", 9.0), ("19-1", 2.0)):
        write(tmp_path / f"{name}.ogg", tone(seconds))
    found = speech.held_out(tmp_path, 5)
    assert [path.stem for path in found] == ["11-1", "3-1"]
    assert [path.stem for path in speech.held_out(tmp_path, 1)] == ["11-1"]
    first, second = speech.halves(read(found[0]))
    assert len(first.samples) + len(second.samples) == 8.5 * RATE and abs(first.seconds - second.seconds) < 0.01
    made = speech.readers(tmp_path, [("a", "text a"), ("b", "text b")], 5)
    assert [task.id for task in made] == ["11-1-a", "11-1-b", "3-1-a", "3-1-b"]
    assert all(task.voice_text is None and task.against.seconds < 5 for task in made)
    bounds = speech.bounds(found)
    assert [item.id for item in bounds["same speaker"]] == ["11-1", "3-1"]
    assert bounds["different speaker"][0].audio.seconds == pytest.approx(9.0, abs=0.01)
    with pytest.raises(UserError, match="holds no recording"):
        speech.held_out(tmp_path / "none", 5)


def test_models_stand_side_by_side() -> None:
    figure = {"value": 0.125, "low": 0.1, "high": 0.15, "count": 3}
    row = {name: figure for name in speech.METRICS}
    made = speech.markdown({"tortoise": {**row, "rtf": {"wall": figure, "cpu": figure}}, "engine": row})
    lines = made.splitlines()
    assert "| tortoise | 12.5 [10.0, 15.0] | 12.5 [10.0, 15.0] | 0.125 [0.100, 0.150] | 0.125 " in lines[2]
    assert lines[3].endswith("| – | – |")


@pytest.mark.parametrize("name", ["engine", "a/b", "same speaker"])
def test_names_that_mean_something_else_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speech.parse(["engines", "out", "--sentences", "s.tsv", "--name", name])
    assert "is taken, or no name for a folder" in capsys.readouterr().err


def test_the_name_is_the_models_and_options_come_last() -> None:
    made = speech.parse(
        ["engines", "out", "--sentences", "s.tsv", "--model", "x/small", "best_of=4", "decoding=top_p=1"]
    )
    assert made.name == "small" and takes.options_of(made.options) == {"best_of": 4, "decoding": "top_p=1"}
