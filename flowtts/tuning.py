"""What engines measured on this machine: times and errors, kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from flowtts.device import cpu_model

LARGEST_ERROR = 0.02
"""Relative error of the result up to which an engine is chosen without asking."""

Measurements = Mapping[str, Mapping[str, "Measured"]]
"""Fingerprint -> engine -> what it measured."""


@dataclass(frozen=True)
class Measured:
    """One engine.

    Attributes:
        seconds: of a solve, the median of the rounds.
        error: |x - x_eager| / |x_eager| of its result.
    """

    seconds: float
    error: float


def cache_file() -> Path:
    """Where measurements are kept: ``flowtts/engines.json`` in the user's cache folder."""
    base = os.environ.get("FLOWTTS_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "flowtts" / "engines.json"


def fingerprint(network: nn.Module, device: torch.device) -> str:
    """What measurements hold for: the processor, the threads, PyTorch, and the shapes of the network."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_model()
    shapes = sorted((name, tuple(value.shape)) for name, value in network.state_dict().items())
    known = (device.type, kind, torch.get_num_threads(), torch.__version__, shapes)
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]


def tune(solves: Mapping[str, Callable[[], Tensor]], rounds: int = 5) -> dict[str, Measured]:
    """Time engines against each other.

    Args:
        solves: by engine, the same solve from the same noise; "eager" is the reference and must be there.
        rounds: all engines run in each, one after the other, so that a busy machine is busy for all of them.

    Raises:
        ValueError: there is no reference.
    """
    if "eager" not in solves:
        raise ValueError("tune compares with the engine 'eager'")
    results = {name: run().float().cpu() for name, run in solves.items()}  # also the warm-up
    taken: dict[str, list[float]] = {name: [] for name in solves}
    for _ in range(rounds):
        for name, run in solves.items():
            begin = time.perf_counter()
            run().cpu()
            taken[name].append(time.perf_counter() - begin)
    exact = results["eager"]
    return {
        name: Measured(statistics.median(taken[name]), float((made - exact).norm() / exact.norm()))
        for name, made in results.items()
    }


def best(found: Measurements, key: str) -> tuple[str, str] | None:
    """The fastest engine with a small error, and the reason to give for it; None if nothing was measured."""
    fit = {name: m for name, m in found.get(key, {}).items() if m.error <= LARGEST_ERROR}
    if not fit:
        return None
    name = min(fit, key=lambda n: (fit[n].seconds, n))
    return name, f"the fastest measured here ({fit[name].seconds:.3f} s a solve, error {fit[name].error:.4f})"


def measurements(path: Path | None = None) -> Measurements:
    """What is kept; nothing if there is no file or it cannot be read (it is a cache)."""
    try:
        kept = json.loads((path or cache_file()).read_text(encoding="utf-8"))
        return {key: {name: Measured(**m) for name, m in by_name.items()} for key, by_name in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def keep(key: str, measured: Mapping[str, Measured], path: Path | None = None) -> Path:
    """Add what was measured for a fingerprint to the file, and return its path."""
    place = path or cache_file()
    everything = {**measurements(place), key: measured}
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f"{place.name}.{os.getpid()}")
    text = {k: {name: asdict(m) for name, m in by_name.items()} for k, by_name in everything.items()}
    beside.write_text(json.dumps(text, indent=1), encoding="utf-8")
    os.replace(beside, place)
    return place
