"""Paired timing: contestants take turns, and only ratios within one turn are kept.

Whatever else the machine does slows neighbours in time alike, so that a ratio within a turn means something where
seconds do not. Every turn runs all contestants once, each time in another order; a figure is the median of the ratios
of all turns, with their range.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowtts.engine import Engine

Clock = Callable[[], float]
"""Seconds since some moment."""

CLOCKS: Mapping[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}
"""Seconds as they pass, and seconds of this process alone: on a busy machine, with one thread, only these mean much."""

_PACKAGES = ("torch", "flowtts", "f5-tts", "vocos", "torchdiffeq", "diffusers", "voicebox-pytorch", "numpy")


@dataclass(frozen=True, eq=False)
class Contestant:
    """Something to be timed.

    Attributes:
        name: as the table calls it.
        run: does the work and returns its size, by which its time is divided: calls of a network, or 1.
        inside: seconds of the last run that were spent inside the network, where somebody measures it.
        warm: a short run before the first turn.
    """

    name: str
    run: Callable[[], int]
    inside: Callable[[], float] | None = None
    warm: Callable[[], int] | None = None


@dataclass(frozen=True)
class Turn:
    """One run: seconds per unit of work, and whole seconds over those inside the network (None: not measured)."""

    seconds: float
    overhead: float | None


@dataclass(eq=False)
class Race:
    """Contestants that run on the same task.

    Attributes:
        name: of the task.
        contestants: the first one is the reference.
        turns: what was measured, by name, one entry per turn.
        spent: seconds that it took, warming up included.
    """

    name: str
    contestants: Sequence[Contestant]
    turns: dict[str, list[Turn]] = field(default_factory=dict)
    spent: float = 0.0

    def __post_init__(self) -> None:
        names = [c.name for c in self.contestants]
        if len(set(names)) != len(names):
            raise ValueError(f"two contestants of {self.name} have the same name: {', '.join(names)}")
        self.turns = {name: [] for name in names}

    @property
    def count(self) -> int:
        """Turns so far."""
        return len(self.turns[self.contestants[0].name])

    def turn(self, clock: Clock = time.perf_counter, settle: Callable[[], None] = lambda: None) -> None:
        """Run everyone once.

        Args:
            clock: tells the time.
            settle: waits for what is still being computed.
        """
        began = clock()
        if not self.count:
            for contestant in self.contestants:
                if contestant.warm is not None:
                    contestant.warm()
        for contestant in order(self.contestants, self.count):
            settle()
            start = clock()
            work = contestant.run()
            settle()
            seconds = clock() - start
            inside = None if contestant.inside is None else contestant.inside()
            self.turns[contestant.name].append(Turn(seconds / work, None if inside is None else seconds / inside))
        self.spent += clock() - began

    def ratios(self, reference: str | None = None) -> dict[str, dict[str, Any]]:
        """By name: seconds per unit of work over the reference's (the first one's), turn by turn."""
        base_turns = self.turns[self.contestants[0].name if reference is None else reference]
        return {
            name: spread([turn.seconds / base.seconds for turn, base in zip(turns, base_turns, strict=True)])
            for name, turns in self.turns.items()
        }

    def overheads(self) -> dict[str, dict[str, Any]]:
        """By name: whole seconds over the seconds inside the network of the same run, where they were measured."""
        found = {name: [t.overhead for t in turns if t.overhead is not None] for name, turns in self.turns.items()}
        return {name: spread(values) for name, values in found.items() if values}


def order(contestants: Sequence[Contestant], turn: int) -> list[Contestant]:
    """Everyone once: the list turned on by one each time and every other time reversed, so that places change."""
    start = turn % len(contestants)
    turned = [*contestants[start:], *contestants[:start]]
    return turned[::-1] if turn % 2 else turned


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median with the range, as `tables.cell` writes it."""
    return {"value": statistics.median(values), "low": min(values), "high": max(values), "count": len(values)}


def compete(
    races: Sequence[Race],
    minutes: float,
    rounds: int,
    clock: Clock = time.perf_counter,
    settle: Callable[[], None] = lambda: None,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Run races side by side until the time is used up: the one that has had least time is always next.

    Args:
        races: each gets one turn at least.
        minutes: no turn begins after them.
        rounds: turns after which a race is over.
        clock: tells the time.
        settle: waits for what is still being computed.
        report: is told what begins.
    """
    began = clock()
    while waiting := [race for race in races if race.count < rounds]:
        race = min(waiting, key=lambda r: (r.count > 0, r.spent))
        if race.count and clock() - began > 60 * minutes:
            return
        report(f"{race.name}: turn {race.count + 1}")
        race.turn(clock, settle)


class Stopwatch:
    """Sums the seconds spent in a part of the work.

    Args:
        clock: tells the time.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock, self.seconds = clock, 0.0

    def reset(self) -> None:
        """Begin again at zero."""
        self.seconds = 0.0

    def __call__(self, part: Callable[[], Tensor]) -> Tensor:
        """Run a part and add its seconds."""
        start = self._clock()
        made = part()
        self.seconds += self._clock() - start
        return made


@contextmanager
def sampling_mode(engine: Engine) -> Iterator[None]:
    """No gradients, and autocast if that is how the engine computes."""
    with torch.inference_mode(), engine.running():
        yield


def fix_threads(count: int) -> None:
    """Start this program anew with the environment that fixes the threads of PyTorch, unless it has it.

    ``torch.set_num_threads`` holds for the calling thread alone, and F5-TTS computes in one that it starts.
    """
    if os.environ.get("OMP_NUM_THREADS") != str(count):
        os.environ["OMP_NUM_THREADS"] = str(count)
        os.execv(sys.executable, sys.orig_argv)


def settler(device: torch.device) -> Callable[[], None]:
    """Waits for a GPU; nothing else computes in the background."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def parameters(network: torch.nn.Module) -> int:
    """How many numbers a network has learned."""
    return sum(p.numel() for p in network.parameters())


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """What the figures were measured on, and with which versions."""
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "processor": _processor(), "cores": os.cpu_count(), "threads": threads, "system": platform.system(),
        "python": platform.python_version(), "device": str(device), "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None, "versions": versions,
    }  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = next((line for line in lines if line.startswith("model name")), "")
    return found.partition(":")[2].strip() or platform.machine()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write beside the name, then rename into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def parser(description: str | None, minutes: float) -> argparse.ArgumentParser:
    """The options that both benchmarks have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("out", type=Path, help="JSON file to write")
    made.add_argument("--threads", type=int, default=2, help="of PyTorch")
    made.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: where others use the machine too")
    made.add_argument("--device", default="cpu")
    made.add_argument("--seconds", type=float, default=8.0, help="of generated audio")
    made.add_argument("--steps", type=int, default=16, help="evaluations of the field")
    made.add_argument("--minutes", type=float, default=minutes, help="no turn begins after them")
    made.add_argument("--rounds", type=int, default=15, help="turns at most")
    return made
