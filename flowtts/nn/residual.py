"""Residual vector quantisation (arXiv 2107.03312, section III-C): codebooks that each code what the ones before left over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from flowtts.nn.quantise import Start, Update, Usage, VectorQuantiser, usage

Gradient = Literal["straight", "rotation"]
"""How a gradient passes the codes: unchanged (arXiv 1711.00937), or turned as the codes turn (arXiv 2410.06424)."""


@dataclass(frozen=True, eq=False)
class Residual:
    """What residual quantisation made of a batch.

    Attributes:
        vectors: (B, T, D) sum of the code vectors.
        ids: (B, T, K) int64; codebooks that quantiser dropout left out hold -1.
        loss: mean of the codebooks' losses.
    """

    vectors: Tensor
    ids: Tensor
    loss: Tensor


class ResidualQuantiser(nn.Module):
    """K codebooks in a row.

    In training every item uses the first n of them, n uniform from 1 to K, with a probability of ``dropout`` (quantiser
    dropout, arXiv 2107.03312, section III-C, and its share, arXiv 2306.06546, section 3.2): one model for all bitrates.

    Args:
        width: D.
        codebooks: K.
        codes: entries of each.
        space: width in which codes are looked up, by linear maps of each codebook (factorised codes, arXiv
            2110.04627, section 3.1); 0 for D itself.
        normalise: whether codes and inputs are of unit length where they are looked up (ibidem).
        update: see ``VectorQuantiser``; factorised codes learn by gradient.
        gradient: see ``Gradient``.
        dropout: see above.
        decay, commitment, revive_after, start: of each codebook.
    """

    def __init__(
        self, width: int, codebooks: int = 8, codes: int = 1024, *, space: int = 0, normalise: bool = False,
        update: Update = "ema", gradient: Gradient = "straight", dropout: float = 0.5, decay: float = 0.99,
        commitment: float = 0.25, revive_after: int = 100, start: Start = "kmeans",
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 <= dropout <= 1 or codebooks < 1:
            raise ValueError(f"a quantiser needs a codebook and a dropout from 0 to 1, not {codebooks} and {dropout}")
        self.gradient, self.dropout, self.codes = gradient, dropout, codes
        self.levels = nn.ModuleList(
            Level(width, codes, space, normalise, update, decay, commitment, revive_after, start)
            for _ in range(codebooks)
        )

    @property
    def codebooks(self) -> int:
        """K."""
        return len(self.levels)

    def forward(self, x: Tensor, mask: Tensor, rng: torch.Generator | None = None) -> Residual:
        """Quantise, and learn if in training.

        Args:
            x: (B, T, D).
            mask: (B, T) bool; what is padding neither learns nor teaches.
            rng: of dropout, first codebooks and dead codes; needed in training.
        """
        depth = self._depths(len(x), rng).to(x.device)
        left, total = x, torch.zeros_like(x)
        ids, losses = [], []
        for number, level in enumerate(self.levels):
            used = (depth > number)[:, None] & mask
            if not bool(used.any()):
                ids.append(torch.full(mask.shape, -1, dtype=torch.long, device=x.device))
                continue
            made, chosen, loss = level(left, used, rng)
            made = made * used[..., None]
            left, total = left - made, total + made
            ids.append(chosen.masked_fill(~used, -1))
            losses.append(loss)
        if not self.projected:
            # One gradient for the sum: that of each level would count K times.
            total = rotate(x, total) if self.gradient == "rotation" else x + (total - x).detach()
        return Residual(total, torch.stack(ids, -1), torch.stack(losses).mean())

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes of (B, T, D) as (B, T, n), n the first so many codebooks, or all."""
        left, ids = x, []
        for level in self.levels[: self._count(codebooks)]:
            chosen = level.nearest(left)
            left = left - level.lookup(chosen)
            ids.append(chosen)
        return torch.stack(ids, -1)

    def decode(self, ids: Tensor) -> Tensor:
        """Sum of the code vectors (B, T, D) of (B, T, n) codes.

        Raises:
            ValueError: there are more codebooks in them than here.
        """
        count = self._count(ids.shape[-1])
        vectors = [level.lookup(ids[..., number]) for number, level in enumerate(self.levels[:count])]
        return torch.stack(vectors).sum(0)

    @property
    def projected(self) -> bool:
        """Whether codes live in a space of their own."""
        return isinstance(self.levels[0].into, nn.Linear)

    def _count(self, codebooks: int | None) -> int:
        count = self.codebooks if codebooks is None else codebooks
        if not 1 <= count <= self.codebooks:
            raise ValueError(f"there are 1 to {self.codebooks} codebooks to use, not {count}")
        return count

    def _depths(self, batch: int, rng: torch.Generator | None) -> Tensor:
        """(B,) how many codebooks each item uses."""
        whole = torch.full((batch,), self.codebooks, dtype=torch.long)
        if not self.training or not self.dropout or rng is None:
            return whole
        device = rng.device
        some = torch.randint(1, self.codebooks + 1, (batch,), generator=rng, device=device)
        drops = torch.rand(batch, generator=rng, device=device) < self.dropout
        return torch.where(drops, some, whole.to(device)).cpu()


class Level(nn.Module):
    """One codebook, with the maps into the space where its codes live and back."""

    def __init__(
        self, width: int, codes: int, space: int, normalise: bool, update: Update, decay: float, commitment: float,
        revive_after: int, start: Start,
    ) -> None:  # fmt: skip
        super().__init__()
        self.normalise = normalise
        self.into: nn.Module = nn.Linear(width, space) if space else nn.Identity()
        self.out: nn.Module = nn.Linear(space, width) if space else nn.Identity()
        self.quantiser = VectorQuantiser(codes, space or width, update, decay, commitment, revive_after, start)

    def forward(self, x: Tensor, mask: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> code vectors (B, T, D), ids (B, T), loss. Without maps the vectors carry no gradient."""
        found = self.quantiser(self._unit(self.into(x)), mask, rng)
        vectors = self.out(found.vectors) if isinstance(self.out, nn.Linear) else found.vectors.detach()
        return vectors, found.ids, found.loss

    def nearest(self, x: Tensor) -> Tensor:
        """Ids (B, T) for (B, T, D)."""
        return self.quantiser.nearest(self._unit(self.into(x)))

    def lookup(self, ids: Tensor) -> Tensor:
        """Code vectors (B, T, D) of ids (B, T)."""
        found: Tensor = self.out(self._unit(self.quantiser.lookup(ids)))
        return found

    def _unit(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, dim=-1) if self.normalise else x


def rotate(x: Tensor, q: Tensor) -> Tensor:
    """q with the gradient that x would have had, turned and scaled as q is to x (arXiv 2410.06424, equation 4).

    Args:
        x: (…, D) what was quantised.
        q: (…, D) what it became.
    """
    with torch.no_grad():
        size = x.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        to = q.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        e, c = x / size, q / to
        middle = nn.functional.normalize(e + c, dim=-1)
    turned = x - 2 * (x * middle).sum(-1, keepdim=True) * middle + 2 * (x * e).sum(-1, keepdim=True) * c
    turned = turned * (to / size)
    # The value is q's to the last digit; only the gradient is the rotation's.
    return turned + (q - turned).detach()


def usages(ids: Tensor, codes: int) -> list[Usage]:
    """How evenly the codes of each codebook are used, from (…, K) ids; ids below 0 do not count."""
    found = []
    for column in ids.reshape(-1, ids.shape[-1]).T:
        found.append(usage(torch.bincount(column[column >= 0], minlength=codes)))
    return found


def bitrate(frame_rate: float, codebooks: int, codes: int) -> float:
    """Bits per second of codes that are not compressed further."""
    return frame_rate * codebooks * math.log2(codes)
