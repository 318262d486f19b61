"""Guidance: a network and a condition become a field that follows the condition more, or less, closely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from flowtts.solve.problem import Ranged
from flowtts.solve.strength import Guidance
from flowtts.types import UserError


class Conditional(Protocol):
    """What a network is told beside x and t: a frozen dataclass of tensors of B items, like `flowtts.types.Condition`.

    Networks and what they are told belong together; guidance only drops and stacks it.
    """

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, True where the frame exists."""
        ...

    @property
    def keep(self) -> Tensor:
        """(B,) bool, False where everything is dropped."""
        ...

    def null(self) -> Conditional:
        """The same with everything dropped."""
        ...


Network = Callable[[Tensor, Tensor, Any], Tensor]
"""(x (B, T, C), t (B,), its `Conditional` of B items) -> velocity (B, T, C)."""


class Prepared(Protocol):
    """A network that knows its condition of k B items: k branches of the same B utterances, branch by branch."""

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """Velocities of all branches.

        Args:
            t: scalar, float64, on the CPU.
            x: (B, T, C), the same for all branches.

        Returns:
            (k B, T, C), the caller's to write into.
        """
        ...


@runtime_checkable
class PreparedMap(Protocol):
    """A prepared network that also knows where its trajectories lead (few-step models)."""

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """As `Prepared`."""
        ...

    def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
        """The mean velocity (k B, T, C) of the trajectories through x (B, T, C) between the times t and s."""
        ...


@runtime_checkable
class Preparable(Protocol):
    """A network that computes once what depends neither on t nor on x."""

    def prepare(self, cond: Any) -> Prepared:
        """The network with this condition."""
        ...


@runtime_checkable
class Separable(Protocol):
    """A network whose text can be dropped alone, for separate guidance by text and voice."""

    def without_text(self, cond: Any) -> Any:
        """The condition with its text unknown and its prompt kept."""
        ...


_FULL, _VOICE, _NULL, _WEAK = "full", "voice", "null", "weak"

_Operation = Callable[..., Tensor]
_NEW: tuple[_Operation, _Operation, _Operation] = (torch.mul, torch.lerp, torch.add)
_IN_PLACE: tuple[_Operation, _Operation, _Operation] = (Tensor.mul_, Tensor.lerp_, Tensor.add_)


@dataclass(frozen=True, eq=False)
class GuidedField:
    """The field null + g (cond - null) and its refinements. Build it with `guided`.

    What a part of the time needs (one branch, or several as one batch) is prepared when it is first needed. Items do
    not influence one another, and statistics are of an item's real frames alone.

    Attributes:
        network: the conditional network.
        condition: of B items.
        guidance: how to guide.
        weak: a worse network that takes the place of the null condition, or None.
    """

    network: Network | Preparable
    condition: Conditional
    guidance: Guidance
    weak: Network | Preparable | None = None
    _ready: dict[tuple[str, ...], Prepared] = field(default_factory=dict, repr=False)

    def calls(self, t: float) -> int:
        """Network calls on B items that one evaluation at ``t`` costs, though most run as one batch: 0 to 3."""
        return len(self._branches(t))

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocity (B, T, C) at a scalar ``t`` (on the CPU: it decides what is run) and ``x`` (B, T, C)."""
        now = float(t)
        return self._mix(now, x, [self._prepared(part)(t, x) for part in _batches(self._branches(now))])

    def share(self, t: Tensor) -> Tensor | None:
        """Where the latest evaluation, at ``t``, puts the variance of a step: what the conditional branch says."""
        parts = _batches(self._branches(float(t)))
        first = self._prepared(parts[0]) if parts else None
        share = first.share(t) if isinstance(first, Ranged) else None
        return None if share is None else share[: len(self.condition.keep)]

    def _branches(self, t: float) -> tuple[str, ...]:
        """Those that count at ``t``, in the order in which they are stacked."""
        if t < self.guidance.zero:
            return ()
        text, voice = self.guidance.at(t)
        # null + voice (voice-only - null) + text (full - voice-only), by branch.
        shares = {_FULL: text, _VOICE: voice - text, _NULL if self.weak is None else _WEAK: 1 - voice}
        return tuple(name for name, share in shares.items() if share)

    def _prepared(self, branches: tuple[str, ...]) -> Prepared:
        if branches not in self._ready:
            conditions = [self._condition(name) for name in branches]
            network = self.weak if self.weak is not None and branches == (_WEAK,) else self.network
            self._ready[branches] = _prepare(network, _concatenate(conditions))
        return self._ready[branches]

    def _condition(self, branch: str) -> Conditional:
        if branch == _NULL:
            return self.condition.null()
        if branch == _VOICE:
            assert isinstance(self.network, Separable)
            without: Conditional = self.network.without_text(self.condition)
            return without
        return self.condition

    def _mix(self, t: float, x: Tensor, made: Sequence[Tensor]) -> Tensor:
        """The guided velocity of what the batches of `_batches` made."""
        if not made:
            return torch.zeros_like(x)
        size = len(x)
        parts = [whole[i : i + size] for whole in made for i in range(0, len(whole), size)]
        if len(parts) == 1:
            return parts[0]
        full, null, mask = parts[0], parts[-1], self.condition.mask
        branches, (text, voice) = self._branches(t), self.guidance.at(t)
        mul, lerp, add = _IN_PLACE if self._owns() else _NEW
        if self.guidance.star and branches[0] == _FULL and branches[-1] != _VOICE:
            null = mul(null, _shaped(_projection(full, null, mask), null))
        if len(parts) == 2:
            mixed = lerp(null, full, voice if branches[0] == _VOICE else text)
        else:
            mixed = lerp(null, parts[1], voice)
            # One difference and not two products, so that equal branches cancel exactly.
            mixed = add(mixed, add(mul(parts[1], -1), full), alpha=text)
        if self.guidance.rescale and branches[0] == _FULL:
            mixed = mul(mixed, _shaped(_level(full, mixed, mask, self.guidance.rescale), mixed))
        return mixed

    def _owns(self) -> bool:
        """Whether results may be written into: prepared networks give theirs away, but autograd may need them."""
        return not torch.is_grad_enabled() and not any(isinstance(part, _Plain) for part in self._ready.values())


@dataclass(frozen=True, eq=False)
class GuidedMap(GuidedField):
    """A guided field whose network also knows the mean velocity between two times."""

    def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
        """The mean velocity (B, T, C) between ``t`` and ``s`` from ``x`` (B, T, C), guided as at ``t``."""
        now, made = float(t), []
        for part in _batches(self._branches(now)):
            network = self._prepared(part)
            if not isinstance(network, PreparedMap):
                raise UserError("a few-step model cannot be guided by one that knows no mean velocities")
            made.append(network.average(t, s, x))
        return self._mix(now, x, made)


def guided(
    network: Network | Preparable,
    cond: Conditional,
    guidance: Guidance | float | str,
    weak: Network | Preparable | None = None,
) -> GuidedField:
    """Guide a network: null + g (cond - null) (arXiv 2207.12598, eq. 6, with g = 1 + w), or as `Guidance` says.

    Scale 1 is the conditional network bit for bit and 0 the unconditional one; neither runs the other branch. Where
    several branches are needed they run as one batch, whose condition is built once.

    Args:
        network: called with x, t (B,) and a condition, must drop everything where ``keep`` is False; or one that
            can be prepared with its condition.
        cond: B items.
        guidance: scale, spelling, or all of it. Voicebox's alpha is g - 1 (see `scale_of`).
        weak: a smaller or less trained network: weak + g (strong - weak), both with the condition (auto-guidance,
            arXiv 2406.02507, eq. 5). Runs as a call of its own.

    Returns:
        A field; one with `average` where the prepared network has it.

    Raises:
        UserError: a value is out of range, or the network cannot do what is asked.
    """
    how = guidance if isinstance(guidance, Guidance) else Guidance.parse(guidance)
    if how.weak and weak is None:
        raise UserError(f"guidance '{how}': this model cannot be guided by another one; leave out weak={how.weak}")
    if how.separate:
        if weak is not None:
            raise UserError(f"guidance '{how}': text and voice cannot be guided separately by a weaker model")
        if not isinstance(network, Separable):
            raise UserError(f"guidance '{how}': this model cannot tell text from voice; give one scale for both")
    made = GuidedField(network, cond, how, weak)
    # The main batch at once, so that preparing it is no part of the first evaluation.
    main = [made._prepared(part) for part in _batches(made._branches(how.middle))]
    if not main or not all(isinstance(part, PreparedMap) for part in main):
        return made
    return GuidedMap(network, cond, how, weak, made._ready)


def scale_of(alpha: float) -> float:
    """The scale g of a strength alpha in (1 + alpha) cond - alpha null.

    That is how Voicebox (alpha), Ho and Salimans (w), Tortoise (cond_free_k) and F5-TTS (cfg_strength) spell it.
    """
    return 1 + alpha


def alpha_of(scale: float) -> float:
    """The strength alpha of a scale g: the inverse of `scale_of`."""
    return scale - 1


@dataclass(frozen=True, eq=False)
class _Plain:
    """A network that cannot be prepared, with its condition of k B items."""

    network: Network
    condition: Conditional

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        times = len(self.condition.keep) // len(x)
        stacked = x if times == 1 else x.repeat(times, 1, 1)
        # Filled where it is needed: copying t from the CPU would wait for the GPU.
        at = torch.full((len(stacked),), float(t), dtype=x.dtype, device=x.device)
        return self.network(stacked, at, self.condition)


def _prepare(network: Network | Preparable, cond: Conditional) -> Prepared:
    return network.prepare(cond) if isinstance(network, Preparable) else _Plain(network, cond)


def _batches(branches: tuple[str, ...]) -> list[tuple[str, ...]]:
    """What runs together: all branches of one network."""
    own = tuple(name for name in branches if name != _WEAK)
    return [part for part in (own, branches[len(own) :]) if part]


def _concatenate(conditions: Sequence[Conditional]) -> Conditional:
    first: Any = conditions[0]
    if len(conditions) == 1:
        return conditions[0]
    stacked: Conditional = type(first)(
        *(torch.cat([getattr(cond, f.name) for cond in conditions]) for f in fields(first))
    )
    return stacked


def _inner(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """(B,) inner products of (B, T, C) over the real frames; whatever is on padding stays there, NaN too."""
    frames = torch.linalg.vecdot(_wide(a), _wide(b))
    return torch.where(mask, frames, 0.0).sum(1)


def _wide(x: Tensor) -> Tensor:
    """In float32 at least: half precision is too coarse for sums."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _deviation(x: Tensor, mask: Tensor) -> Tensor:
    """(B,) standard deviations over the real frames and all channels."""
    count = mask.sum(1) * x.shape[-1]
    mean = torch.where(mask, _wide(x).sum(-1), 0.0).sum(1) / count
    return (_inner(x, x, mask) / count - mean**2).clamp_min(0).sqrt()


def _level(full: Tensor, mixed: Tensor, mask: Tensor, rescale: float) -> Tensor:
    """(B,) factors that take a part of the way to the conditional deviation (arXiv 2305.08891, eq. 15 and 16)."""
    wanted, found = _deviation(full, mask), _deviation(mixed, mask)
    return torch.where(found > 0, 1 + rescale * (wanted / found - 1), 1.0)


def _projection(full: Tensor, null: Tensor, mask: Tensor) -> Tensor:
    """(B,) s* = <full, null> / |null|^2, the scale of null that is nearest to full (arXiv 2503.18886, CFG-Zero*)."""
    size = _inner(null, null, mask)
    return torch.where(size > 0, _inner(full, null, mask) / size, 1.0)


def _shaped(values: Tensor, like: Tensor) -> Tensor:
    """(B,) values to multiply (B, T, C) by, in its dtype."""
    return values[:, None, None].to(like.dtype)
