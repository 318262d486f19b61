"""The pure parts of the benchmarks of peers: turns, ratios, and that every sampler makes the calls it says."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flowtts.nn import TransformerConfig
from flowtts.recipes.voicebox import AudioConfig
from flowtts.solve import guided

_BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, _BENCHMARKS)
timing = pytest.importorskip("peers_timing")
imports = pytest.importorskip("peers_imports")
networks = pytest.importorskip("peers_networks")
samplers = pytest.importorskip("peers_samplers")
overhead = pytest.importorskip("overhead")
peers = pytest.importorskip("peers")
sys.path.remove(_BENCHMARKS)

CPU = torch.device("cpu")
BODY = TransformerConfig(layers=2, heads=1, width=64, ffn=96, position_kernel=3)
TINY = AudioConfig(body=BODY, symbols=9, text_width=8, frames_per_token=2)


class Clock:
    """Time that passes only when told; everything takes ``slow`` times as long."""

    def __init__(self) -> None:
        self.now, self.slow = 0.0, 1.0

    def __call__(self) -> float:
        return self.now

    def working(self, seconds: float, work: int = 1) -> Callable[[], int]:
        def run() -> int:
            self.now += seconds * self.slow
            return work

        return run


def runner(clock: Clock, name: str, seconds: float, work: int = 1) -> Any:
    return timing.Contestant(name, clock.working(seconds, work))


def test_ratios_do_not_feel_a_machine_that_slows_down() -> None:
    clock = Clock()
    race = timing.Race("r", [runner(clock, "base", 2.0, 4), runner(clock, "other", 3.0, 3), runner(clock, "same", 0.5)])
    for slow in (1.0, 5.0, 2.0):
        clock.slow = slow
        race.turn(clock)
    ratios = race.ratios()
    # Per unit of work: 0.5, 1 and 0.5 seconds.
    assert {name: found["value"] for name, found in ratios.items()} == {"base": 1.0, "other": 2.0, "same": 1.0}
    assert ratios["other"]["low"] == ratios["other"]["high"] == 2.0 and ratios["other"]["count"] == 3
    assert race.ratios("other")["base"]["value"] == 0.5
    assert race.spent == pytest.approx(5.5 * 8)


def test_spread_is_the_median_with_the_range() -> None:
    assert timing.spread([3.0, 1.0, 2.0, 10.0]) == {"value": 2.5, "low": 1.0, "high": 10.0, "count": 4}


def test_everybody_runs_once_a_turn_in_changing_places() -> None:
    clock = Clock()
    entered = [runner(clock, name, 1.0) for name in "abc"]
    turns = [[c.name for c in timing.order(entered, turn)] for turn in range(6)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert turns[0] == ["a", "b", "c"] and len({tuple(turn) for turn in turns}) > 3
    assert {turn[0] for turn in turns} == {"a", "b", "c"}


def test_the_work_of_a_sampler_is_what_is_not_inside_the_network() -> None:
    clock = Clock()
    watch = timing.Stopwatch(clock)

    def sampler(steps: int) -> int:
        for _ in range(steps):
            watch(lambda: clock.working(2.0)())
        clock.now += 1.0
        return steps

    entered = samplers.contestant("s", sampler, 4, watch, nullcontext)
    race = timing.Race("r", [entered])
    race.turn(clock)
    race.turn(clock)
    assert race.overheads()["s"]["value"] == pytest.approx(9 / 8) and race.overheads()["s"]["count"] == 2
    # Warming up took two steps before the first turn and belongs to no turn.
    assert race.spent == pytest.approx(5 + 9 + 9) and race.count == 2
    assert samplers.contestant("s", sampler, 4, None, nullcontext).inside is None


def test_races_share_the_time_and_each_has_a_turn() -> None:
    clock = Clock()
    cheap, dear = (timing.Race(name, [runner(clock, name, s)]) for name, s in (("cheap", 1.0), ("dear", 10.0)))
    lines: list[str] = []
    timing.compete([cheap, dear], 40 / 60, 100, clock, report=lines.append)
    assert dear.count >= 1 and abs(cheap.spent - dear.spent) <= 11 and clock.now <= 51
    assert lines[0] == "cheap: turn 1" and len(lines) == cheap.count + dear.count
    # Even without any time everyone runs once; and no race goes on for ever.
    late, short = (timing.Race(name, [runner(clock, name, 1.0)]) for name in ("late", "short"))
    timing.compete([late, short], 0.0, 100, clock)
    assert late.count == short.count == 1
    timing.compete([late, short], 1e9, 3, clock)
    assert late.count == short.count == 3


def test_two_of_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        timing.Race("r", [runner(Clock(), "a", 1.0), runner(Clock(), "a", 2.0)])


def test_an_absent_peer_is_told_in_one_line() -> None:
    with pytest.raises(imports.Absent, match=r"^no_such_peer is left out: ModuleNotFoundError: ") as raised:
        imports.peer("no_such_peer.part")
    assert "\n" not in str(raised.value)
    assert imports.peer("json") is json


def test_an_empty_module_has_classes_only() -> None:
    empty = imports._Empty("empty")
    assert isinstance(empty.Anything, type) and empty.Anything is empty.Anything
    with pytest.raises(AttributeError):
        empty.__wrapped__  # noqa: B018


@pytest.mark.parametrize("count", [150_000, 17_500_000, 30_000_000])
def test_a_resized_network_has_the_wanted_parameters(count: int) -> None:
    base = TINY if count < 1_000_000 else networks.shipped()
    made = networks.resized(base, count)
    assert abs(networks.size(made) - count) <= 2 * made.body.layers * made.body.width
    assert made.body.width % 64 == 0 and made.body.heads == made.body.width // 64
    assert replace(made, body=base.body) == base and made.body.layers == base.body.layers


class Counting:
    """A tiny Voicebox that counts its calls and how many items each had."""

    def __init__(self) -> None:
        self.network, self.items = networks.voicebox(TINY, CPU), Counter[int]()

    def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        assert len(x) == len(t) == len(cond.keep)
        self.items[len(x)] += 1
        made: torch.Tensor = self.network(x, t, cond)
        return made

    def prepare(self, cond: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        ready = self.network.prepare(cond)

        def call(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            self.items[len(cond.keep)] += 1
            return ready(t, x)

        return call


def job(scale: float, batch: int = 2) -> tuple[Any, Counting]:
    counting = Counting()
    cond = networks.condition(TINY, batch, 30, 6, CPU)
    return samplers.Job(samplers.Timed(counting, timing.Stopwatch()), cond, networks.noise(cond), scale), counting


ENTRIES = {name: build for name, build in (overhead.CORE | overhead.OTHERS).items() if "F5" not in name}


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("name", ENTRIES)
def test_a_sampler_makes_the_calls_it_says(name: str, scale: float) -> None:
    task, counting = job(scale)
    with torch.inference_mode():
        try:
            sampler = ENTRIES[name](task)
        except imports.Absent:
            pytest.skip(f"{name} is not installed")
        made = sampler(8)
    assert made == (7 if "Heun" in name else 8)
    apart = name.startswith("voicebox-pytorch")
    assert counting.items == ({4: made} if scale != 1 and not apart else {2: made * (2 if scale != 1 else 1)})


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_field_by_hand_is_ours(scale: float) -> None:
    task, _ = job(scale)
    with torch.inference_mode():
        by_hand = task.velocity()(torch.tensor(0.3), task.noise)
        t = torch.tensor(0.3, dtype=torch.float64)
        torch.testing.assert_close(guided(task.network, task.cond, scale)(t, task.noise), by_hand)
        torch.testing.assert_close(guided(task.network.plain, task.cond, scale)(t, task.noise), by_hand)


def test_a_converted_network_is_given_its_own_dtype() -> None:
    task, _ = job(2.0)
    halved = samplers.Timed(task.network.network.network.to(torch.bfloat16), timing.Stopwatch(), torch.bfloat16)
    with torch.inference_mode():
        made = halved.plain(task.noise, torch.full((2,), 0.5), task.cond)
    assert made.dtype == torch.float32 and bool(made.isfinite().all()) and halved.watch.seconds > 0


def test_conditions_have_a_prompt_at_their_beginning() -> None:
    cond = networks.condition(TINY, 3, 21, 5, CPU)
    assert cond.text.shape == (3, 21) and int(cond.text.min()) >= 1 and int(cond.text.max()) < TINY.symbols
    assert cond.known.sum(1).tolist() == [5, 5, 5] and bool(cond.mask.all()) and cond.keep.tolist() == [True] * 3
    assert bool((cond.prompt[:, 5:] == 0).all()) and bool((cond.prompt[:, :5] != 0).all())


def test_overhead_writes_what_it_prints(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(networks, "shipped", lambda: TINY)
    monkeypatch.setattr(networks, "dit", lambda *_: (_ for _ in ()).throw(imports.Absent("f5_tts is left out: absent")))
    keep = {name: overhead.CORE[name] for name in ("bare calls", "flowtts euler", "torchdiffeq euler")}
    monkeypatch.setattr(overhead, "CORE", keep)
    monkeypatch.setattr(overhead, "OTHERS", {"bare calls": keep["bare calls"]})
    before = torch.get_num_threads()
    overhead.main(
        [str(tmp_path / "o.json"), "--threads", str(before), "--minutes", "0", "--seconds", "0.2", "--prompt", "0.1",
         "--steps", "2", "--larger", "300000", "--batches", "1", "2"]
    )  # fmt: skip
    found, printed = json.loads((tmp_path / "o.json").read_text()), capsys.readouterr().out
    assert len(found["races"]) == 2 * 2 * 2 + 1 and found["absent"] == ["f5_tts is left out: absent"]
    for name, entry in found["races"].items():
        assert entry["ratio"]["bare calls"]["value"] == 1 and f"| {name} | bare calls | 1.000" in printed
        assert all(figure["value"] >= 1 for figure in entry["overhead"].values())
    assert str(torch.__version__).startswith(found["machine"]["versions"]["torch"].partition("+")[0])
    assert found["settings"]["batched_steps"] == 2 and found["machine"]["threads"] == before


def test_a_path_that_makes_another_length_is_refused() -> None:
    made = SimpleNamespace(seconds=8.05)
    assert peers.once(lambda: made, 8.0) == 1
    with pytest.raises(ValueError, match=r"asked for 9.0 s of audio, got 8.05"):
        peers.once(lambda: made, 9.0)
