"""Tiny codecs of transformers' with random weights, as a reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from flowtts.compat import require
from flowtts.types import UserError

ENCODEC = {
    "hidden_size": 8, "num_filters": 4, "upsampling_ratios": [3, 2], "codebook_size": 16, "num_lstm_layers": 2,
    "sampling_rate": 600, "target_bandwidths": [0.4, 0.8, 2.0],
}  # fmt: skip
"""100 frames a second of 4 bits: 1, 2 and 5 codebooks."""

ENCODEC_STEREO = ENCODEC | {
    "audio_channels": 2, "use_causal_conv": False, "norm_type": "time_group_norm", "normalize": True,
    "chunk_length_s": 1.0, "overlap": 0.01,
}  # fmt: skip

MIMI = {
    "hidden_size": 16, "num_filters": 4, "upsampling_ratios": [3, 2], "codebook_size": 16, "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8, "num_quantizers": 5, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "intermediate_size": 32, "sliding_window": 5, "upsample_groups": 16,
    "layer_scale_initial_scale": 0.7, "sampling_rate": 600,
}  # fmt: skip
"""50 frames a second."""

DAC = {
    "encoder_hidden_size": 4, "downsampling_ratios": [2, 3], "decoder_hidden_size": 16, "n_codebooks": 3,
    "codebook_size": 16, "codebook_dim": 4, "sampling_rate": 600,
}  # fmt: skip


def transformers() -> Any:
    try:
        return require("transformers", "hf")
    except UserError as error:
        pytest.skip(str(error))


def model(kind: str, values: dict[str, Any]) -> Any:
    """A model of transformers' whose weights and codebooks are all random."""
    package = transformers()
    torch.manual_seed(0)
    made = getattr(package, f"{kind}Model")(getattr(package, f"{kind}Config")(**values))
    with torch.no_grad():
        for name, weight in made.state_dict().items():
            if name.endswith((".embed", "embed_avg", "embed_sum", ".bias")):
                weight.normal_(std=0.5)
            elif name.endswith(("cluster_usage", "cluster_size")):
                weight.uniform_(0.5, 2.0)
        if kind == "Encodec":
            frames = made.encoder(noise(1, made.config.audio_channels, 600))[0].T
            spread([layer.codebook.embed for layer in made.quantizer.layers], frames)
        elif kind == "Mimi":
            latents = made.encoder(noise(1, 1, 600))
            latents = latents if isinstance(latents, Tensor) else latents.latents
            for name in ("semantic", "acoustic"):
                branch = getattr(made.quantizer, f"{name}_residual_vector_quantizer")
                frames = latents if branch.input_proj is None else branch.input_proj(latents)
                books = [layer.codebook for layer in branch.layers]
                spread([book.embed_sum for book in books], frames[0].T)
                for book in books:
                    book.embed_sum.mul_(book.cluster_usage[:, None])
    return made.eval().requires_grad_(False)


def spread(codebooks: list[Tensor], frames: Tensor) -> None:
    """Codes among the frames (T, D) of a random network, which differ little: else all frames have one code."""
    for number, book in enumerate(codebooks):
        book.copy_(0.5**number * frames.std(0) * torch.randn(book.shape))
    codebooks[0].add_(frames.mean(0))


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
