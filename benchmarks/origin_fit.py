"""Clips that the classifier of generated speech is fitted to and measured on, and the fitting."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from origin_channels import CONDITIONS, RATE, as_recorded, disturb
from origin_data import COUNTS, ENGINE, MODELS, Recording, number
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from flowtts.audio.io import read, replacing, resample
from flowtts.origin.features import Spectra, speech
from flowtts.origin.network import OriginConfig, OriginNetwork
from flowtts.types import Samples, UserError

RECORDED = "recorded"
AS_MADE = "as made"
"""A condition of generated speech alone: not even through the recordings' codec."""

FAMILIES: Mapping[str, frozenset[str]] = {
    "voicebox": frozenset(kind for kind in MODELS if kind.startswith("voicebox")),
    "tortoise": frozenset({"tortoise-small"}),
    "models": frozenset(MODELS),
    "vocos": frozenset({"copy-vocos", "copy-vocos-bare"} | {k for k, m in MODELS.items() if m.vocoder == "vocos"}),
    "griffin-lim": frozenset({"copy-griffin-lim", "voicebox-griffin-lim"}),
    "world": frozenset({"copy-world"}),
}
"""What can be held out together."""

_SECONDS = 4.0
_CROPS = (1.0, 2.0, 3.0)
"""Seconds of the clips of a batch."""

_VARIANTS = {"train": 2, "valid": 1}


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips of one kind under one condition.

    Attributes:
        samples: (n, 4 s) int16, zeros behind shorter ones.
        lengths: (n,) samples.
        speakers: n names.
    """

    samples: NDArray[np.int16]
    lengths: NDArray[np.int64]
    speakers: tuple[str, ...]

    def clip(self, index: int) -> Samples:
        """One of them, as long as it is."""
        return np.asarray(self.samples[index, : self.lengths[index]] / np.float32(32767), dtype=np.float32)


def prepare(rows: Sequence[Recording], made: Path, out: Path) -> None:
    """Writes what is missing of the clips of all kinds: OUT/SPLIT/KIND.npz, OUT/test/KIND, CONDITION.npz."""
    for kind in (RECORDED, *COUNTS):
        for split in ("train", "valid", "test"):
            files = _recorded(rows, split) if kind == RECORDED else _made(made / kind / split)
            if not files:
                continue
            (out / split).mkdir(parents=True, exist_ok=True)
            if split != "test":
                _write(out / split / f"{kind}.npz", _disturbed(files, kind, _VARIANTS[split]))
                continue
            for condition in (*CONDITIONS, *([] if kind == RECORDED else [AS_MADE])):
                _write(path_of(out, kind, condition), _measured(files, kind, condition))


def path_of(out: Path, kind: str, condition: str) -> Path:
    """The testing clips of a kind under a condition."""
    return out / "test" / f"{kind}, {condition.replace('/', ' per ')}.npz"


def _recorded(rows: Sequence[Recording], split: str) -> list[tuple[Path, str, int]]:
    """Files, speakers and which window of the file: three of the long ones, three files of those who have many."""
    found, seen = [], dict[str, int]()
    for row in rows:
        seen[row.speaker] = seen.get(row.speaker, 0) + (row.split == split)
        if row.split == split and (split == "train" or seen[row.speaker] <= 3):
            long = read(row.audio).seconds >= 2.5 * _SECONDS
            found += [(row.audio, row.speaker, window) for window in range(3 if long else 1)]
    return found


def _made(folder: Path) -> list[tuple[Path, str, int]]:
    return [(path, path.stem.rsplit("_", 1)[0], 0) for path in sorted(folder.glob("*.flac"))]


def _window(path: Path, window: int, kind: str, size: int) -> Samples:
    """Samples of a file as a recording would be: generated speech goes through the recordings' codec."""
    samples = resample(read(path).mono(), RATE).samples
    if kind != RECORDED:
        samples = as_recorded(samples)
    start = window * size + number(path.name) % max(1, min(size // 2, len(samples) - size))
    start = max(0, min(start, len(samples) - size))
    return samples[start : start + size]


def _disturbed(files: Sequence[tuple[Path, str, int]], kind: str, variants: int) -> Iterator[tuple[Samples, str]]:
    size = round(_SECONDS * RATE)
    for path, speaker, window in files:
        samples = _window(path, window, kind, size)
        for variant in range(variants):
            yield disturb(samples, np.random.default_rng([number(kind, path.name), window, variant])), speaker


def _measured(files: Sequence[tuple[Path, str, int]], kind: str, condition: str) -> Iterator[tuple[Samples, str]]:
    size = round(_SECONDS * RATE)
    for path, speaker, window in files:
        if condition == AS_MADE:
            yield _window(path, window, RECORDED, size), speaker
            continue
        rng = np.random.default_rng([number(kind, path.name), window])
        yield CONDITIONS[condition](_window(path, window, kind, size), rng), speaker


def _write(path: Path, clips: Iterator[tuple[Samples, str]]) -> None:
    if path.is_file():
        return
    pairs = list(clips)
    size = round(_SECONDS * RATE)
    samples = np.zeros((len(pairs), size), dtype=np.int16)
    for row, (clip, _) in zip(samples, pairs, strict=True):
        row[: len(clip)] = np.round(clip.clip(-1, 1) * 32767)
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, samples=samples, lengths=[len(clip) for clip, _ in pairs], speakers=[who for _, who in pairs])
    print(f"{path.parent.name}/{path.stem}: {len(pairs)}", file=sys.stderr, flush=True)


def read_clips(path: Path) -> Clips:
    """What ``prepare`` wrote.

    Raises:
        UserError: it is not there.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such clips; run the step clips first")
    with np.load(path, allow_pickle=False) as found:
        return Clips(found["samples"], found["lengths"], tuple(found["speakers"].tolist()))


def read_split(folder: Path, without: frozenset[str]) -> dict[str, Clips]:
    """Clips of one split by kind, the recordings first, never the engine."""
    kinds = [RECORDED, *(kind for kind in COUNTS if kind not in without and kind != ENGINE)]
    return {kind: read_clips(folder / f"{kind}.npz") for kind in kinds}


class Sampler:
    """Batches of which half is recorded; speakers of recordings and kinds of generated speech are equally likely."""

    def __init__(self, clips: Mapping[str, Clips], rng: np.random.Generator) -> None:
        self._clips, self._rng = clips, rng
        self._by_speaker: dict[str, list[int]] = {}
        for index, speaker in enumerate(clips[RECORDED].speakers):
            self._by_speaker.setdefault(speaker, []).append(index)

    def __call__(self, size: int) -> tuple[Tensor, Tensor]:
        """(B, N) samples and (B,) 1 for generated."""
        count = round(float(self._rng.choice(_CROPS)) * RATE)
        generated = np.arange(size) % 2
        samples = np.stack([self._crop(*(self._generated() if g else self._recorded()), count) for g in generated])
        return torch.from_numpy(samples), torch.from_numpy(generated.astype(np.float32))

    def _recorded(self) -> tuple[str, int]:
        speakers = list(self._by_speaker.values())
        own = speakers[self._rng.integers(len(speakers))]
        return RECORDED, own[self._rng.integers(len(own))]

    def _generated(self) -> tuple[str, int]:
        kinds = [kind for kind in self._clips if kind != RECORDED]
        kind = kinds[self._rng.integers(len(kinds))]
        return kind, int(self._rng.integers(len(self._clips[kind].speakers)))

    def _crop(self, kind: str, index: int, count: int) -> Samples:
        clip = self._clips[kind].clip(index)
        start = int(self._rng.integers(max(1, len(clip) - count + 1)))
        found = clip[start : start + count]
        return np.pad(found, (0, count - len(found)))


def fit(clips: Mapping[str, Clips], config: OriginConfig, steps: int, seed: int, size: int = 32) -> OriginNetwork:
    """Binary cross-entropy, AdamW, a warm-up and a cosine; a band of frequencies is hidden from every second batch."""
    torch.manual_seed(seed)
    network = OriginNetwork(config).train()
    # Half again as fast on a processor.
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1.0, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 3e-3 * min((step + 1) / 50, 0.5 + 0.5 * np.cos(np.pi * min(1.0, step / steps)))
    )
    rng, spectra = np.random.default_rng(seed), Spectra(config.spectrum)
    sampler, losses = Sampler(clips, rng), []
    for step in range(steps):
        samples, generated = sampler(size)
        magnitudes = spectra(samples)
        active = speech(magnitudes)
        if rng.random() < 0.5:
            width = int(rng.integers(1, magnitudes.shape[2] // 3))
            first = int(rng.integers(magnitudes.shape[2] - width))
            magnitudes[:, :, first : first + width] = 0
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(magnitudes, active), generated)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 50 == 49:
            print(f"step {step + 1}: {np.mean(losses[-50:]):.4f}", file=sys.stderr, flush=True)
    return network.eval()
