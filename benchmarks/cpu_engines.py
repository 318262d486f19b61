"""Time the engines of a CPU on the shipped Voicebox, and how far each is from float32.

    python benchmarks/cpu_engines.py OUT [--seconds 5 15] [--threads 1 2] [--engines eager bf16 …] [--rounds 3] [--keep]

Every figure is a whole solve (guidance on, the midpoint rule in 8 steps: 16 evaluations) of an utterance of that
length, conditioning included; engines run in turns, and the median of the rounds is reported. The error is that of the
mel: |x - x_eager| / |x_eager|. ``--keep`` stores what was measured for the engine "auto" on this machine.
Writes cpu_engines.json and cpu_engines.md into OUT.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tables import save, table
from torch import Tensor

from flowtts.align import repeat
from flowtts.bench.engines import TEXT
from flowtts.device import cpu_model
from flowtts.engine import ENGINES, Engine
from flowtts.pipeline import load
from flowtts.solve import guided, solve
from flowtts.text.frontend import FrontEnd
from flowtts.tuning import fingerprint, keep, tune
from flowtts.types import Condition, Sampling

SAMPLING = Sampling(solver="midpoint", grid="uniform", steps=8, guidance=1.3)
CPU = torch.device("cpu")


def condition(recipe: Any, seconds: float) -> Condition:
    """The beginning of TEXT that lasts so long, without a voice to follow."""
    phones = FrontEnd().analyse(TEXT).phones
    rng = torch.Generator().manual_seed(0)
    durations = recipe.durations(phones, None, rng).round().clamp(min=1).long()
    frames = min(round(seconds * recipe.spec.frame_rate), int(durations.sum()))
    text = repeat(recipe.ids(phones)[None], durations[None], int(durations.sum()))[:, :frames]
    nothing = torch.zeros(1, frames, dtype=torch.bool)
    prompt = torch.zeros(1, frames, recipe.spec.channels)
    return Condition(text, prompt, nothing, ~nothing, torch.ones(1, dtype=torch.bool))


def solves(recipe: Any, cond: Condition, engines: Sequence[str]) -> dict[str, Callable[[], Tensor]]:
    """The same solve by every engine."""
    shape = (*cond.mask.shape, recipe.spec.channels)
    x0 = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * SAMPLING.temperature

    def by(name: str) -> Callable[[], Tensor]:
        engine = Engine(next(known for known in ENGINES if known == name), CPU)
        network = engine.convert(recipe.audio)

        def run() -> Tensor:
            with torch.inference_mode(), engine.running():
                return solve(guided(network, cond, SAMPLING.guidance), x0, SAMPLING).x

        return run

    return {name: by(name) for name in engines}


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All combinations."""
    recipe = load("voicebox", device="cpu", engine="eager").recipe
    rows = []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for seconds in arguments.seconds:
            found = tune(solves(recipe, condition(recipe, seconds), arguments.engines), arguments.rounds)
            for name, measured in found.items():
                rows.append({"threads": threads, "audio": seconds, "engine": name, **asdict(measured),
                             "rtf": measured.seconds / seconds,
                             "gain": found["eager"].seconds / measured.seconds})  # fmt: skip
                print(rows[-1], file=sys.stderr, flush=True)
            if arguments.keep:
                print(keep(fingerprint(recipe.audio, CPU), found), file=sys.stderr)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0, 15.0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["eager", "bf16-autocast", "bf16", "int8"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    if "eager" not in arguments.engines:
        parser.error("--engines must name eager, which the others are compared with")
    rows = measure(arguments)
    head = ("threads", "audio (s)", "engine", "solve (s)", "real-time factor", "gain over eager", "error of the mel")
    markdown = table(head, [
        (r["threads"], r["audio"], r["engine"], r["seconds"], r["rtf"], r["gain"], f"{r['error']:.5f}") for r in rows
    ])  # fmt: skip
    about = {"cpu": cpu_model(), "torch": torch.__version__, "sampling": asdict(SAMPLING), "rows": rows}
    save(arguments.out, "cpu_engines", about, f"{cpu_model()}, PyTorch {torch.__version__}\n\n{markdown}")
    print(markdown)


if __name__ == "__main__":
    main()
