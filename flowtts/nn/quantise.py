"""Vector quantisation (arXiv 1711.00937): a codebook, a straight-through gradient, and codes that do not die."""

from __future__ import annotations

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

ITERATIONS = 10
"""Of k-means."""


@dataclass(frozen=True, eq=False)
class Quantised:
    """What a codebook made of a batch.

    Attributes:
        vectors: (B, N, W) code vectors; gradients pass to the input as if nothing had happened.
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


def usage(counts: Tensor) -> Usage:
    """Usage from (K,) counts."""
    shares = counts.double() / counts.sum().clamp(min=1)
    entropy = -torch.special.xlogy(shares, shares).sum()
    return Usage(float((counts > 0).double().mean()), float(entropy.exp()))


class VectorQuantiser(nn.Module):
    """A codebook.

    It begins as frames of the first batch. While it learns, a code that nothing was nearest to for ``revive_after``
    batches becomes a random frame of the batch (arXiv 2107.03312, section III-C).

    Args:
        codes: K.
        width: W.
        update: see `Update`.
        decay: of the moving averages (arXiv 1711.00937, appendix A.1).
        commitment: beta, weight of the commitment loss (its equation 3).
        revive_after: batches; 0 for never.
        start: see `Start`.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    idle: Tensor
    started: Tensor

    def __init__(
        self, codes: int, width: int, update: Update = "ema", decay: float = 0.99, commitment: float = 0.25,
        revive_after: int = 100, start: Start = "frames",
    ) -> None:  # fmt: skip
        super().__init__()
        self.codes, self.update, self.decay, self.start = codes, update, decay, start
        self.commitment, self.revive_after = commitment, revive_after
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
        return F.embedding(ids, self.codebook)

    def nearest(self, x: Tensor) -> Tensor:
        """Ids (…) of the codes nearest to x (…, W), in float32."""
        flat = x.detach().reshape(-1, x.shape[-1]).float()
        book = self.codebook.detach().float()
        with torch.autocast(x.device.type, enabled=False):
            # The squared distance less |x|^2, which is the same for all codes.
            far = torch.addmm((book**2).sum(1)[None], flat, book.T, alpha=-2)
        return far.argmin(1).reshape(x.shape[:-1])

    def forward(self, x: Tensor, mask: Tensor, rng: torch.Generator | None = None) -> Quantised:
        """Quantise, and learn if in training.

        Args:
            x: (B, N, W).
            mask: (B, N) bool; what is padding neither learns nor teaches.
            rng: chooses frames for the first codebook and for dead codes; needed in training.
        """
        if self.training and rng is not None:
            self._start(x, mask, rng)
        ids = self.nearest(x)
        vectors = self.lookup(ids)
        wide = x.float()
        loss = self.commitment * masked_mean((wide - vectors.detach()) ** 2, mask)
        if self.update == "gradient":
            loss = loss + masked_mean((wide.detach() - vectors) ** 2, mask)
        if self.training:
            self._learn(wide.detach(), ids, mask, rng)
        return Quantised((wide + (vectors - wide).detach()).to(x.dtype), ids, loss)

    @torch.no_grad()
    def _start(self, x: Tensor, mask: Tensor, rng: torch.Generator) -> None:
        if bool(self.started):
            return
        frames = self._frames(x, mask, self.codes, rng)
        if self.start == "kmeans":
            frames = kmeans(x[mask].float(), frames)
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
        if self.revive_after and rng is not None:
            dead = self.idle >= self.revive_after
            if bool(dead.any()):
                self._put(dead, self._frames(x, mask, int(dead.sum()), rng))

    def _put(self, where: Tensor, frames: Tensor) -> None:
        """New vectors for the codes in ``where`` (K,), which begin with the weight of one frame."""
        self.codebook.data[where] = frames.to(self.codebook.dtype)
        self.idle[where] = 0
        if self.update == "ema":
            self.counts[where] = 1.0
            self.sums[where] = frames.to(self.sums.dtype)

    def _frames(self, x: Tensor, mask: Tensor, count: int, rng: torch.Generator) -> Tensor:
        """(count, W) random real frames; the same on all processes."""
        real = x[mask].float()
        picked = torch.randint(len(real), (count,), generator=rng, device=rng.device).to(real.device)
        frames = real[picked]
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
