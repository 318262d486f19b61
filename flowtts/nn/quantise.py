"""Vector quantisation (arXiv 1711.00937): a codebook, a straight-through gradient, and codes that do not die."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.mask import masked_mean

Update = Literal["ema", "gradient"]
"""How a codebook learns: from moving averages of what its codes stand for, or by its own loss."""

Start = Literal["frames", "kmeans"]
"""What a codebook begins as: random frames of the first batch, or their clusters (arXiv 2107.03312, section III-C)."""

Gradient = Literal["straight", "rotation"]
"""How a gradient passes the codes: unchanged (arXiv 1711.00937), or turned as the codes turn (arXiv 2410.06424)."""

ITERATIONS = 10
"""Of k-means."""


@dataclass(frozen=True, eq=False)
class Quantised:
    """What a codebook made of a batch.

    Attributes:
        vectors: (B, N, W) code vectors; gradients pass to the input, see `Gradient`.
        ids: (B, N) int64.
        loss: commitment loss, with the codebook's own where it learns by gradient.
    """

    vectors: Tensor
    ids: Tensor
    loss: Tensor


@dataclass(frozen=True)
class Usage:
    """How evenly codes are used.

    Attributes:
        share: of the codebook that is used at all.
        perplexity: exp of the entropy of the codes' frequencies: how many equally frequent codes would be as diverse.
    """

    share: float
    perplexity: float

    @property
    def bits(self) -> float:
        """The entropy itself: what a code costs on average if frequent ones are written shorter."""
        return math.log2(self.perplexity)


def usage(counts: Tensor) -> Usage:
    """Usage from (K,) counts."""
    shares = counts.double() / counts.sum().clamp(min=1)
    entropy = -torch.special.xlogy(shares, shares).sum()
    return Usage(float((counts > 0).double().mean()), float(entropy.exp()))


class VectorQuantiser(nn.Module):
    """A codebook.

    It begins as frames of the first batch. While it learns, a dead code becomes a random frame of the batch (arXiv
    2107.03312, section III-C).

    Args:
        codes: K.
        width: W.
        update: see `Update`.
        decay: of the moving averages (arXiv 1711.00937, appendix A.1).
        commitment: beta, weight of the commitment loss (its equation 3).
        revive_after: batches after which a code that nothing was nearest to is dead; 0 for never.
        revive_below: moving average of a code's frames in a batch below which it is dead (2 in arXiv 2107.03312);
            0 for never. Wants a codebook of moving averages.
        revive_share: the same as a share of what each code would have if all had as much (0.1 in Mimi).
        start: see `Start`.
        gradient: see `Gradient`.
        normalise: codes and frames are of unit length wherever they are compared, returned or learnt from, so that
            the nearest code is that of the largest cosine (arXiv 2110.04627, section 3.1).
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    idle: Tensor
    started: Tensor

    def __init__(
        self, codes: int, width: int, update: Update = "ema", decay: float = 0.99, commitment: float = 0.25,
        revive_after: int = 100, revive_below: float = 0.0, revive_share: float = 0.0, start: Start = "frames",
        gradient: Gradient = "straight", normalise: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if (revive_below or revive_share) and update != "ema":
            raise ValueError(
                "only a codebook of moving averages counts its frames: others revive_after so many batches"
            )
        self.codes, self.update, self.decay, self.start = codes, update, decay, start
        self.commitment, self.revive_after, self.revive_below = commitment, revive_after, revive_below
        self.revive_share, self.gradient, self.normalise = revive_share, gradient, normalise
        first = torch.randn(codes, width) / width**0.5
        if update == "gradient":
            self.codebook = nn.Parameter(first)
        else:
            self.register_buffer("codebook", first)
            self.register_buffer("counts", torch.zeros(codes))
            self.register_buffer("sums", torch.zeros(codes, width))
        self.register_buffer("idle", torch.zeros(codes, dtype=torch.long))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def lookup(self, ids: Tensor) -> Tensor:
        """Code vectors (…, W) of ids (…)."""
        return self._unit(F.embedding(ids, self.codebook))

    def nearest(self, x: Tensor) -> Tensor:
        """Ids (…) of the codes nearest to x (…, W), in float32."""
        flat = x.detach().reshape(-1, x.shape[-1]).float()
        book = self._unit(self.codebook.detach().float())
        with torch.autocast(x.device.type, enabled=False):
            # The squared distance less |x|^2, which is the same for all codes.
            far = torch.addmm((book**2).sum(1)[None], self._unit(flat), book.T, alpha=-2)
        return far.argmin(1).reshape(x.shape[:-1])

    def forward(self, x: Tensor, mask: Tensor, rng: torch.Generator | None = None) -> Quantised:
        """Quantise, and learn if in training.

        Args:
            x: (B, N, W).
            mask: (B, N) bool; what is padding neither learns nor teaches.
            rng: chooses frames for the first codebook and for dead codes; needed in training.
        """
        wide = self._unit(x.float())
        if self.training and rng is not None:
            self._start(wide, mask, rng)
        ids = self.nearest(wide)
        vectors = self.lookup(ids)
        loss = self.commitment * masked_mean((wide - vectors.detach()) ** 2, mask)
        if self.update == "gradient":
            loss = loss + masked_mean((wide.detach() - vectors) ** 2, mask)
        if self.training:
            self._learn(wide.detach(), ids, mask, rng)
        return Quantised(passed(wide, vectors, self.gradient).to(x.dtype), ids, loss)

    def _unit(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if self.normalise else x

    @torch.no_grad()
    def _start(self, x: Tensor, mask: Tensor, rng: torch.Generator) -> None:
        if bool(self.started):
            return
        frames = self._frames(x, mask, self.codes, rng)
        if self.start == "kmeans":
            frames = _agreed(kmeans(x[mask], frames))
        self._put(torch.ones(self.codes, dtype=torch.bool, device=x.device), frames)
        self.started.fill_(True)

    @torch.no_grad()
    def _learn(self, x: Tensor, ids: Tensor, mask: Tensor, rng: torch.Generator | None) -> None:
        chosen, real = ids[mask], x[mask]
        counts = torch.bincount(chosen, minlength=self.codes).to(real.dtype)
        sums = torch.zeros(self.codes, x.shape[-1], device=x.device, dtype=real.dtype).index_add_(0, chosen, real)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(sums)
        if self.update == "ema":
            self.counts.lerp_(counts, 1 - self.decay)
            self.sums.lerp_(sums, 1 - self.decay)
            # Laplace smoothing (arXiv 1711.00937, appendix A.1), so that rare codes do not jump.
            total = self.counts.sum()
            smooth = (self.counts + 1e-5) / (total + self.codes * 1e-5) * total
            self.codebook.copy_(torch.where(self.counts[:, None] > 0, self.sums / smooth[:, None], self.codebook))
        self.idle.copy_(torch.where(counts > 0, 0, self.idle + 1))
        dead = torch.zeros_like(self.idle, dtype=torch.bool)
        if self.revive_after:
            dead |= self.idle >= self.revive_after
        if self.update == "ema":
            dead |= self.counts < self._least()
        if rng is not None and bool(dead.any()):
            self._put(dead, self._frames(x, mask, int(dead.sum()), rng))

    def _least(self) -> float:
        """What a code must have in the moving average of counts to live."""
        return max(self.revive_below, self.revive_share * float(self.counts.mean()))

    def _put(self, where: Tensor, frames: Tensor) -> None:
        """New vectors for the codes in ``where`` (K,), with the weight of one frame, or as much as lets them live."""
        self.codebook.data[where] = frames.to(self.codebook.dtype)
        self.idle[where] = 0
        if self.update == "ema":
            weight = max(1.0, self._least())
            self.counts[where] = weight
            self.sums[where] = weight * frames.to(self.sums.dtype)

    def _frames(self, x: Tensor, mask: Tensor, count: int, rng: torch.Generator) -> Tensor:
        """(count, W) random real frames, different ones if there are so many; the same on all processes."""
        real = x[mask].float()
        if count <= len(real):
            picked = torch.randperm(len(real), generator=rng, device=rng.device)[:count]
        else:
            picked = torch.randint(len(real), (count,), generator=rng, device=rng.device)
        return _agreed(real[picked.to(real.device)])


def passed(x: Tensor, q: Tensor, gradient: Gradient = "straight") -> Tensor:
    """What x became, with a gradient to x.

    Args:
        x: (…, D) what was quantised.
        q: (…, D) what it became.
        gradient: see `Gradient`.
    """
    if gradient == "straight":
        return x + (q - x).detach()
    with torch.no_grad():
        size = x.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        to = q.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        e, c = x / size, q / to
        middle = F.normalize(e + c, dim=-1)
    # Equation 4: a reflection to the middle of both, one to the code, and their ratio of lengths.
    turned = x - 2 * (x * middle).sum(-1, keepdim=True) * middle + 2 * (x * e).sum(-1, keepdim=True) * c
    turned = turned * (to / size)
    # The value is q's to the last digit; only the gradient is the rotation's.
    out: Tensor = turned + (q - turned).detach()
    return out


def _agreed(frames: Tensor) -> Tensor:
    """The first process' frames, on all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast(frames, 0)
    return frames


def kmeans(points: Tensor, centres: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Lloyd's algorithm; a centre that nothing is nearest to stays where it is.

    Args:
        points: (N, W).
        centres: (K, W) to begin with.
        iterations: how often.

    Returns:
        (K, W) centres.
    """
    for _ in range(iterations):
        nearest = torch.cdist(points, centres).argmin(1)
        counts = torch.bincount(nearest, minlength=len(centres)).to(points.dtype)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
    return centres
