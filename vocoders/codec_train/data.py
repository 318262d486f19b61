"""Recordings of lists and of manifests, and what a codec hears of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowtts.data.manifest import read_cuts
from flowtts.types import PathLike, UserError

from ..clips import Clips, Source, load_clips, read_list


def sources(paths: Sequence[PathLike]) -> list[Source]:
    """Recordings to learn from.

    Args:
        paths: lists as ``clips.read_list`` reads them, and manifests as ``flowtts prepare`` makes them, whose
            recordings count once and whole, however they were cut.

    Raises:
        UserError: one is missing, broken or empty.
    """
    found: list[Source] = []
    for path in map(Path, paths):
        found += _recordings(path) if path.is_dir() or path.name.endswith(".jsonl.gz") else read_list(path)
    return found


def _recordings(path: Path) -> list[Source]:
    kept = dict.fromkeys(Path(item.cut.recording.sources[0].source) for item in read_cuts(path))
    if not kept:
        raise UserError(f"{path}: lists no recordings")
    return [Source(audio) for audio in kept]


def read_clips(
    paths: Sequence[PathLike], sample_rate: int, cache: Path, report: Callable[[str], None] = lambda _: None
) -> Clips:
    """The recordings of lists and manifests, decoded once into ``cache``."""
    return load_clips(sources(paths), sample_rate, cache, report)


class Crops:
    """Batches that are functions of their index; meets ``flowtts.train.Batches``."""

    def __init__(self, clips: Clips, batch: int, samples: int, gain_db: float, seed: int) -> None:
        self.clips, self.batch, self.samples, self.gain_db, self.seed = clips, batch, samples, gain_db, seed

    def __call__(self, start: int, stride: int = 1) -> Iterator[Tensor]:
        """Batches start, start + stride, … of (batch, samples) each."""
        return (self[index] for index in count(start, stride))

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.default_rng([self.seed, index])
        return self.clips.draw(rng, self.batch, self.samples, self.gain_db)


@torch.no_grad()
def measure(latents: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> tuple[Tensor, Tensor] | None:
    """Statistics of latents.

    Args:
        latents: (B, 1, N) samples -> (B, T, D).
        batches: of samples (B, N), as loud as they were recorded.

    Returns:
        Mean and deviation (D,) over all frames, 1 for a dimension that says nothing; or None of no batches.
    """
    found = [latents(batch[:, None]).flatten(0, 1).double() for batch in batches]
    if not found:
        return None
    made = torch.cat(found)
    deviation = made.std(0, correction=0)
    return made.mean(0).float(), torch.where(deviation > 1e-6, deviation, 1.0).float()
