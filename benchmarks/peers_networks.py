"""Networks of equal size with random weights, and what they are asked to make."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.resources import files
from typing import Any

import torch
from peers_imports import peer
from peers_timing import parameters

from flowtts import checkpoint
from flowtts.config import load
from flowtts.recipes.voicebox import AudioConfig, AudioModel
from flowtts.types import Condition

HEAD = 64
"""Width of a head; widths are multiples of it."""

CHARACTERS = 2545
"""Entries of F5-TTS's vocabulary."""


def shipped() -> AudioConfig:
    """The audio model that comes with flowtts."""
    return load(AudioConfig, checkpoint.read_header(checkpoint.find("voicebox-small"))["config"])


def resized(base: AudioConfig, count: int) -> AudioConfig:
    """The same shape with another number of parameters: the width grows with its root, the ffn takes up the rest."""
    width = HEAD * max(1, round(base.body.width * math.sqrt(count / size(base)) / HEAD))

    def sized(ffn: int) -> AudioConfig:
        return replace(base, body=replace(base.body, width=width, heads=width // HEAD, ffn=ffn))

    few, per_unit = size(sized(width)), size(sized(width + 1)) - size(sized(width))
    return sized(max(width, width + round((count - few) / per_unit)))


def size(config: AudioConfig) -> int:
    """Parameters of a model."""
    with torch.device("meta"):
        return parameters(AudioModel(config))


def voicebox(config: AudioConfig, device: torch.device, seed: int = 0) -> AudioModel:
    """An audio model with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AudioModel(config).eval().to(device)


def dit(mel_dim: int, device: torch.device, seed: int = 0) -> Any:
    """F5-TTS's network with random weights: half of its "v1 Small" in width, 7 of its 18 layers, about 17M.

    Its output layers start at zero; they get random weights too, so that nothing is cheaper than it would be.
    """
    build = peer("f5_tts.model.backbones.dit").DiT
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = build(
            dim=384, depth=7, heads=6, dim_head=HEAD, ff_mult=2, mel_dim=mel_dim, text_num_embeds=CHARACTERS,
            text_dim=256, conv_layers=4,
        )  # fmt: skip
        for parameter in made.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    return made.eval().to(device)


def vocabulary() -> tuple[Any, int]:
    """F5-TTS's characters and their number, from the file in its package."""
    path = str(files("f5_tts") / "infer" / "examples" / "vocab.txt")
    found: tuple[Any, int] = peer("f5_tts.model.utils").get_tokenizer(path, "custom")
    return found


def condition(
    config: AudioConfig, batch: int, frames: int, prompt: int, device: torch.device, seed: int = 0
) -> Condition:
    """Made-up phones and a made-up prompt of so many frames; all items are equally long."""
    rng = torch.Generator().manual_seed(seed)
    text = torch.randint(1, config.symbols, (batch, -(-frames // 8)), generator=rng).repeat_interleave(8, 1)[:, :frames]
    known = (torch.arange(frames) < prompt).expand(batch, -1)
    features = torch.randn(batch, frames, config.mel.channels, generator=rng) * known[..., None]
    every = torch.ones(batch, frames, dtype=torch.bool)
    return Condition(text, features, known, every, every[:, 0]).to(device)


def noise(cond: Condition, seed: int = 1) -> torch.Tensor:
    """(B, T, C) where a sampler begins."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(cond.prompt.shape, generator=rng).to(cond.prompt.device)
