"""Which utterances make up batch number i: a pure function of the corpus, a seed and i."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_BUCKETS = 24
_JOIN, _ORDER, _ENTRY = 1, 2, 3
"""Purposes of random numbers, so that no two draws share a seed."""


@dataclass(frozen=True)
class Entry:
    """One item of a batch.

    Attributes:
        members: indices of one utterance, or of two to be joined.
        seed: for the random choices within the item (where to crop).
    """

    members: tuple[int, ...]
    seed: tuple[int, ...]


def join_pairs(
    frames: Sequence[int], speakers: Sequence[str | None], share: float, max_frames: int, seed: int
) -> list[tuple[int, ...]]:
    """Utterances and pairs of them, covering each utterance once.

    Args:
        frames: length of each utterance.
        speakers: who speaks; utterances of an unknown speaker (None) stay alone.
        share: of a speaker's utterances that are offered for joining.
        max_frames: pairs longer than this are not made.
        seed: decides who is paired; the pairs are the same in every epoch, so that the number of batches is, too.
    """
    rng = np.random.default_rng((seed, _JOIN))
    groups: dict[str, list[int]] = {}
    for index, speaker in enumerate(speakers):
        if speaker is not None:
            groups.setdefault(speaker, []).append(index)
    partner: dict[int, int] = {}
    for speaker in sorted(groups):
        members = rng.permutation(groups[speaker])
        offered = members[: round(share * len(members))]
        for a, b in zip(offered[0::2].tolist(), offered[1::2].tolist(), strict=False):
            if frames[a] + frames[b] <= max_frames:
                partner[a], partner[b] = b, -1
    return [(i,) if i not in partner else (i, partner[i]) for i in range(len(frames)) if partner.get(i, 0) >= 0]


class BatchPlan:
    """Batches of utterances of similar length.

    Entries are put into buckets of similar length once; each epoch shuffles every bucket, cuts it into batches and
    shuffles these. A bucket's batch size is fixed, so that all epochs have the same number of batches and any batch
    of any epoch can be named without going through those before it.
    """

    def __init__(
        self,
        frames: Sequence[int],
        *,
        max_frames_per_batch: int,
        seed: int,
        max_frames: int,
        speakers: Sequence[str | None] | None = None,
        join: float = 0.0,
    ) -> None:
        """Plan.

        Args:
            frames: length of each utterance.
            max_frames_per_batch: padded frames of a batch, at most (one item may exceed it).
            seed: of all choices.
            max_frames: longer entries are cropped to this.
            speakers: needed for ``join``.
            join: share of utterances offered for joining.
        """
        if not len(frames):
            raise ValueError("no utterances to plan batches of")
        names = speakers if speakers is not None else [None] * len(frames)
        self.seed = seed
        self.members = join_pairs(frames, names, join, max_frames, seed)
        lengths = np.array([min(sum(frames[i] for i in m), max_frames) for m in self.members])
        order = np.argsort(lengths, kind="stable")
        self.buckets = [b for b in np.array_split(order, min(_BUCKETS, -(-len(order) // 8))) if len(b)]
        self.sizes = [max(1, int(max_frames_per_batch // max(1, lengths[b].max()))) for b in self.buckets]
        counts = [-(-len(b) // size) for b, size in zip(self.buckets, self.sizes, strict=True)]
        self.per_epoch = sum(counts)
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def batch(self, index: int) -> list[Entry]:
        """The entries of batch ``index`` >= 0."""
        epoch, place = divmod(index, self.per_epoch)
        chosen = self._epoch(epoch)[place]
        return [Entry(self.members[i], (self.seed, _ENTRY, epoch, int(i))) for i in chosen]

    def _shuffled(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng((self.seed, _ORDER, epoch))
        batches: list[NDArray[np.int64]] = []
        for bucket, size in zip(self.buckets, self.sizes, strict=True):
            shuffled = rng.permutation(bucket)
            batches += [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
        return [batches[i] for i in rng.permutation(len(batches))]
