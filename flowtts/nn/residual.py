"""Residual vector quantisation (arXiv 2107.03312, section III-C): a codebook codes what the ones before left over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.mask import masked_mean
from flowtts.nn.quantise import Gradient, Start, Update, Usage, VectorQuantiser, passed, usage


@dataclass(frozen=True, eq=False)
class Residual:
    """What residual quantisation made of a batch.

    Attributes:
        vectors: (B, T, D) sum of the code vectors.
        ids: (B, T, K) int64; codebooks that quantiser dropout left out hold -1, and so does padding.
        loss: mean of the codebooks' losses.
    """

    vectors: Tensor
    ids: Tensor
    loss: Tensor


class ResidualQuantiser(nn.Module):
    """K codebooks in a row.

    In training every item uses the first n of them, n uniform from 1 to K, with a probability of ``dropout`` (quantiser
    dropout, arXiv 2107.03312, section III-C, and its share, arXiv 2306.06546, section 3.2): one model for all bitrates.
    The deepest item of a batch uses all, so that every codebook learns from every batch and processes that train
    together never wait for one that has nothing to say.

    Args:
        width: D.
        codebooks: K.
        codes: entries of each.
        space: width in which codes are looked up, by linear maps of each codebook (factorised codes, arXiv
            2110.04627, section 3.1); 0 for D itself.
        normalise: whether codes and inputs are of unit length where they are looked up (ibidem).
        update: see ``VectorQuantiser``.
        gradient: see ``flowtts.nn.quantise.Gradient``.
        dropout: see above.
        decay, commitment, revive_after, revive_below, revive_share, start: of each codebook.
    """

    def __init__(
        self, width: int, codebooks: int = 8, codes: int = 1024, *, space: int = 0, normalise: bool = False,
        update: Update = "ema", gradient: Gradient = "straight", dropout: float = 0.5, decay: float = 0.99,
        commitment: float = 0.25, revive_after: int = 100, revive_below: float = 0.0, revive_share: float = 0.0,
        start: Start = "kmeans",
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 <= dropout <= 1 or codebooks < 1:
            raise ValueError(f"a quantiser needs a codebook and a dropout from 0 to 1, not {codebooks} and {dropout}")
        if normalise and not space:
            raise ValueError("what earlier codebooks left over has a length that matters: normalise wants a space")
        self.width, self.codes, self.space = width, codes, space
        self.gradient, self.dropout = gradient, dropout
        self.levels = nn.ModuleList()
        for _ in range(codebooks):
            book = VectorQuantiser(
                codes, space or width, update, decay, commitment, revive_after, revive_below, revive_share, start,
                gradient, normalise,
            )  # fmt: skip
            self.levels.append(Level(width, space, book))

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
        wide = x.float()
        left, total = wide, torch.zeros_like(wide)
        ids, losses = [], []
        for number, level in enumerate(self.levels):
            used = (depth > number)[:, None] & mask
            made, chosen, loss = level(left, used, rng)
            made = made * used[..., None]
            left, total = left - made, total + made
            ids.append(chosen.masked_fill(~used, -1))
            losses.append(loss)
        if not self.space:
            # One gradient for the sum: that of each level would count K times.
            total = passed(wide, total, self.gradient)
        return Residual(total.to(x.dtype), torch.stack(ids, -1), torch.stack(losses).mean())

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes of (B, T, D) as (B, T, n), n the first so many codebooks, or all.

        Raises:
            ValueError: there are not so many.
        """
        left, ids = x.float(), []
        for level in self._levels(codebooks):
            chosen = level.nearest(left)
            left = left - level.lookup(chosen)
            ids.append(chosen)
        return torch.stack(ids, -1)

    def decode(self, ids: Tensor) -> Tensor:
        """Sum of the code vectors (B, T, D) of (B, T, n) codes; those below 0 add nothing.

        Raises:
            ValueError: there are more codebooks in them than here.
        """
        vectors = []
        for number, level in enumerate(self._levels(ids.shape[-1])):
            chosen = ids[..., number]
            vectors.append(level.lookup(chosen.clamp_min(0)) * (chosen >= 0)[..., None])
        return torch.stack(vectors).sum(0)

    def _levels(self, codebooks: int | None) -> list[Level]:
        """The first so many, or all."""
        count = self.codebooks if codebooks is None else codebooks
        if not 1 <= count <= self.codebooks:
            raise ValueError(f"there are 1 to {self.codebooks} codebooks to use, not {count}")
        return cast("list[Level]", list(self.levels[:count]))

    def _depths(self, batch: int, rng: torch.Generator | None) -> Tensor:
        """(B,) how many codebooks each item uses."""
        whole = torch.full((batch,), self.codebooks)
        if not self.training or not self.dropout or rng is None:
            return whole
        some = torch.randint(1, self.codebooks + 1, (batch,), generator=rng, device=rng.device)
        drops = torch.rand(batch, generator=rng, device=rng.device) < self.dropout
        depths = torch.where(drops, some, whole.to(rng.device))
        depths[depths.argmax()] = self.codebooks
        return depths


class Level(nn.Module):
    """One codebook, with the maps into the space where its codes live and back.

    Args:
        width: D.
        space: width of the codes, or 0 for D and no maps.
        quantiser: the codebook.
    """

    def __init__(self, width: int, space: int, quantiser: VectorQuantiser) -> None:
        super().__init__()
        self.into: nn.Module = nn.Linear(width, space) if space else nn.Identity()
        self.out: nn.Module = nn.Linear(space, width) if space else nn.Identity()
        self.quantiser = quantiser

    def forward(self, x: Tensor, mask: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> code vectors (B, T, D), ids (B, T), loss. Without maps the vectors carry no gradient."""
        found = self.quantiser(self.into(x), mask, rng)
        vectors = self.out(found.vectors) if isinstance(self.out, nn.Linear) else found.vectors.detach()
        return vectors, found.ids, found.loss

    def nearest(self, x: Tensor) -> Tensor:
        """Ids (B, T) for (B, T, D)."""
        return self.quantiser.nearest(self.into(x))

    def lookup(self, ids: Tensor) -> Tensor:
        """Code vectors (B, T, D) of ids (B, T)."""
        found: Tensor = self.out(self.quantiser.lookup(ids))
        return found


@dataclass(frozen=True, eq=False)
class Split:
    """What split quantisation made of a batch.

    Attributes:
        vectors: (B, T, D) sum of both branches.
        ids: (B, T, K) int64, semantic codebooks first; below 0 as in `Residual`.
        loss: mean of the codebooks' losses.
        distillation: how far the semantic branch is from the teacher, from 0 to 2; 0 if there is none.
    """

    vectors: Tensor
    ids: Tensor
    loss: Tensor
    distillation: Tensor


class SplitResidualQuantiser(nn.Module):
    """Two residual quantisers of the same input, each behind maps of its own, and the sum of both (arXiv 2410.00037).

    The semantic one may learn to say what a teacher of speech says; as the acoustic one does not code what the other
    left over, it need not make up for that.

    Args:
        width: D.
        semantic: codes at its own width.
        acoustic: the same.
        teacher: width of a teacher's features; 0 for none.
        plain: share of a batch's items that pass unquantised in training (ibidem).
    """

    def __init__(
        self, width: int, semantic: ResidualQuantiser, acoustic: ResidualQuantiser, teacher: int = 0, plain: float = 0.0
    ) -> None:
        super().__init__()
        self.plain = plain
        self.semantic, self.acoustic = Branch(width, semantic), Branch(width, acoustic)
        self.teacher = nn.Linear(width, teacher) if teacher else None

    @property
    def codebooks(self) -> int:
        """K, of both branches."""
        return self.semantic.quantiser.codebooks + self.acoustic.quantiser.codebooks

    def forward(
        self, x: Tensor, mask: Tensor, rng: torch.Generator | None = None, target: Tensor | None = None
    ) -> Split:
        """Quantise, and learn if in training.

        Args:
            x: (B, T, D).
            mask: (B, T) bool; what is padding neither learns nor teaches.
            rng: see ``ResidualQuantiser``.
            target: (B, T, teacher) what a teacher says of the same frames; wants a teacher's width.
        """
        said, heard = self.semantic(x, mask, rng), self.acoustic(x, mask, rng)
        total = said.vectors + heard.vectors
        if self.training and self.plain and rng is not None:
            skips = torch.rand(len(x), 1, 1, generator=rng, device=rng.device) < self.plain
            total = torch.where(skips.to(x.device), x, total)
        counts = [self.semantic.quantiser.codebooks, self.acoustic.quantiser.codebooks]
        loss = (said.loss * counts[0] + heard.loss * counts[1]) / sum(counts)
        return Split(total, torch.cat([said.ids, heard.ids], -1), loss, self._distilled(said.vectors, mask, target))

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes of (B, T, D) as (B, T, n), the semantic ones first.

        Raises:
            ValueError: there are not so many, or fewer than the semantic ones.
        """
        first = self.semantic.quantiser.codebooks
        count = self.codebooks if codebooks is None else codebooks
        if not first <= count <= self.codebooks:
            raise ValueError(f"there are {first} to {self.codebooks} codebooks to use, not {count}")
        ids = self.semantic.encode(x, first)
        return ids if count == first else torch.cat([ids, self.acoustic.encode(x, count - first)], -1)

    def decode(self, ids: Tensor) -> Tensor:
        """Sum of both branches (B, T, D) of (B, T, n) codes; those below 0 add nothing.

        Raises:
            ValueError: there are more codebooks in them than here.
        """
        first = self.semantic.quantiser.codebooks
        total = self.semantic.decode(ids[..., :first])
        return total if ids.shape[-1] <= first else total + self.acoustic.decode(ids[..., first:])

    def _distilled(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        if target is None:
            return vectors.new_zeros(())
        if self.teacher is None:
            raise ValueError("this quantiser has no teacher: say how wide one's features are")
        apart = 1 - F.cosine_similarity(self.teacher(vectors).float(), target.float(), dim=-1)
        return masked_mean(apart, mask)


class Branch(nn.Module):
    """A residual quantiser behind linear maps without offsets, which are left out where the widths are equal."""

    def __init__(self, width: int, quantiser: ResidualQuantiser) -> None:
        super().__init__()
        inner = quantiser.width
        self.into: nn.Module = nn.Linear(width, inner, bias=False) if inner != width else nn.Identity()
        self.out: nn.Module = nn.Linear(inner, width, bias=False) if inner != width else nn.Identity()
        self.quantiser = quantiser

    def forward(self, x: Tensor, mask: Tensor, rng: torch.Generator | None) -> Residual:
        """(B, T, D) -> what it makes of them, vectors (B, T, D)."""
        found = self.quantiser(self.into(x), mask, rng)
        return Residual(self.out(found.vectors), found.ids, found.loss)

    def encode(self, x: Tensor, codebooks: int) -> Tensor:
        """Codes (B, T, n) of (B, T, D)."""
        return self.quantiser.encode(self.into(x), codebooks)

    def decode(self, ids: Tensor) -> Tensor:
        """(B, T, D) of codes (B, T, n)."""
        found: Tensor = self.out(self.quantiser.decode(ids))
        return found


def usages(ids: Tensor, codes: int) -> list[Usage]:
    """How evenly the codes of each codebook are used, from (…, K) ids; ids below 0 do not count."""
    found = []
    for column in ids.reshape(-1, ids.shape[-1]).T:
        found.append(usage(torch.bincount(column[column >= 0], minlength=codes)))
    return found


def bitrate(frame_rate: float, codebooks: int, codes: int) -> float:
    """Bits per second of codes that are not compressed further."""
    return frame_rate * codebooks * math.log2(codes)
