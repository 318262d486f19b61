"""From text to wave: F5-TTS and flowtts with networks of equal size and random weights.

    (set up the environment as ``overhead.py`` says)
    python benchmarks/peers.py OUT.json [--threads 2] [--engines eager bf16-autocast bf16] [--minutes 4]

F5-TTS runs as its package does it: ``infer_process`` (text to pinyin, ``CFM.sample``, vocoder) with its own network at
about 17M parameters, half of "F5TTS v1 Small" in width and 7 of its 18 layers. Voicebox has as many parameters; both
vocoders are a Vocos of the size of vocos-mel-24khz (13.5M). Text, prompt, seconds, steps and guidance are the same, the
prompt is prepared in both, and nothing is written. The rows:

    F5-TTS                   float32, as its package computes on a CPU
    F5-TTS, autocast         its sampler under bfloat16 autocast, which its package does not offer
    flowtts                  Voicebox in the shipped shape (16 kHz, 100 frames a second, two in a token), per engine
    flowtts, F5's features   the same on F5-TTS's features (24 kHz, 93.75 frames a second, one in a token), with the
                             first and the last engine: what is left of the difference when the tokens are as many.
                             Nearly half of F5-TTS's parameters (modulation, text) are used once per step or once
                             per text and not in every frame; all but Voicebox's phone table are, every step

A figure is the time over F5-TTS's in the same turn: median over all turns, with the range. In a turn everybody runs
once, in changing order.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import peers_networks as networks
import torch
from peers_imports import Absent, peer
from peers_paths import Task, f5_path, our_path
from peers_timing import CLOCKS, Contestant, Race, compete, fix_threads, machine, parser, settler, write_json
from tables import table

from flowtts.engine import ENGINES
from flowtts.text import FrontEnd
from flowtts.types import VOCOS_MEL, Audio, UserError
from flowtts.voice import Voice, prepare

TEXT = (
    "The old man opened the window and listened to the wind, which had been blowing from the north "
    "since the early morning."
)
"""About eight seconds."""

F5, F5_AUTOCAST = "F5-TTS", "F5-TTS, autocast"


def entries(args: argparse.Namespace) -> tuple[list[Contestant], dict[str, int]]:
    """Who takes part, the reference first, and the parameters of their networks."""
    device, base = torch.device(args.device), networks.shipped()
    task, voice = Task(args.text, args.seconds, args.guidance), heard(args.voice)
    there: list[Contestant] = []
    counts: dict[str, int] = {}

    def enter(name: str, path: Callable[[int], Audio], count: int) -> None:
        run, warm = (partial(once, partial(path, steps), args.seconds) for steps in (args.steps, min(2, args.steps)))
        there.append(Contestant(name, run, warm=warm))
        counts[name] = count

    enter(F5, *f5_path(task, voice, autocast=False, device=device))
    enter(F5_AUTOCAST, *f5_path(task, voice, autocast=True, device=device))
    same = replace(base, mel=VOCOS_MEL, frames_per_token=1)
    ends = dict.fromkeys((args.engines[0], args.engines[-1]))
    for suffix, config, engines in (("", base, args.engines), (", F5's features", same, ends)):
        for engine in engines:
            name = f"flowtts{suffix}, {engine}"
            try:
                enter(name, *our_path(task, args.voice, networks.resized(config, counts[F5]), engine, device))
            except UserError as reason:
                print(f"{name} is left out: {reason}", file=sys.stderr)
    return there, counts


def once(path: Callable[[], Audio], seconds: float) -> int:
    """Say it, and see that it has been said."""
    made = path()
    if abs(made.seconds - seconds) > 0.1:
        raise ValueError(f"asked for {seconds} s of audio, got {made.seconds:.2f}")
    return 1


def heard(name: str) -> Voice:
    """The prompt of a shipped voice."""
    return prepare(name, None, networks.shipped().mel, FrontEnd())


def main(arguments: list[str] | None = None) -> None:
    """Measure, write, print."""
    options = parser(__doc__, minutes=4.0)
    options.add_argument("--engines", nargs="+", choices=("auto", *ENGINES), default=["eager", "bf16-autocast", "bf16"])
    options.add_argument("--guidance", type=float, default=3.0, help="g of null + g (cond - null): cfg_strength + 1")
    options.add_argument("--voice", default="awb", help="shipped voice that is continued")
    options.add_argument("--text", default=TEXT)
    args = options.parse_args(arguments)
    if arguments is None:
        fix_threads(args.threads)
    try:
        peer("f5_tts.infer.utils_infer")
    except Absent as reason:
        sys.exit(f"{reason}; it is what everything is compared with")
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    before = machine(device, args.threads)
    there, counts = entries(args)
    race = Race("text to wave", there)
    compete([race], args.minutes, args.rounds, CLOCKS[args.clock], settler(device), partial(print, file=sys.stderr))
    ratios, fast = race.ratios(), race.ratios(F5_AUTOCAST)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    turns = {name: [asdict(turn) for turn in found] for name, found in race.turns.items()}
    content = {"machine": before, "settings": settings, "parameters": counts, "turns": turns}
    write_json(args.out, {**content, "ratio": ratios, "ratio_to_autocast": fast})
    rows = [[n, f"{counts[n] / 1e6:.1f}M", ratios[n], fast[n], race.count] for n in ratios]
    print(table(["path", "network", "time over F5-TTS", "over F5-TTS, autocast", "turns"], rows))


if __name__ == "__main__":
    main()
