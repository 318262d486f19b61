"""Random crops of many recordings, decoded once: what a vocoder trains on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowtts.audio.io import read, resample
from flowtts.types import PathLike, UserError

_PEAK = 32767.0


@dataclass(frozen=True)
class Source:
    """A recording to train on.

    Attributes:
        audio: its file.
        weight: how often a second of it is drawn, relative to the others.
    """

    audio: Path
    weight: float = 1.0


def read_list(path: PathLike) -> list[Source]:
    """Read a list of recordings.

    Args:
        path: text, one path a line, or JSONL with ``audio`` and, optionally, ``weight``. Relative paths start at the
            list's folder; empty lines are skipped.

    Raises:
        UserError: the list is missing, empty or broken, with the line's number.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such list; give a file with one sound file a line")
    sources = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line) if line.lstrip().startswith("{") else {"audio": line.strip()}
            source = Source(path.parent / row["audio"], float(row.get("weight", 1.0)))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f'{path}, line {number}: needs {{"audio": path, "weight": number}} or a bare path'
            ) from error
        if not 0 <= source.weight < float("inf"):
            raise UserError(f"{path}, line {number}: the weight must be a number of at least 0")
        sources.append(source)
    if not sources:
        raise UserError(f"{path}: lists no sound files")
    return sources


class Clips:
    """Recordings as 16-bit samples in one memory-mapped file; crops are drawn in proportion to weight and length."""

    def __init__(self, samples: NDArray[np.int16], starts: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        """Take samples laid end to end.

        Args:
            samples: (N,) all recordings.
            starts: (R + 1,) where each begins, and N.
            weights: (R,) weight of a second of each.
        """
        self.samples = samples
        self.starts = starts
        chance = weights * np.diff(starts)
        if not chance.sum() > 0:
            raise UserError("the training list gives every recording the weight 0")
        self._edges = np.cumsum(chance / chance.sum())

    def draw(self, rng: np.random.Generator, count: int, length: int, gain_db: float) -> Tensor:
        """Crops at random places, in random polarity.

        Args:
            rng: where the chance comes from.
            count: B.
            length: samples of each; shorter recordings are followed by silence.
            gain_db: each crop is amplified by up to this much or attenuated by up to twice that, never past 1.

        Returns:
            (B, length) float32.
        """
        batch = np.zeros((count, length), dtype=np.float32)
        for row in batch:
            which = min(int(np.searchsorted(self._edges, rng.random(), side="right")), len(self._edges) - 1)
            start, end = int(self.starts[which]), int(self.starts[which + 1])
            start += int(rng.integers(max(end - start - length, 0) + 1))
            piece = self.samples[start : min(start + length, end)].astype(np.float32) / _PEAK
            gain = 10.0 ** (rng.uniform(-2 * gain_db, gain_db) / 20)
            peak = float(np.abs(piece).max(initial=1e-9))
            row[: len(piece)] = piece * (min(gain, max(1.0, 0.99 / peak)) * (1.0 if rng.random() < 0.5 else -1.0))
        return torch.from_numpy(batch)


def load_clips(
    sources: Sequence[Source], sample_rate: int, cache: Path, report: Callable[[str], None] = lambda _: None
) -> Clips:
    """Decode recordings once into ``cache`` and map it; the next call with the same list only maps.

    Args:
        sources: what to decode; several channels are averaged, other rates resampled.
        sample_rate: Hz.
        cache: folder for two files.
        report: told about progress.

    Raises:
        UserError: a recording cannot be read.
    """
    name = hashlib.sha256(repr((sample_rate, [(str(s.audio), s.weight) for s in sources])).encode()).hexdigest()[:12]
    data, index = cache / f"{name}.i16", cache / f"{name}.json"
    if not index.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        starts = [0]
        part = data.with_suffix(".part")
        with open(part, "wb") as file:
            for number, source in enumerate(sources):
                audio = resample(read(source.audio).mono(), sample_rate)
                np.round(audio.samples.clip(-1, 1) * _PEAK).astype(np.int16).tofile(file)
                starts.append(starts[-1] + len(audio.samples))
                if number % 200 == 199:
                    report(f"decoded {number + 1} of {len(sources)} recordings")
        os.replace(part, data)
        index.write_text(json.dumps(starts), encoding="utf-8")
    samples = np.memmap(data, dtype=np.int16, mode="r")
    weights = np.array([s.weight for s in sources], dtype=np.float64)
    return Clips(samples, np.array(json.loads(index.read_text(encoding="utf-8")), dtype=np.int64), weights)
