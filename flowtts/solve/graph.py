"""Whole solves as CUDA graphs: every step, guidance and conditioning included, is one launch.

A graph has fixed shapes. Lengths are therefore rounded up to buckets, and what is added is padding that the network
masks out; the captured solves are kept by shape and settings, the least recently used one going first.

What a network must do for it: no wait for the device in ``prepare`` (`flowtts.nn.attention.is_whole`) or in a call, no
copy from the CPU, no tensor kept beyond one solve. Weights in bfloat16, not autocast, whose cache of converted weights
would outlive the memory of the graph.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from flowtts.path import CondOT, Schedule
from flowtts.solve.fixed import FixedStep, FlowMapStep
from flowtts.solve.guidance import Network, Preparable, guided
from flowtts.solve.integrate import Solution, solve, solver_named
from flowtts.solve.multistep import AdamsBashforth
from flowtts.solve.problem import Rng
from flowtts.solve.stochastic import Diffusion
from flowtts.solve.strength import Guidance
from flowtts.types import Condition, Sampling

log = logging.getLogger(__name__)
_CONDOT = CondOT()


def bucket_of(frames: int) -> int:
    """The length that ``frames`` are padded to: a multiple of 64, and at most an eighth more beyond 512."""
    granule = max(64, 1 << max(0, (frames - 1).bit_length() - 4))
    return -(-frames // granule) * granule


@dataclass(frozen=True, eq=False)
class Recorded:
    """A captured solve: ``replay`` computes ``solution.x`` anew, in place."""

    replay: Callable[[], None]
    solution: Solution


class Recorder(Protocol):
    """A way of capturing."""

    def refusal(self, device: torch.device) -> str:
        """Why nothing can be captured on a device, or ""."""
        ...

    def record(self, run: Callable[[], Solution]) -> Recorded:
        """Capture ``run``, whose inputs stay where they are."""
        ...


class CudaRecorder:
    """Captures CUDA graphs. They share one pool of memory, which is safe because they never run at the same time."""

    def __init__(self) -> None:
        self._pool: Any = None

    def refusal(self, device: torch.device) -> str:
        """Anything but CUDA."""
        return "" if device.type == "cuda" else f"graphs need a CUDA device, not {device.type}"

    def record(self, run: Callable[[], Solution]) -> Recorded:
        """Run twice beside the current stream (libraries and compilers set themselves up), then capture."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the device.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            solution = run()
        return Recorded(graph.replay, solution)


@dataclass(frozen=True, eq=False)
class _Captured:
    """A captured solve with the tensors it reads. The networks are kept, so that their ids stay theirs."""

    cond: Condition
    x0: Tensor
    recorded: Recorded
    networks: tuple[object, ...]


class Graphs:
    """Captured solves of any number of networks.

    A network must not change its weights or its device while it is here; `clear` forgets everything.

    Args:
        capacity: solves kept.
        recorder: how to capture.
        patience: how often a shape is solved directly before it is captured, which costs several solves.
    """

    def __init__(self, capacity: int = 16, recorder: Recorder | None = None, patience: int = 0) -> None:
        if capacity < 1 or patience < 0:
            raise ValueError("Graphs needs room for one solve, and a patience of at least 0")
        self.capacity, self.patience = capacity, patience
        self._seen: Counter[Hashable] = Counter()
        self._recorder = recorder if recorder is not None else CudaRecorder()
        self._kept: OrderedDict[Hashable, _Captured | str] = OrderedDict()

    def __len__(self) -> int:
        return sum(isinstance(kept, _Captured) for kept in self._kept.values())

    def clear(self) -> None:
        """Forget all solves and free their memory."""
        self._kept.clear()
        self._seen.clear()

    def solve(
        self,
        network: Network | Preparable,
        cond: Condition,
        guidance: Guidance | float | str,
        x0: Tensor,
        sampling: Sampling,
        *,
        weak: Network | Preparable | None = None,
        schedule: Schedule = _CONDOT,
        rng: Rng = None,
    ) -> Solution:
        """``solve(guided(network, cond, guidance, weak), x0, sampling)``, from a graph where that is possible.

        Possible: on CUDA, without autograd and autocast, with a solver that draws nothing and whose evaluations are
        known beforehand. Elsewhere the same call is made directly, and the log says why.

        Args:
            network: see `guided`; must not let padding reach real frames.
            cond: of B items on the device of ``x0``.
            guidance: see `guided`.
            x0: (B, T, C) start.
            sampling: see `flowtts.solve.solve`.
            weak: see `guided`.
            schedule: hashable.
            rng: for the solvers that draw.

        Returns:
            A solution whose x belongs to the caller.
        """

        def direct(cond: Condition, x0: Tensor) -> Solution:
            return solve(guided(network, cond, guidance, weak), x0, sampling, schedule=schedule, rng=rng)

        reason = self._recorder.refusal(x0.device) or refusal(sampling, x0.device)
        if reason:
            log.info("no graph: %s", reason)
            return direct(cond, x0)
        key = key_of(network, cond, guidance, x0, sampling, weak, schedule)
        kept = self._kept.get(key)
        if kept is None:
            self._seen[key] += 1
            if self._seen[key] <= self.patience:
                return direct(cond, x0)
            kept = self._capture(direct, cond, x0, (network, weak))
            self._kept[key] = kept
        self._kept.move_to_end(key)
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
        if isinstance(kept, str):
            return direct(cond, x0)
        _fill(kept, cond, x0)
        kept.recorded.replay()
        found = kept.recorded.solution
        return Solution(found.x[:, : x0.shape[1]].clone(), found.nfe, found.network_calls)

    def _capture(
        self,
        direct: Callable[[Condition, Tensor], Solution],
        cond: Condition,
        x0: Tensor,
        networks: tuple[object, ...],
    ) -> _Captured | str:
        """The solve of this shape, or why it cannot be captured."""
        frames = bucket_of(x0.shape[1])
        room = _rooms(cond, x0, frames)
        # Warmed up with padding: the capture, which cannot look, assumes some, and must meet no kernel for the first
        # time.
        room[0].mask[:, : frames // 2] = True
        try:
            recorded = self._recorder.record(lambda: direct(*room))
        except RuntimeError as error:
            why = str(error).partition("\n")[0]
            log.warning("this solve cannot be captured as a graph and runs without: %s", why)
            return why or type(error).__name__
        log.info("captured a graph of %d frames, batch %d", frames, len(x0))
        return _Captured(*room, recorded, networks)


def refusal(sampling: Sampling, device: torch.device) -> str:
    """Why a solve with these settings cannot be captured now, or ""."""
    solver = solver_named(sampling.solver)
    known = isinstance(solver, FixedStep | AdamsBashforth | FlowMapStep | Diffusion)
    if not known or (isinstance(solver, Diffusion) and solver.eta):
        return f"solver '{sampling.solver}' draws noise or decides on its steps while it runs"
    if torch.is_grad_enabled():
        return "autograd is on"
    if torch.is_autocast_enabled(device.type):
        return "autocast is on: convert the weights instead (engine bf16)"
    return ""


def key_of(
    network: object,
    cond: Condition,
    guidance: Guidance | float | str,
    x0: Tensor,
    sampling: Sampling,
    weak: object = None,
    schedule: Schedule = _CONDOT,
) -> Hashable:
    """What two solves must share to share a graph."""
    batch, frames, channels = x0.shape
    text = "frames" if cond.text.shape[1] == frames else cond.text.shape[1]
    return (
        id(network), id(weak), bucket_of(frames), batch, channels, text, x0.dtype, x0.device, cond.prompt.dtype,
        Guidance.parse(guidance) if not isinstance(guidance, Guidance) else guidance,
        sampling.solver, sampling.grid, sampling.steps, schedule,
    )  # fmt: skip


def _rooms(cond: Condition, x0: Tensor, frames: int) -> tuple[Condition, Tensor]:
    """Zeros of the padded shapes. Texts that are not per frame keep their length."""

    # Tensors made in inference mode could be filled there alone.
    @torch.inference_mode(False)
    def room(value: Tensor) -> Tensor:
        per_frame = value.ndim > 1 and value.shape[1] == x0.shape[1]
        shape = (len(value), frames, *value.shape[2:]) if per_frame else value.shape
        return torch.zeros(shape, dtype=value.dtype, device=x0.device)

    return Condition(*(room(getattr(cond, f.name)) for f in fields(Condition))), room(x0)


def _fill(kept: _Captured, cond: Condition, x0: Tensor) -> None:
    """Copy an utterance to where its graph reads it."""
    pairs = [(getattr(kept.cond, f.name), getattr(cond, f.name)) for f in fields(Condition)]
    for room, value in (*pairs, (kept.x0, x0)):
        if room.shape == value.shape:
            room.copy_(value)
        else:
            room[:, : value.shape[1]].copy_(value)
            room[:, value.shape[1] :].zero_()
