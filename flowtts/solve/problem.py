"""What every solver is handed: a counted field, a start, a grid, a path and a source of noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from flowtts.path import Schedule
from flowtts.types import Field, UserError

Rng = torch.Generator | Sequence[torch.Generator] | None
"""One generator for the batch, or one for each item so that no item depends on its company."""


@runtime_checkable
class Costed(Protocol):
    """A field that runs its network other than once per evaluation. A wrapper of such a field should be one too."""

    def calls(self, t: float) -> int:
        """Network calls that one evaluation at ``t`` costs."""
        ...


@runtime_checkable
class FlowMap(Protocol):
    """A field that also knows where its trajectories lead: mean flows, shortcuts, consistency trajectories."""

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocity at ``t``."""
        ...

    def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
        """The mean velocity (B, T, C) of the trajectory through ``x`` at ``t`` until ``s``, both 0-dim float64."""
        ...


@runtime_checkable
class Ranged(Protocol):
    """A field whose network learnt how much noise a step takes (arXiv 2102.09672, eq. 15)."""

    def share(self, t: Tensor) -> Tensor | None:
        """What the latest evaluation, at ``t``, said: (B, T, C), 0 the least variance and 1 the greatest; or None."""
        ...


class Solver(Protocol):
    """A way of following a field. It sees the whole grid, so that multistep methods fit as well."""

    def tuned(self, value: float) -> Solver:
        """Itself with the parameter users write after a colon, or a `UserError` if it has none."""
        ...

    def __call__(self, problem: Problem) -> Tensor:
        """The state at the end of the problem's grid."""
        ...


@dataclass
class Metered:
    """A field that counts what it costs and stands between the dtype of the state and its own.

    Attributes:
        field: the velocity.
        dtype: what the field sees x in.
        nfe: evaluations so far.
        network_calls: the field's own count of what they cost.
    """

    field: Field
    dtype: torch.dtype
    nfe: int = 0
    network_calls: int = 0
    _cost: Callable[[float], int] | None = None
    _seen: Tensor | None = None

    def __post_init__(self) -> None:
        self._cost = self.field.calls if isinstance(self.field, Costed) else None

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocity at ``t`` (0-dim float64 on the CPU) and ``x`` (B, T, C).

        The result is the field's own tensor: it may be overwritten by the next evaluation, and may be of a lower
        precision than ``x``.
        """
        return self._counted(t, x, self.field(t, self._shown(x)))

    def average(self, t: Tensor, s: Tensor, x: Tensor, solver: str) -> Tensor:
        """The mean velocity between ``t`` and ``s``, of a field that knows it.

        Raises:
            UserError: the field is no `FlowMap`.
        """
        if not isinstance(self.field, FlowMap):
            raise UserError(
                f"solver '{solver}' needs a network that was distilled into a flow map: choose another solver "
                "(euler, midpoint), or a few-step checkpoint"
            )
        return self._counted(t, x, self.field.average(t, s, self._shown(x)))

    def share(self, t: Tensor) -> Tensor | None:
        """Where in its range the latest evaluation, at ``t``, puts the variance of a step, if the field knows."""
        return self.field.share(t) if isinstance(self.field, Ranged) else None

    def _shown(self, x: Tensor) -> Tensor:
        if x.dtype == self.dtype or torch.is_grad_enabled():
            return x.to(self.dtype)
        if self._seen is None or self._seen.shape != x.shape:
            self._seen = torch.empty_like(x, dtype=self.dtype)
        return self._seen.copy_(x)

    def _counted(self, t: Tensor, x: Tensor, velocity: Tensor) -> Tensor:
        self.nfe += 1
        self.network_calls += 1 if self._cost is None else self._cost(float(t))
        if velocity.shape != x.shape:
            # Broadcasting would hide this and integrate nonsense.
            raise ValueError(f"the field returned {tuple(velocity.shape)} for x of {tuple(x.shape)}")
        # Buffers fix the dtype of the state where there are any; autograd allows none.
        return velocity.to(x.dtype) if torch.is_grad_enabled() else velocity


@dataclass(frozen=True, eq=False)
class Problem:
    """A solve, as its solver sees it.

    Attributes:
        field: the velocity, counted.
        x: (B, T, C) the start, in the dtype of the state (float32 at least). Not to be written to.
        grid: (n + 1,) float64 strictly monotone times, on the CPU.
        schedule: the path that the field belongs to.
        rng: where stochastic solvers draw.
    """

    field: Metered
    x: Tensor
    grid: Tensor
    schedule: Schedule
    rng: Rng = None

    @property
    def forward(self) -> bool:
        """Whether time runs from noise to data."""
        return bool(self.grid[0] <= self.grid[-1])

    def buffers(self, count: int) -> list[Tensor | None]:
        """Room for ``count`` states, so that loops allocate nothing; None where autograd needs new tensors."""
        if torch.is_grad_enabled():
            return [None] * count
        return [torch.empty_like(self.x) for _ in range(count)]

    def require_forward(self, solver: str) -> None:
        """Raise a `UserError` if time runs from data to noise."""
        if not self.forward:
            raise UserError(
                f"solver '{solver}' cannot run from data to noise: invert with a deterministic solver such as midpoint"
            )

    def require_rng(self, solver: str) -> None:
        """Raise a `UserError` if there is nothing to draw from."""
        if self.rng is None:
            raise UserError(f"solver '{solver}' draws noise but was given no rng: pass one, or use a solver without")
        if not isinstance(self.rng, torch.Generator) and len(self.rng) != len(self.x):
            raise ValueError(f"{len(self.rng)} generators for a batch of {len(self.x)}: pass one for each item")

    def noise(self, room: Tensor | None) -> Tensor:
        """(B, T, C) unit normal noise, in ``room`` if there is any.

        With one generator per item, an item's noise depends neither on its company nor on how many padded frames
        follow its own: every draw has a seed of its own, and a longer draw begins like a shorter one.
        """
        room = torch.empty_like(self.x) if room is None else room
        if isinstance(self.rng, torch.Generator):
            if self.rng.device == room.device:
                return room.normal_(generator=self.rng)
            drawn = torch.randn(room.shape, generator=self.rng, dtype=room.dtype, device=self.rng.device)
            return room.copy_(drawn)
        for item, rng in zip(room, self.rng or (), strict=True):
            item.copy_(_stable_noise(item, rng))
        return room


def _stable_noise(like: Tensor, rng: torch.Generator) -> Tensor:
    """Noise shaped ``like`` that takes one number from ``rng``, whatever the length."""
    if rng.device.type != "cpu":
        return torch.randn(like.shape, generator=rng, dtype=like.dtype, device=rng.device)
    seed = int(torch.randint(2**63 - 1, (), generator=rng))
    # PyTorch fills in blocks of 16 and draws the last block anew if it is not whole.
    whole = -(-like.numel() // 16) * 16
    drawn = torch.randn(whole, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)
    return drawn[: like.numel()].reshape(like.shape)
