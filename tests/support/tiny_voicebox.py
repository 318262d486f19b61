"""A Voicebox of a few thousand weights, and batches and conditions for it."""

from __future__ import annotations

from dataclasses import replace

import torch

from flowtts.align import repeat
from flowtts.nn import TransformerConfig
from flowtts.recipes.voicebox import AudioConfig, AudioModel
from flowtts.types import VOICEBOX_MEL, Batch, Condition, MelSpec

TINY_MEL = replace(VOICEBOX_MEL, n_mels=8)


def tiny(**changes: object) -> AudioModel:
    body = TransformerConfig(layers=4, heads=2, width=32, ffn=64, position_kernel=5, position_groups=4, dropout=0.0)
    config = AudioConfig(body=body, mel=TINY_MEL, symbols=20, text_width=8)
    torch.manual_seed(0)
    return AudioModel(replace(config, **changes)).eval()  # type: ignore[arg-type]


def make_batch(frames: list[int], seed: int = 0, phone: int = 5, mel: MelSpec = TINY_MEL) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    size, counts = max(frames), [-(-n // phone) for n in frames]
    features = torch.zeros(len(frames), size, mel.channels)
    phones, durations = (torch.zeros(len(frames), max(counts), dtype=torch.long) for _ in range(2))
    for i, (n, count) in enumerate(zip(frames, counts, strict=True)):
        features[i, :n] = torch.randn(n, mel.channels, generator=rng)
        phones[i, :count] = torch.randint(1, 20, (count,), generator=rng)
        durations[i, :count] = phone
        durations[i, count - 1] = n - phone * (count - 1)
    ones = torch.ones(len(frames), dtype=torch.bool)
    return Batch(features, torch.tensor(frames), phones, durations, torch.tensor(counts), ones)


def condition(batch: Batch) -> Condition:
    size = batch.features.shape[1]
    present = torch.arange(size)[None] < batch.frames[:, None]
    known = present & (torch.arange(size)[None] < batch.frames[:, None] // 3)
    text = repeat(batch.phones, batch.durations, size)
    return Condition(
        text, batch.features * known[..., None], known, present, torch.ones(len(batch.frames), dtype=torch.bool)
    )
