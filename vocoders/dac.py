"""The Descript codec (arXiv 2306.06546) through transformers' ``DacModel``, behind ``flowtts.codec.Codec``.

It hears what comes later and has no pieces. Frames are of 320 samples at 16 and 24 kHz, of 512 at 44.1 kHz.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from flowtts import checkpoint
from flowtts.codec import Pieces
from flowtts.compat import require
from flowtts.types import CodeSpec, PathLike, UserError

from .network_codec import read_config


class DacCodec:
    """A ``DacModel``.

    Args:
        model: taken over and put into evaluation mode.
        codebooks: the first so many are used; None for all.
        hash: of its weights.

    Raises:
        UserError: it has fewer.
    """

    name = "dac"

    def __init__(self, model: Any, codebooks: int | None = None, hash: str = "") -> None:
        most = model.config.n_codebooks
        if codebooks is not None and not 1 <= codebooks <= most:
            raise UserError(f"dac has {most} codebooks: take 1 to {most} of them, not {codebooks}")
        self.hash = hash
        self.model = model.eval().requires_grad_(False)
        rate, hop = model.config.sampling_rate, model.config.hop_length
        self._spec = CodeSpec(rate, rate / hop, codebooks or most, model.config.codebook_size)

    @property
    def spec(self) -> CodeSpec:
        """What it emits."""
        return self._spec

    @torch.no_grad()
    def encode(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, T, K) int64; silence fills the last frame."""
        if not samples.shape[-1]:
            return samples.new_zeros((len(samples), 0, self.spec.codebooks), dtype=torch.long)
        codes: Tensor = self.model.encode(self._filled(samples)[:, None], self.spec.codebooks).audio_codes
        return codes.transpose(1, 2)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """(B, T, k) codes of the first k codebooks -> (B, T * hop) samples in [-1, 1]."""
        if not codes.shape[1]:
            return torch.zeros(len(codes), 0, device=codes.device)
        return self.from_latents(self.model.quantizer.from_codes(codes.transpose(1, 2))[0].transpose(1, 2))

    @torch.no_grad()
    def latents(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, T, D), what the quantiser would read."""
        frames: Tensor = self.model.encoder(self._filled(samples)[:, None])
        return frames.transpose(1, 2)

    @torch.no_grad()
    def from_latents(self, latents: Tensor) -> Tensor:
        """(B, T, D), quantised or not -> (B, T * hop) samples in [-1, 1]."""
        samples: Tensor = self.model.decoder(latents.transpose(1, 2))[:, 0]
        # With an odd stride (24 kHz) the network makes a few samples too few.
        missing = latents.shape[1] * self.spec.hop_length - samples.shape[-1]
        return F.pad(samples, (0, missing)).clamp(-1.0, 1.0)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean 0 and deviation 1, each (D,): not measured."""
        width = self.model.config.hidden_size
        return torch.zeros(width), torch.ones(width)

    def encoding(self) -> Pieces:
        """There are none."""
        raise UserError("dac hears what comes later: it codes the whole, not pieces")

    def decoding(self) -> Pieces:
        """There are none."""
        raise UserError("dac hears what comes later: it codes the whole, not pieces")

    def to(self, device: torch.device | str) -> DacCodec:
        """Moves the model."""
        self.model.to(device)
        return self

    def _filled(self, samples: Tensor) -> Tensor:
        return F.pad(samples, (0, -samples.shape[-1] % self.spec.hop_length))


def load(folder: PathLike, codebooks: int | None = None) -> DacCodec:
    """A folder with ``config.json`` and ``model.safetensors`` as transformers' ``save_pretrained`` writes it.

    Raises:
        UserError: transformers is not installed, a file is missing or broken, or it is something else's.
    """
    path = Path(folder)
    read_config(path, "dac")
    if not (path / "model.safetensors").is_file():
        raise UserError(f"{path} is not a whole model: model.safetensors is missing; fetch it again")
    transformers = require("transformers", "hf")
    return DacCodec(
        transformers.DacModel.from_pretrained(path, local_files_only=True),
        codebooks,
        checkpoint.digest(path / checkpoint.WEIGHTS),
    )
