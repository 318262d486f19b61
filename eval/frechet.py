"""Fréchet speech distance (FSD, arXiv 2306.15687, section 5.1): whether a set varies as real speech does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowtts.types import Audio, Item, Samples, Score

from .bootstrap import LEVEL, NOTHING, Interval
from .judging import Progress, UnjudgeableError, item_names, judged, no_progress, score
from .similarity import SpeakerEncoder

DIMENSIONS = 128
"""Principal components of the real set that are kept."""

RESAMPLES = 200
FEWEST = 3
"""Recordings on either side."""


@dataclass(eq=False)
class FrechetSpeechDistance:
    """Distance of the Gaussians that fit the items' audio and their references: 0 is the same; squared units.

    Every distinct reference counts once; they need not say the same as the items, nor be as many. Sets of few
    recordings are further apart for that alone, so compare only values over equally many. Spaces do not compare with
    each other: ``fsd`` sees a speaker encoder's space, which knows voices and little else; ``fsd-wav2vec2`` is
    the published one.

    Attributes:
        name: of the metric.
        encoder: whose space it is.
        progress: called per recording.
        seed: of the interval.
    """

    name: str
    encoder: SpeakerEncoder
    progress: Progress = no_progress
    seed: int = 0
    higher_is_better: bool = False

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; the score has no values by item."""
        embed = self.encoder.open()
        made: list[Tensor] = []
        dropped: dict[str, str] = {}
        real = list({id(item.reference): item.reference for item in items if item.reference is not None}.values())
        total = len(items) + len(real)
        for done, (name, item) in enumerate(zip(item_names(items), items, strict=True)):
            self.progress(self.name, done, total)
            try:
                made.append(embed(judged(item.audio)).double())
            except UnjudgeableError as error:
                dropped[name] = str(error)
        wanted = [self._real(embed, audio, len(items) + done, total) for done, audio in enumerate(real)]
        known = [vector for vector in wanted if vector is not None]
        self.progress(self.name, total, total)
        if len(made) < FEWEST or len(known) < FEWEST:
            reason = f"FSD needs {FEWEST} recordings and {FEWEST} different references"
            return score(NOTHING, {}, {name: dropped.get(name, reason) for name in item_names(items)}, self.backend)
        interval = frechet_interval(torch.stack(made), torch.stack(known), self.seed)
        return replace(score(interval, {}, dropped, self.backend), count=len(made))

    @property
    def backend(self) -> str:
        """The space, and what is done in it."""
        return f"{self.encoder.backend}, up to {DIMENSIONS} principal components"

    def _real(self, embed: Callable[[Samples], Tensor], audio: Audio, done: int, total: int) -> Tensor | None:
        self.progress(self.name, done, total)
        try:
            return embed(judged(audio, "the reference")).double()
        except UnjudgeableError:
            return None


def principal(real: Tensor, dimensions: int = DIMENSIONS) -> Tensor:
    """(E, D) directions in which (N, E) vectors vary most; D is at most N - 1."""
    _, _, directions = torch.linalg.svd(real - real.mean(0), full_matrices=False)
    kept: Tensor = directions[: max(1, min(dimensions, len(real) - 1))]
    return kept.T


def frechet(made: Tensor, real: Tensor) -> float:
    """|mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)), S the covariances with N - 1.

    With S = A A^T and S' = B B^T, where A and B hold the centred vectors as columns, the trace of the square root is
    the sum of the singular values of A^T B: no square root of a singular matrix is needed.

    Args:
        made: (N, D), N at least 2.
        real: (M, D), M at least 2.
    """
    means = made.mean(0), real.mean(0)
    left, right = (made - means[0]) / (len(made) - 1) ** 0.5, (real - means[1]) / (len(real) - 1) ** 0.5
    cross = torch.linalg.svdvals(left @ right.T).sum()
    return float((means[0] - means[1]).square().sum() + left.square().sum() + right.square().sum() - 2 * cross)


def frechet_interval(made: Tensor, real: Tensor, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The distance in the real set's principal components, and its interval over both sets resampled.

    A resampled set repeats recordings and so spreads less: its distances are all too great. The interval is therefore
    that of the resampled distances moved to lie around the value.
    """
    basis = principal(real)
    made, real = made @ basis, real @ basis
    value = frechet(made, real)
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.tensor(
        [frechet(*(x[torch.randint(len(x), (len(x),), generator=rng)] for x in (made, real))) for _ in range(resamples)]
    )
    edges = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = (torch.quantile(drawn, edges) - drawn.mean()).tolist()
    return Interval(value, max(0.0, value + low), value + high)
