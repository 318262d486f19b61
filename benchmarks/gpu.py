"""Time the paper's 330M Voicebox on a GPU: random weights, bfloat16, guidance on.

    python benchmarks/gpu.py OUT [--tiny] [--seconds 10 30] [--batches 1 32] [--minutes 2]

For every length and batch: milliseconds of one guided evaluation and its share of the matrix peak, which is that of an
8192 x 8192 product in the same run; attention by bias and by flex, with and without a CUDA graph and torch.compile;
whole solves at 32 and 4 network calls directly and as a graph, their real-time factors and how far apart their results
are. Needs torch, numpy, safetensors and flowtts' own code. What fails is reported and does not stop the rest; what has
not begun after ``--minutes`` is left out and said so. ``--tiny`` runs small sizes anywhere, as a smoke test. Writes
gpu.json and gpu.md into OUT after every part.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.nn.attention import Kernel
from flowtts.nn.time import sinusoidal
from flowtts.nn.transformer import Layout, Transformer, TransformerConfig
from flowtts.solve.graph import Graphs, refusal
from flowtts.solve.guidance import guided
from flowtts.solve.integrate import solve
from flowtts.types import Condition, Sampling

CHANNELS, FRAME_RATE, SYMBOLS = 80, 100, 100
PAPER = TransformerConfig(dropout=0.0)
TINY = TransformerConfig(layers=2, heads=2, width=64, ffn=128, position_groups=4, dropout=0.0)
GUIDANCE = 1.7
SOLVES = {32: Sampling("midpoint", "uniform", 8, GUIDANCE), 4: Sampling("euler", "uniform", 2, GUIDANCE)}
"""Network calls -> a solve of that many (guidance makes two of one evaluation)."""


class Net(nn.Module):
    """Voicebox's audio model (arXiv 2306.15687, section 5.1) without the parts that read corpora and configurations."""

    def __init__(self, config: TransformerConfig, kernel: Kernel) -> None:
        super().__init__()
        self.kernel: Kernel = kernel
        self.embed = nn.Embedding(SYMBOLS, config.width)
        self.project = nn.Linear(2 * CHANNELS + config.width, config.width)
        self.body = Transformer(config)
        self.out = nn.Linear(config.width, CHANNELS)

    def prepare(self, cond: Condition) -> Prepared:
        """What depends on the condition alone."""
        weight = self.project.weight
        keep = cond.keep[:, None, None].to(weight.dtype)
        known = torch.cat([cond.prompt.to(weight.dtype) * keep, self.embed(cond.text) * keep], dim=-1)
        constant = F.linear(known, weight[:, CHANNELS:], self.project.bias)
        layout = self.body.prepare(cond.mask, extra=True, dtype=weight.dtype, kernel=self.kernel)
        return Prepared(self, constant, weight[:, :CHANNELS].contiguous(), layout, {})


@dataclass(frozen=True, eq=False)
class Prepared:
    """The network with its condition of k B items."""

    net: Net
    constant: Tensor
    weight: Tensor
    layout: Layout
    times: dict[float, Tensor]

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocities (k B, T, C) at ``t`` and x (B, T, C)."""
        now = float(t)
        if now not in self.times:
            at = torch.full((1,), now, device=x.device)
            self.times[now] = sinusoidal(at, self.constant.shape[-1]).to(self.weight.dtype)
        seen = F.linear(x.to(self.weight.dtype), self.weight).repeat(len(self.constant) // len(x), 1, 1)
        made: Tensor = self.net.out(self.net.body.run(seen + self.constant, self.layout, self.times[now]))
        return made


def condition(batch: int, frames: int, device: torch.device, shortest: float = 1.0) -> Condition:
    """Random text, a third of the frames known; lengths from ``shortest`` of the frames to all of them."""
    rng = torch.Generator().manual_seed(0)
    share = torch.linspace(1.0, shortest, batch)
    mask = torch.arange(frames)[None] < (share * frames).round()[:, None]
    known = (torch.arange(frames)[None] < frames // 3) & mask
    text = torch.randint(SYMBOLS, (batch, frames), generator=rng)
    prompt = torch.randn(batch, frames, CHANNELS, generator=rng) * known[..., None]
    return Condition(text, prompt, known, mask, torch.ones(batch, dtype=torch.bool)).to(device)


def evaluation_flops(config: TransformerConfig, frames: int, items: int) -> float:
    """Multiplications and additions of one network call on ``items`` (guidance doubles them)."""
    size, width = frames + 1, config.width
    block = 2 * size * (4 * width**2 + 2 * width * config.ffn) + 4 * size**2 * width
    skips = config.layers // 2 * 2 * size * 2 * width**2 if config.skips else 0
    conv = config.position_depth * 2 * frames * width**2 * config.position_kernel / config.position_groups
    ends = 2 * frames * 2 * CHANNELS * width
    return items * (config.layers * block + skips + conv + ends)


def seconds(run: Callable[[], object], device: torch.device, rounds: int = 5, budget: float = 2.0) -> float:
    """The median time of ``run``, after one to warm up."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    run()
    wait()
    taken: list[float] = []
    while len(taken) < rounds and sum(taken) < budget:
        begin = time.perf_counter()
        run()
        wait()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def matrix_peak(device: torch.device, size: int) -> float:
    """Measured FLOP/s of a product of bfloat16 matrices."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = min(seconds(lambda: a @ b, device, rounds=1) for _ in range(10))
    return 2 * size**3 / best


class Bench:
    """All parts, their results and their failures."""

    def __init__(self, out: Path, tiny: bool, minutes: float) -> None:
        self.out, self.tiny, self.limit = out, tiny, minutes * 60
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.config = TINY if tiny else PAPER
        self.found: dict[str, Any] = {"torch": torch.__version__, "rows": [], "solves": [], "failed": {}}
        self.began = time.perf_counter()

    def part(self, name: str, run: Callable[[], None]) -> None:
        """Run a part; whatever happens, what was found is on disk afterwards."""
        try:
            if time.perf_counter() - self.began > self.limit:
                raise TimeoutError("left out: the time was up")
            run()
        except Exception as error:  # one part's failure must not lose the others
            self.found["failed"][name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.found["took"] = time.perf_counter() - self.began
        write(self.out, self.found)
        print(f"{self.found['took']:6.1f} s  {name}: {self.found['failed'].get(name, 'done')}", file=sys.stderr)

    def setup(self) -> None:
        """Machine, peak, network."""
        torch.manual_seed(0)
        cuda = self.device.type == "cuda"
        self.found["device"] = torch.cuda.get_device_name() if cuda else "cpu"
        self.found["matrix_peak_tflops"] = matrix_peak(self.device, 256 if self.tiny else 8192) / 1e12
        net = Net(self.config, "bias")
        self.found["parameters"] = sum(p.numel() for p in net.parameters())
        self.net = net.to(self.device, torch.bfloat16).eval().requires_grad_(False)

    def compiled(self) -> Net:
        """The network with compiled blocks: they share their code, so that one is compiled and not 24."""
        net = copy.deepcopy(self.net)
        for block in net.body.blocks:
            block.compile(dynamic=False)
        return net

    def field(self, net: Net, batch: int, frames: int, kernel: Kernel, shortest: float) -> Callable[[], Tensor]:
        """One guided evaluation."""
        net.kernel = kernel
        made = guided(net, condition(batch, frames, self.device, shortest), GUIDANCE)
        x = torch.randn(batch, frames, CHANNELS, device=self.device)
        t = torch.tensor(0.5, dtype=torch.float64)
        return lambda: made(t, x)

    def evaluation(self, length: float, batch: int, way: str, shortest: float = 1.0) -> None:
        """Milliseconds of a guided evaluation, computed in one ``way``."""
        frames = round(length * FRAME_RATE)
        kernel: Kernel = "flex" if "flex" in way else "bias"
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        run = self.field(self.compiled() if "compile" in way else self.net, batch, frames, kernel, shortest)
        if "graph" in way:
            run = captured(run)
        took = seconds(run, self.device)
        flops = evaluation_flops(self.config, frames, 2 * batch)
        self.found["rows"].append({
            "audio": length, "batch": batch, "way": way, "padded_from": shortest, "ms": took * 1e3,
            "tflops": flops / took / 1e12,
            "share_of_peak": flops / took / 1e12 / self.found["matrix_peak_tflops"],
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else None,
        })  # fmt: skip

    def solving(self, length: float, batch: int, calls: int) -> None:
        """A whole solve directly and from a graph, conditioning included, and how far apart the results are."""
        frames, sampling = round(length * FRAME_RATE), SOLVES[calls]
        self.net.kernel = "auto"
        cond = condition(batch, frames, self.device)
        x0 = torch.randn(batch, frames, CHANNELS, device=self.device)
        row: dict[str, Any] = {"audio": length, "batch": batch, "calls": calls}
        self.found["solves"].append(row)

        def direct() -> Tensor:
            return solve(guided(self.net, cond, GUIDANCE), x0, sampling).x

        row["eager_s"] = seconds(direct, self.device)
        row["eager_rtf"] = row["eager_s"] / (length * batch)
        if self.device.type != "cuda":
            return
        graphs = Graphs()
        row["refusal"] = refusal(sampling, self.device)
        begin = time.perf_counter()
        made = graphs.solve(self.net, cond, GUIDANCE, x0, sampling).x
        torch.cuda.synchronize()
        row["capture_s"] = time.perf_counter() - begin
        row["captured"] = len(graphs) == 1
        exact = direct()
        row["difference"] = float((made - exact).norm() / exact.norm())
        row["graph_s"] = seconds(lambda: graphs.solve(self.net, cond, GUIDANCE, x0, sampling), self.device)
        row["graph_rtf"] = row["graph_s"] / (length * batch)


def captured(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same as one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def write(out: Path, found: Mapping[str, Any]) -> None:
    """gpu.json and gpu.md."""
    out.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{found.get('device')}, PyTorch {found['torch']}, measured bf16 matrix peak "
        f"{found.get('matrix_peak_tflops', 0):.0f} TFLOP/s, {found.get('parameters', 0) / 1e6:.0f}M parameters",
        "",
    ]
    for name in ("rows", "solves"):
        rows = found[name]
        if not rows:
            continue
        head = list(dict.fromkeys(key for row in rows for key in row))
        lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        lines += ["| " + " | ".join(cell(row.get(key)) for key in head) + " |" for row in rows] + [""]
    lines += [f"failed: {name}: {why}" for name, why in found["failed"].items()]
    for path, text in ((out / "gpu.json", json.dumps(found, indent=1)), (out / "gpu.md", "\n".join(lines) + "\n")):
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)


def cell(value: object) -> str:
    """A figure for a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 30.0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--minutes", type=float, default=2.0)
    arguments = parser.parse_args()
    lengths, batches = ([0.5], [1, 2]) if arguments.tiny else (arguments.seconds, arguments.batches)
    bench = Bench(arguments.out, arguments.tiny, arguments.minutes)
    cuda = bench.device.type == "cuda"
    shapes = [(length, batch) for batch in batches for length in lengths]

    def evaluations(*ways: str) -> None:
        for way in ways:
            for length, batch in shapes:
                bench.part(f"{length:g} s x {batch}, {way}", partial(bench.evaluation, length, batch, way))

    def solves(calls: int) -> None:
        for length, batch in shapes:
            bench.part(f"{length:g} s x {batch}, {calls} calls", partial(bench.solving, length, batch, calls))

    with torch.inference_mode():
        bench.part("setup", bench.setup)
        evaluations("eager", *(("graph",) if cuda else ()))
        solves(4)
        evaluations("flex", *(("flex graph",) if cuda else ()))
        for way in ("eager", "flex"):
            bench.part(f"padded, {way}", partial(bench.evaluation, lengths[0], batches[-1], way, 0.75))
        evaluations(*(("compile",) if cuda else ()))
        # The longest last.
        solves(32)
    print((arguments.out / "gpu.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
