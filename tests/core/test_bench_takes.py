"""The benchmarks that draw takes: what the best of N brings, steps of samplers, and runs that were broken off."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_tortoise import tiny_tortoise

import flowtts
from flowtts.audio.io import read
from flowtts.types import Audio, MelSpec, UserError

_BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, _BENCHMARKS)
takes = pytest.importorskip("takes")
candidates = pytest.importorskip("candidates")
steps = pytest.importorskip("diffusion_steps")
charts = pytest.importorskip("charts")
sys.path.remove(_BENCHMARKS)

VOICE = Path(__file__).parents[2] / "flowtts" / "voices" / "rms.flac"
TEXTS = (("a", "This is the sentence of the prompt."), ("b", "Here is a sentence to say aloud."))


# --- the best of N


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_chances_are_those_of_all_sets(size: int) -> None:
    scores = np.array([0.3, 0.9, 0.3, np.nan, 0.1, 0.9])
    counted = np.zeros(6)
    for chosen in itertools.combinations(range(6), size):
        known = [-np.inf if np.isnan(scores[i]) else scores[i] for i in chosen]
        best = [i for i, score in zip(chosen, known, strict=True) if score == max(known)]
        counted[best] += 1 / len(best)
    assert candidates.chosen(scores, size) == pytest.approx(counted / counted.sum())


def test_sizes_out_of_range_are_refused() -> None:
    for size in (0, 4):
        with pytest.raises(ValueError, match=f"best of {size} takes, but there are 3"):
            candidates.chosen(np.zeros(3), size)


def take(closed: int, wrong: int, similar: float | None, clvp: float) -> dict[str, Any]:
    return {"words": 10, "wer-closed": closed, "wer": wrong, "sim-o": similar, "clvp": clvp}


UNITS = [
    candidates.Unit("v", "s", [take(4, 5, 0.5, 1.0), take(0, 1, 0.7, 3.0), take(2, 0, None, 2.0)]),
    candidates.Unit("w", "s", [take(1, 1, 0.9, 0.0), take(1, 1, 0.8, 0.0), take(4, 4, 0.7, 0.0)]),
    candidates.Unit("v", "t", [take(0, 0, 0.6, 2.0), take(3, 3, 0.6, 1.0), take(0, 6, 0.6, 0.0)]),
]


def test_one_take_is_the_mean_and_all_takes_the_best() -> None:
    rows = {(row["ranker"], row["takes"]): row for row in candidates.curve(UNITS, [1, 3])}
    assert set(rows) == {("one take", 1), ("clvp", 3), ("wer", 3), ("sim", 3), ("oracle", 3)}
    one = rows["one take", 1]
    assert one["wer-closed"]["value"] == pytest.approx((6 / 3 + 6 / 3 + 3 / 3) / 30)
    # What cannot be judged does not count: two of three takes of the first.
    assert one["sim-o"]["value"] == pytest.approx((1.2 / 3 + 2.4 / 3 + 0.6) / (2 / 3 + 1 + 1))
    # CLVP takes the second and the first; where all are alike, each a third.
    assert rows["clvp", 3]["wer-closed"]["value"] == pytest.approx((0 + 2 + 0) / 30)
    assert rows["wer", 3]["wer-closed"]["value"] == pytest.approx((2 + 1 + 0) / 30)
    assert rows["oracle", 3]["wer-closed"]["value"] == pytest.approx((0 + 1 + 0) / 30)
    assert rows["oracle", 3]["sim-o"]["value"] == pytest.approx((0.7 + 0.9 + 0.6) / 3)
    assert rows["clvp", 3]["change"]["value"] == pytest.approx((2 - 5) / 30)
    assert one["wer"]["owners"] == 2 and one["wer"]["count"] == 3


def test_more_takes_never_harm_what_decides_between_them() -> None:
    rows = candidates.curve(UNITS, [1, 2, 3])
    for ranker, measure, sign in (("clvp", "clvp", 1), ("wer", "wer", -1), ("oracle", "wer-closed", -1)):
        values = [sign * row[measure]["value"] for row in rows if row["ranker"] in (ranker, "one take")]
        assert values == sorted(values) and len(values) == 3


def test_the_table_marks_what_a_ranker_decides_by() -> None:
    about = {"sentences": 2, "voices": ["v", "w"], "takes": 3, "finished": "90 %", "sampling": "x", "decoding": "y"}
    lines = candidates.markdown(candidates.curve(UNITS, [3]), about).splitlines()
    cells = {line.split(" | ")[0].strip("| "): ["†" in cell for cell in line.split(" | ")[2:]] for line in lines[2:7]}
    assert cells["one take"] == [False] * 5 and cells["oracle"] == [True, False, True, True, True]
    assert cells["wer"] == [False, False, True, False, False] and cells["clvp"][-1] and sum(cells["clvp"]) == 1


# --- what they share


def test_options_may_hold_equals_signs_and_commas() -> None:
    words = ["decoding=temperature=0.7,top_p=0.9", "guidance=2,rescale=0.7", "best_of=4", "rank=clvp", "duration=null"]
    assert takes.options_of(words) == {
        "decoding": "temperature=0.7,top_p=0.9", "guidance": "2,rescale=0.7", "best_of": 4, "rank": "clvp",
        "duration": None,
    }  # fmt: skip
    for wrong in (["steps"], ["=4"], ["steps=4", "steps=5"]):
        with pytest.raises(UserError, match="write each option once, as KEY=VALUE"):
            takes.options_of(wrong)


def test_ratios_weigh_by_their_denominators() -> None:
    found = takes.ratio_by([1.0, 2.0, 5.0, 9.0], [4.0, 6.0, 0.0, 2.0], ["a", "a", "b", "c"])
    assert found["value"] == pytest.approx(12 / 12) and (found["count"], found["owners"]) == (3, 2)
    # Two owners: the interval reaches from the one to the other.
    assert found["low"] == pytest.approx(0.3) and found["high"] == pytest.approx(4.5)
    assert takes.ratio_by([1.0], [0.0], ["a"])["value"] is None
    assert takes.shown("wer", takes.ratio_by([-0.0001], [1.0], ["a"])) == "0.0 [0.0, 0.0]"
    assert takes.shown("sim-o", takes.ratio_by([], [], [])) == "–"


def test_what_is_kept_is_found_again_by_the_same_settings_only(tmp_path: Path) -> None:
    silence = Audio(np.zeros(800, dtype=np.float32), 16_000)
    kept = takes.Kept(tmp_path, {"seed": 0, "texts": [("a", "b")]})
    kept.keep("x/1", silence, {"words": 3})
    again = takes.Kept(tmp_path, {"texts": [("a", "b")], "seed": 0})
    assert again.record("x/1") == {"words": 3} and again.record("x/2") is None
    (tmp_path / "x" / "1.json").write_text('{"words"')
    assert again.record("x/1") is None
    kept.keep("x/1", silence, {"words": 3})
    kept.audio("x/1").unlink()
    assert again.record("x/1") is None
    with pytest.raises(UserError, match="was made with another seed: give another folder"):
        takes.Kept(tmp_path, {"seed": 1, "texts": [("a", "b")]})


@pytest.mark.parametrize(("spec", "decibel"), [(MelSpec(std=2.0), 20.0), (MelSpec(std=2.0, power=2.0), 10.0)])
def test_distances_are_in_decibels(spec: MelSpec, decibel: float) -> None:
    # Ten times the amplitude, or the power, in every other frame.
    reference = torch.zeros(6, 80)
    made = reference.clone()
    made[::2] = math.log(10) / spec.std
    assert steps.distance(made, reference, spec) == pytest.approx(decibel / 2)


def test_a_picture_is_drawn_of_what_is_known(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    known, unknown = {"value": 0.5, "low": 0.4, "high": 0.7}, {"value": None, "low": None, "high": None}
    lines = {"a": [(4.0, known), (2.0, known)], "b": [(2.0, unknown)]}
    panel = charts.Panel("wer", "%", lines, {"across": known, "none": unknown}, 100.0)
    charts.draw(tmp_path, "p", [panel, charts.Panel("mel", "dB", {"b": [(1.0, known)]}, {}, log=True)], "takes")
    svg = (tmp_path / "p.svg").read_bytes()
    assert svg.startswith(b"<?xml") and (tmp_path / "p.png").stat().st_size > 1000
    assert len(charts.COLOURS) == len(charts.MARKS) == len(charts.DASHES)


# --- whole runs of a model of random weights


class Ear:
    """Hears nothing, but differently each time; somebody stops it."""

    def __init__(self, broken_after: int = 1000) -> None:
        self.heard, self._broken_after = 0, broken_after

    def __call__(self, audio: Audio, text: str, voice: Audio) -> dict[str, Any]:
        if self.heard == self._broken_after:
            raise KeyboardInterrupt
        self.heard += 1
        assert audio.seconds > 0 and text == TEXTS[1][1] and voice.seconds > 1
        return {"words": 7, "wer-closed": len(audio.samples) % 5, "wer": len(audio.samples) % 3, "sim-o": 0.5}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tortoise(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def arguments(model: Path, tmp_path: Path) -> Iterator[list[str]]:
    table = tmp_path / "sentences.tsv"
    table.write_text("id\ttext\n" + "".join(f"{name}\t{text}\n" for name, text in TEXTS), encoding="utf-8")
    yield [
        str(tmp_path / "out"), "--sentences", str(table), "--count", "1", "--voices", str(VOICE), "--model", str(model),
        "--vocoder", "griffin-lim", "--device", "cpu", "--engine", "eager",
    ]  # fmt: skip


def test_a_speaker_does_what_say_does(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UserError("no times are wanted")

    monkeypatch.setattr("flowtts.free.english_aligner", refuse)
    tts = flowtts.load(model, "griffin-lim", "cpu", "eager")
    spelled = "max_tokens=12,top_p=0.9"
    said = tts.say(TEXTS[1][1], voice=VOICE, seed=3, steps=3, best_of=3, rank="clvp", decoding=spelled)
    speaker = takes.Speaker(tts, {"seed": 3, "steps": 3, "decoding": spelled})
    voice = speaker.voice(VOICE)
    drawn = speaker.draw(TEXTS[1][1], voice, 3)
    scores = speaker.judge(drawn)
    assert [c.scores["clvp"] for c in said.candidates] == pytest.approx(scores)
    best = int(np.argmax(scores))
    assert drawn.seeds[best] == said.seed
    made = speaker.render(drawn, best, voice)
    np.testing.assert_array_equal(tts.sound(made.features, voice.gain).samples, said.audio.samples)
    with pytest.raises(UserError, match="'best_of' does not concern sampling or decoding"):
        takes.Speaker(tts, {"best_of": 3})


def test_candidates_go_on_and_are_judged_once(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(candidates, "draw", lambda folder, name, panels, label: drawn.append(panels))
    asked = [*arguments, "--takes", "3", "--sizes", "1,3", "--steps", "2", "decoding=max_tokens=8"]
    broken = Ear(broken_after=2)
    with pytest.raises(KeyboardInterrupt):
        candidates.main(asked, broken)
    second = Ear()
    candidates.main(asked, second)
    assert (broken.heard, second.heard) == (2, 1)
    scores = json.loads((tmp_path / "out" / "candidates.json").read_text())
    assert [row["takes"] for row in scores["rows"]] == [1, 3, 3, 3, 3] and scores["settings"]["sampling"]["steps"] == 2
    more = Ear()
    candidates.main([*arguments, "--takes", "4", "--steps", "2", "--sizes", "4", "decoding=max_tokens=8"], more)
    assert more.heard == 1
    again = json.loads((tmp_path / "out" / "candidates.json").read_text())
    assert again["settings"] == scores["settings"] and [row["takes"] for row in again["rows"]] == [1, 4, 4, 4, 4]
    with pytest.raises(UserError, match="was made with another sampling"):
        candidates.main([*arguments, "--takes", "3", "--sizes", "1", "decoding=max_tokens=8"], Ear())
    assert "| one take | 1 |" in (tmp_path / "out" / "candidates.md").read_text()
    assert [panel.title for panel in drawn[0]] == ["wer-closed", "wer", "sim-o", "clvp"]
    assert all([x for x, _ in line] == [1.0, 3.0] for panel in drawn[0] for line in panel.lines.values())


def test_steps_count_calls_and_share_their_codes_and_noise(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(steps, "draw", lambda folder, name, panels, label: drawn.append(panels))
    asked = [*arguments, "--steps", "3", "--reference-steps", "8", "guidance=2", "decoding=max_tokens=8"]
    asked += ["--solvers", "ddim,heun,midpoint"]
    broken = Ear(broken_after=3)
    with pytest.raises(KeyboardInterrupt):
        steps.main(asked, broken)
    second = Ear()
    steps.main(asked, second)
    assert (broken.heard, second.heard) == (3, 2)
    rows = {row["label"]: row for row in json.loads((tmp_path / "out" / "steps.json").read_text())["rows"]}
    # The last of the steps is one evaluation whatever the sampler; guidance makes two calls of each.
    assert {name: row["calls"] for name, row in rows.items()} == {
        "reference": 16, "ddim": 6, "heun": 10, "midpoint": 10, "other noise": 6,
    }  # fmt: skip
    assert rows["reference"]["mel"]["value"] == 0
    assert all(0 < rows[name]["mel"]["value"] < rows["other noise"]["mel"]["value"] for name in ("ddim", "midpoint"))
    lengths = {len(read(path).samples) for path in (tmp_path / "out" / "takes").glob("*/*.flac")}
    assert len(lengths) == 1
    (tmp_path / "out" / "takes" / "rms-b" / "reference.safetensors").unlink()
    third = Ear()
    steps.main(asked, third)
    assert third.heard == 1
    assert [list(panel.across) for panel in drawn[0]] == [["reference (dpm++2m, 16 calls)"]] * 3 + [
        ["other noise (dpm++2m, 6 calls)"]
    ]
    assert drawn[0][-1].lines.keys() == {"ddim", "heun", "midpoint"} and drawn[0][-1].log
    with pytest.raises(UserError, match="give --solvers and --steps"):
        steps.main([*asked, "solver=ddim"], Ear())


def test_a_model_that_draws_nothing_is_refused() -> None:
    class Timed:
        name, recipe = "voicebox", object()

    with pytest.raises(UserError, match="the model voicebox draws no takes"):
        takes.Speaker(Timed(), {})
