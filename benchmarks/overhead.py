"""What sampling costs beyond the calls of the network: flowtts and other people's samplers on the same network.

    python -m venv peers && . peers/bin/activate
    pip install torch==2.13.0                        # a CPU or a CUDA build
    echo torch==2.13.0 > pin.txt                     # or F5-TTS brings another one
    pip install -c pin.txt f5-tts diffusers
    pip install -c pin.txt --no-deps voicebox-pytorch torchode gateloop-transformer
    pip install -c pin.txt beartype torchtyping rotary-embedding-torch
    pip install -c pin.txt -e .                      # flowtts itself
    python benchmarks/overhead.py OUT.json [--threads 2] [--minutes 5] [--engine eager] [--device cpu]

An environment of its own, because peers pin what flowtts does not. A peer that is absent is left out, with a line that
says why. Weights are random: none is needed, and what is computed does not depend on them.

Networks are Voicebox as shipped (13.8M) and of 30M parameters, with guidance (both branches as one batch) and without,
for one utterance and for eight, of 8 s at 100 frames a second; and F5-TTS's own network. The figures are

    ratio     seconds per call of the network, over those of the bare calls in a loop with nothing else: median over
              all turns, with the range. In a turn everybody runs once, so that a ratio compares neighbours in time.
    overhead  seconds of a whole run over those that it spent inside the network: the sampler's own work, free of the
              noise between two runs. On the CPU only.

A prepared network (flowtts' own: text, prompt and times are embedded once per utterance) makes cheaper calls than bare
ones, so that a ratio may be below 1; preparing is in the ratio and in the overhead. "not prepared" is flowtts' sampler
over the network as the others call it. Batches of eight take fewer steps, which tells against whoever prepares.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import peers_networks as networks
import peers_samplers as samplers
import torch
from peers_imports import Absent, peer
from peers_samplers import Job, Sampler, Timed
from peers_timing import (
    CLOCKS,
    Race,
    Stopwatch,
    compete,
    fix_threads,
    machine,
    parameters,
    parser,
    sampling_mode,
    settler,
    write_json,
)
from tables import table

from flowtts.engine import ENGINES, Engine, choose_engine
from flowtts.recipes.voicebox import AudioConfig

Mode = Callable[[], AbstractContextManager[None]]
Entries = dict[str, Callable[[Job], Sampler]]

CORE: Entries = {
    "bare calls": samplers.bare,
    "flowtts euler": partial(samplers.ours, solver="euler", stages=1),
    "F5-TTS CFM.sample": samplers.f5,
    "torchdiffeq euler": partial(samplers.torchdiffeq, method="euler", stages=1),
}
"""On every network, batch and guidance."""

OTHERS: Entries = {
    "bare calls": samplers.bare,
    "bare calls, prepared": samplers.bare_prepared,
    "flowtts euler": partial(samplers.ours, solver="euler", stages=1),
    "flowtts euler, not prepared": partial(samplers.ours_plain, solver="euler", stages=1),
    "flowtts midpoint": partial(samplers.ours, solver="midpoint", stages=2),
    "torchdiffeq midpoint": partial(samplers.torchdiffeq, method="midpoint", stages=2),
    "diffusers FlowMatchEulerDiscrete": partial(samplers.diffusers, scheduler="FlowMatchEulerDiscreteScheduler"),
    "diffusers FlowMatchHeunDiscrete": partial(samplers.diffusers, scheduler="FlowMatchHeunDiscreteScheduler"),
    "diffusers DPMSolverMultistep": partial(
        samplers.diffusers, scheduler="DPMSolverMultistepScheduler", use_flow_sigmas=True,
        prediction_type="flow_prediction",
    ),
    "voicebox-pytorch midpoint": samplers.voicebox_pytorch,
}  # fmt: skip
"""On the shipped network, one utterance, with guidance."""


def race(
    name: str, entries: Entries, job: Job, steps: int, watch: Stopwatch | None, mode: Mode, absent: set[str]
) -> Race:
    """Everybody who is there, on one job; adds to ``absent`` why others are not."""
    there = []
    for entry, build in entries.items():
        try:
            with mode():
                there.append(samplers.contestant(entry, build(job), steps, watch, mode))
        except Absent as reason:
            absent.add(str(reason))
    return Race(name, there)


def races(args: argparse.Namespace, absent: set[str]) -> Iterator[Race]:
    """All races of a run."""
    device, base = torch.device(args.device), networks.shipped()
    watch = Stopwatch(CLOCKS[args.clock])
    measured = watch if device.type == "cpu" else None
    frames, prompt = round(args.seconds * base.mel.frame_rate), round(args.prompt * base.mel.frame_rate)
    for config in (base, networks.resized(base, args.larger)):
        network = networks.voicebox(config, device)
        cost = f"{parameters(network) / 1e6:.1f}M"
        engine = choose_engine(args.engine, network, device)
        mode = partial(sampling_mode, engine)
        with mode():
            timed = Timed(engine.convert(network), watch, engine.dtype)
        for batch in args.batches:
            cond = networks.condition(config, batch, frames, prompt, device)
            for scale in (1.0, args.guidance):
                job = Job(timed, cond, networks.noise(cond), scale)
                steps = args.steps if batch == 1 else args.batched_steps
                yield race(label(cost, batch, scale), CORE, job, steps, measured, mode, absent)
                if config is base and batch == 1 and scale != 1:
                    yield race(f"{label(cost, batch, scale)}, all", OTHERS, job, args.steps, measured, mode, absent)
    try:
        yield theirs(args, base, frames, prompt)
    except Absent as reason:
        absent.add(str(reason))


def theirs(args: argparse.Namespace, base: AudioConfig, frames: int, prompt: int) -> Race:
    """F5-TTS's network in float32: in its own sampler and in ours, with the same calls."""
    device, watch = torch.device(args.device), Stopwatch(CLOCKS[args.clock])
    measured = watch if device.type == "cpu" else None
    mode = partial(sampling_mode, Engine("eager", device))
    dit = networks.dit(base.mel.channels, device)
    cond = networks.condition(base, 1, frames, prompt, device)
    job = Job(Timed(samplers.DiTNetwork(dit), watch), cond, networks.noise(cond), args.guidance)
    model = peer("f5_tts.model.cfm").CFM(samplers.TimedDiT(dit, watch), num_channels=base.mel.channels)
    entries: Entries = {
        "bare calls": samplers.bare_prepared,
        "flowtts euler": CORE["flowtts euler"],
        "F5-TTS CFM.sample": partial(samplers.f5_sampler, model),
    }
    name = f"F5-TTS's network, {label(f'{parameters(dit) / 1e6:.1f}M', 1, args.guidance)}"
    return race(name, entries, job, args.steps, measured, mode, set())


def label(cost: str, batch: int, scale: float) -> str:
    """What a race is called."""
    return f"{cost}, {'no guidance' if scale == 1 else f'guidance {scale:g}'}, batch {batch}"


def rows(races: list[Race]) -> list[list[object]]:
    """Of the table."""
    found: list[list[object]] = []
    for entry in races:
        ratios, overheads = entry.ratios(), entry.overheads()
        found += [[entry.name, name, ratios[name], overheads.get(name), entry.count] for name in ratios]
    return found


def results(races: list[Race]) -> Mapping[str, Any]:
    """For the file."""
    return {
        r.name: {"ratio": r.ratios(), "overhead": r.overheads(), "turns": {n: [asdict(t) for t in v] for n, v in
                 r.turns.items()}} for r in races
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Measure, write, print."""
    options = parser(__doc__, minutes=5.0)
    options.add_argument("--engine", choices=("auto", *ENGINES), default="eager")
    options.add_argument("--guidance", type=float, default=2.0, help="g of null + g (cond - null)")
    options.add_argument("--prompt", type=float, default=2.0, help="seconds of the prompt, which --seconds include")
    options.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    options.add_argument("--batched-steps", type=int, default=2, help="evaluations of batches")
    options.add_argument("--larger", type=int, default=30_000_000, help="parameters of the second network")
    args = options.parse_args(arguments)
    if arguments is None:
        fix_threads(args.threads)
    torch.set_num_threads(args.threads)
    device, absent = torch.device(args.device), set[str]()
    before = machine(device, args.threads)
    entered = list(races(args, absent))
    for reason in sorted(absent):
        print(reason, file=sys.stderr)
    compete(entered, args.minutes, args.rounds, CLOCKS[args.clock], settler(device), partial(print, file=sys.stderr))
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    content = {"machine": before, "settings": settings, "absent": sorted(absent), "races": results(entered)}
    write_json(args.out, content)
    print(table(["network", "sampler", "ratio to bare calls", "overhead", "turns"], rows(entered)))


if __name__ == "__main__":
    main()
