"""A codec of the shipped kind with a few thousand random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from flowtts.vocoders.codec import save
from flowtts.vocoders.codec.network import CodecConfig, CodecNetwork

SMALL = CodecConfig(dim=16, intermediate=32, encoder_layers=2, decoder_layers=2, width=8, codebooks=3, codes=16)


def network(seed: int = 0) -> CodecNetwork:
    """Everything in it matters to what it makes: kernels, codes, statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = CodecNetwork(SMALL)
        with torch.no_grad():
            for block in [*made.encoder.blocks, *made.decoder.blocks]:
                block.depthwise.weight.normal_(std=0.4)
            made.decoder.head.weight.normal_(std=0.2)
            latents = made.encoder(torch.randn(4, 16_000) * 0.1)
            frames = latents.flatten(0, 1)
            made.mean.copy_(frames.mean(0))
            made.std.copy_(frames.std(0))
            for level in made.quantiser.levels:
                book = level.quantiser.codebook
                picked = torch.randperm(len(frames))[: len(book)]
                book.copy_(frames[picked])
                level.quantiser.started.fill_(True)
                frames = frames - level.lookup(level.nearest(frames))
    return made.eval()


def folder(path: Path, seed: int = 0) -> Path:
    """The same as a checkpoint."""
    return save(network(seed), path / f"codec-{seed}", dtype=torch.float32)
