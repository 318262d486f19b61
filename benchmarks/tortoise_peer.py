"""Speed of our Tortoise and of the public one, tortoise-tts 3.0.0 from PyPI: equal sizes, random weights, in one run.

    python benchmarks/tortoise_peer.py OUT.json --peer PEER/bin/python --layers 10 --width 512 --clock processor
    python benchmarks/tortoise_peer.py OUT.json --peer PEER/bin/python --device cuda --engines eager bf16

PEER is made as ``parity_tortoise.py`` says; without --peer the public program has to be importable here. It runs in a
process of its own (``tortoise_peer_theirs.py``); the two take turns, each measures its own work, and only figures of
one turn are compared. --layers 30 --width 1024 are the published sizes; others scale CLVP and the diffusion decoder
with them. UnivNet has its one size.

    draw     codes of 16 candidates of one text, with a cache, the usual filters, and no stop: tokens per second
    decoder  one candidate's codes to a mel: the autoregressive model's states, and the steps of ddpm under guidance
    whole    a text to sound: codes of all candidates, CLVP, the best one's mel, UnivNet

Voices are given as latents. The public networks stay where they are, while the program as published moves each to the
GPU and back for every text. What only ours computes, the times of words, is left out. "speed-up" is the public
program's seconds over ours, turn by turn: median over all turns, with the range. "of floor" is the share of the seconds
of a step that reading the autoregressive model's weights once would take, at the bandwidth of a product of a large
matrix and a vector; the cache is read too, and not in the floor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch
from decoding import bandwidth
from parity_tortoise import sizes_of
from peers_timing import (
    CLOCKS,
    Contestant,
    Race,
    compete,
    fix_threads,
    machine,
    parameters,
    settler,
    spread,
    write_json,
)
from tables import table
from torch import nn

from flowtts.latents import Latents
from flowtts.pipeline import Pipeline
from flowtts.recipes.tortoise.autoregressive import AutoregressiveModel
from flowtts.recipes.tortoise.clvp import CLVP
from flowtts.recipes.tortoise.diffusion import DiffusionDecoder
from flowtts.recipes.tortoise.parts import Parts
from flowtts.recipes.tortoise.recipe import Take, Tortoise
from flowtts.recipes.tortoise.tokens import BPETokens
from flowtts.text import FrontEnd
from flowtts.types import Sampling
from flowtts.vocoders.univnet import UnivNet, UnivNetConfig, UnivNetVocoder

PEER = "tortoise-tts"
TEXT = "The old man opened the window and listened to the wind that came over the hills from the sea."
NEVER, GUIDANCE = -1e9, 3.0
"""As in ``tortoise_peer_theirs.py``, whose cond_free_k is the guidance less one."""

FEWEST = 4
"""Tokens."""

WORKS = {"draw": "draw", "decoder": "decode", "whole": "whole"}
"""Name of a race -> what the public side calls it."""

BYTES = {"eager": (4, 4), "bf16-autocast": (4, 4), "bf16": (2, 2), "half": (2, 4)}
"""Engine -> bytes of a weight of the transformer's linear layers, and of another."""


def sizes(layers: int, width: int) -> dict[str, dict[str, int]]:
    """Sizes as ``parity_tortoise_peer`` spells them: published at 30 layers of 1024, and scaled.

    Raises:
        ValueError: the width is no multiple of 64.
    """
    if width < 64 or width % 64 or layers < 1:
        raise ValueError(f"layers {layers} and width {width}: the width is a multiple of 64, that of a head")
    judge = 3 * width // 4
    return {
        "ar": {"layers": layers, "model_dim": width, "heads": width // 64, "max_text_tokens": 402,
               "max_mel_tokens": 604, "codes": 8192},
        "clvp": {"dim": judge, "latent": judge, "depth": max(1, 2 * layers // 3), "heads": max(1, judge // 64),
                 "codes": 8192},
        "diffusion": {"model_channels": width, "num_layers": max(1, layers // 3), "num_heads": width // 64,
                      "in_latent_channels": width, "in_tokens": 8193},
        "random": {"voice": width, "decoder": 2 * width},
    }  # fmt: skip


class Ledger:
    """A clock that goes by what the work says of itself, as half of it is done in another process."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds entered so far."""
        return self.now

    def measured(self, work: Callable[[], int], clock: Callable[[], float], settle: Callable[[], None]) -> int:
        """Do something here."""
        settle()
        start = clock()
        size = work()
        settle()
        self.now += clock() - start
        return size


class Other:
    """The public program in its own process.

    Args:
        python: its interpreter.
        settings: see ``tortoise_peer_theirs.Program``.
        ledger: where its seconds are entered.
        clock: which of them.
    """

    def __init__(self, python: str, settings: Mapping[str, Any], ledger: Ledger, clock: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        place = Path(self._folder.name)
        (place / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        self._ledger, self._clock, self._log = ledger, clock, place / "log"
        script = Path(__file__).with_name("tortoise_peer_theirs.py")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, "-W", "ignore", str(script), str(place / "settings.json")], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "OMP_NUM_THREADS": str(settings["threads"])},
            )  # fmt: skip
        self.about = self._answer()

    def __enter__(self) -> Other:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):
            _pipe(self._process.stdin).close()
        self._process.wait()
        self._folder.cleanup()

    def run(self, work: str, tokens: int, half: bool) -> int:
        """Have something done; its size."""
        asked = _pipe(self._process.stdin)
        asked.write(json.dumps({"work": work, "tokens": tokens, "half": half}) + "\n")
        asked.flush()
        told = self._answer()
        self._ledger.now += told[self._clock]
        return int(told["work"])

    def _answer(self) -> dict[str, Any]:
        line = _pipe(self._process.stdout).readline()
        if not line:
            self._process.wait()
            raise SystemExit(f"the public program's half failed:\n{self._log.read_text(errors='replace')[-3000:]}")
        told: dict[str, Any] = json.loads(line)
        return told


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


class Ours:
    """Our networks of the same sizes.

    Args:
        recipe: of random weights, which never stop.
        text: to say.
        count: candidates.
        steps: of the diffusion decoder.
    """

    def __init__(self, recipe: Tortoise, text: str, count: int, steps: int) -> None:
        self.recipe, self._text, self._count = recipe, text, count
        rng, device = torch.Generator().manual_seed(0), recipe.device
        ar, decoder = recipe.parts.ar.config, recipe.parts.decoder.config
        self._voice = Latents(
            {"ar": torch.randn(ar.body.width, generator=rng), "decoder": torch.randn(2 * decoder.width, generator=rng)},
            recipe.hash,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            vocoder = UnivNetVocoder(UnivNet(UnivNetConfig())).to(device)
        self._tts = Pipeline(recipe, vocoder, "random weights")
        self._frontend = FrontEnd()
        self._sampling = Sampling("ddpm", "uniform", steps, GUIDANCE, 1.0)

    def draw(self, tokens: int) -> int:
        """See the module's head."""
        return sum(len(take.codes) for take in self._takes(tokens))

    def decoder(self, tokens: int) -> int:
        """See the module's head."""
        config = self.recipe.parts.decoder.config
        self._render(Take(torch.arange(tokens) % (config.codes - 1), config.frames(tokens), False, 0))
        return 1

    def whole(self, tokens: int) -> int:
        """See the module's head."""
        takes = self._takes(tokens)
        best = int(self.recipe.judge(self._frontend.analyse(self._text), takes).argmax())
        self._tts.sound(self._render(takes[best]), 1.0)
        return 1

    def _takes(self, tokens: int) -> Sequence[Take]:
        analysis = self._frontend.analyse(self._text)
        decoding = replace(
            self.recipe.decoding, temperature=0.8, top_p=0.8, repetition=2.0, length_penalty=1.0, max_tokens=tokens
        )
        rngs = [torch.Generator().manual_seed(number) for number in range(self._count)]
        return self.recipe.draw(analysis, self._voice, decoding, rngs)

    def _render(self, take: Take) -> torch.Tensor:
        analysis, rng = self._frontend.analyse(self._text), torch.Generator().manual_seed(0)
        return self.recipe.render(analysis, take, self._voice, self._sampling, rng, 1.0).features


def our_parts(layout: Mapping[str, Mapping[str, int]], device: torch.device, symbols: Sequence[str]) -> Parts:
    """Networks with random weights."""
    made = sizes_of({"sizes": layout})
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        ar, decoder, clvp = AutoregressiveModel(made.ar), DiffusionDecoder(made.diffusion), CLVP(made.clvp)
        ar.code_head.bias[made.ar.stop_code] = NEVER
    networks: list[nn.Module] = [ar, decoder, clvp]
    for network in networks:
        network.eval().requires_grad_(False).to(device)
    return Parts(ar, decoder, None, clvp, None, tuple(symbols), "random", Path("random"))


def bytes_of_step(ar: AutoregressiveModel, engine: str) -> int:
    """Of the weights that a step reads: the transformer and the head, not the tables."""
    linear, other = BYTES[engine]
    every = parameters(ar.body) + parameters(ar.final_norm) + parameters(ar.code_head)
    inner = sum(m.weight.numel() for m in ar.body.modules() if isinstance(m, nn.Linear))
    return inner * linear + (every - inner) * other


def races(ours: Mapping[str, Ours], other: Other, args: argparse.Namespace, ledger: Ledger) -> list[Race]:
    """The three races; the public program stands last, and again in half precision where it has it."""
    clock, settle = CLOCKS[args.clock], settler(torch.device(args.device))
    made = []
    for name, theirs in WORKS.items():
        entered = []
        for engine, side in ours.items():
            act: Callable[[int], int] = {"draw": side.draw, "decoder": side.decoder, "whole": side.whole}[name]
            run = partial(ledger.measured, partial(act, args.tokens), clock, settle)
            entered.append(Contestant(f"flowtts {engine}", run, warm=partial(act, FEWEST)))
        for half in (False, True) if torch.device(args.device).type == "cuda" else (False,):
            run, warm = (partial(other.run, theirs, tokens, half) for tokens in (args.tokens, FEWEST))
            entered.append(Contestant(f"{PEER} half" if half else PEER, run, warm=warm))
        made.append(Race(name, entered))
    return made


def results(race: Race, floor: Mapping[str, float], count: int) -> dict[str, dict[str, Any]]:
    """By contestant: speed-ups, and tokens a second and the share of the floor where tokens are drawn.

    Args:
        race: that was run.
        floor: seconds that reading the weights of a step takes, by contestant.
        count: candidates, who share a step.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, turns in race.turns.items():
        seconds = [turn.seconds for turn in turns]
        found[name] = {"seconds": spread(seconds)}
        for peer, theirs in race.turns.items():
            if peer.startswith(PEER) and peer != name:
                found[name][f"over {peer}"] = spread([t.seconds / s for s, t in zip(seconds, theirs, strict=True)])
        if race.name == "draw":
            found[name]["tokens_per_second"] = spread([1 / s for s in seconds])
            if name in floor:
                found[name]["of_floor"] = spread([floor[name] / (s * count) for s in seconds])
    return found


def markdown(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The table."""
    peers = list(dict.fromkeys(key for race in found.values() for row in race.values() for key in row if "over" in key))
    rows = [
        [race, name, *(row.get(peer) for peer in peers), row.get("tokens_per_second"), row.get("of_floor"),
         row["seconds"] if race != "draw" else None]
        for race, rows in found.items() for name, row in rows.items()
    ]  # fmt: skip
    heads = [f"speed-up {peer}" for peer in peers]
    return table(["", "program", *heads, "tokens/s", "of floor", "seconds"], rows)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options; sizes are the published ones."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("out", type=Path, help="JSON file to write")
    made.add_argument("--peer", default=sys.executable, help="interpreter that has the public program")
    for name, value in {"layers": 30, "width": 1024, "candidates": 16, "tokens": 200, "steps": 30, "threads": 2,
                        "rounds": 5, "bandwidth-mib": 1024}.items():  # fmt: skip
        made.add_argument(f"--{name}", type=int, default=value)
    made.add_argument("--text", default=TEXT)
    made.add_argument("--engines", nargs="+", choices=BYTES, default=["eager"], help="of ours")
    made.add_argument("--minutes", type=float, default=30.0, help="of work; no turn begins after them")
    made.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: where others use the machine too")
    made.add_argument("--device", default="cpu")
    args = made.parse_args(arguments)
    if args.tokens < FEWEST:
        made.error(f"--tokens are {FEWEST} at least: UnivNet reads no shorter mel")
    return args


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write, print."""
    args = parse(arguments)
    if arguments is None:
        fix_threads(args.threads)
    torch.set_num_threads(args.threads)
    device, clock, ledger = torch.device(args.device), CLOCKS[args.clock], Ledger()
    layout, settle = sizes(args.layers, args.width), settler(device)
    settings = {"sizes": layout, "device": args.device, "text": args.text, "count": args.candidates,
                "tokens": args.tokens, "steps": args.steps, "threads": args.threads}  # fmt: skip
    before, speed = machine(device, args.threads), bandwidth(args.bandwidth_mib, device, settle, clock)
    with Other(args.peer, settings, ledger, args.clock) as other:
        reader = BPETokens(other.about["tokeniser"])
        if reader(FrontEnd().analyse(args.text)).tolist() != other.about["ids"]:
            raise SystemExit("the two read this text differently: give another --text")
        parts = our_parts(layout, device, reader.symbols)
        ours = {e: Ours(Tortoise(parts, reader, e), args.text, args.candidates, args.steps) for e in args.engines}
        run = races(ours, other, args, ledger)
        compete(run, args.minutes, args.rounds, ledger, report=partial(print, file=sys.stderr, flush=True))
    # Whoever else used the machine during the first measurement would flatter us.
    speed = max(speed, bandwidth(args.bandwidth_mib, device, settle, clock))
    floor = {f"flowtts {engine}": bytes_of_step(parts.ar, engine) / speed for engine in args.engines}
    floor |= {PEER: bytes_of_step(parts.ar, "eager") / speed}
    found = {race.name: results(race, floor, args.candidates) for race in run}
    counts = {"autoregressive": parts.ar, "diffusion": parts.decoder, "clvp": parts.clvp}
    content = {
        "machine": before, "settings": {**settings, "clock": args.clock}, "public": other.about,
        "parameters": {name: 0 if net is None else parameters(net) for name, net in counts.items()},
        "bytes_per_second": speed, "results": found,
    }  # fmt: skip
    write_json(args.out, content)
    print(markdown(found))
    print(f"bandwidth {speed / 1e9:.1f} GB/s, {run[0].count} turns")


if __name__ == "__main__":
    main()
