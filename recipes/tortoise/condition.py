"""What the diffusion decoder is given: to sample from, and to learn from."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class DecoderCondition:
    """Everything that the decoder needs beside x and t; `flowtts.types.Condition`'s counterpart.

    Attributes:
        aligned: (B, T, D) what `DiffusionDecoder.aligned` made of codes and voice.
        mask: (B, T) bool, True where the frame exists.
        keep: (B,) bool; False asks for the unconditional model.
    """

    aligned: Tensor
    mask: Tensor
    keep: Tensor

    def null(self) -> DecoderCondition:
        """The same without codes and voice."""
        return replace(self, keep=torch.zeros_like(self.keep))

    def to(self, device: torch.device | str) -> DecoderCondition:
        """Moved to a device."""
        return DecoderCondition(*(getattr(self, field.name).to(device) for field in fields(self)))


class DecoderBatch(Protocol):
    """What the decoder learns from: codes or latents, one of which is None."""

    @property
    def features(self) -> Tensor:
        """(B, T, C) normalised log-mel."""
        ...

    @property
    def frames(self) -> Tensor:
        """(B,) int64 real frames."""
        ...

    @property
    def codes(self) -> Tensor | None:
        """(B, N) int64."""
        ...

    @property
    def latents(self) -> Tensor | None:
        """(B, N, W) hidden states of the autoregressive model."""
        ...

    @property
    def code_lengths(self) -> Tensor:
        """(B,) int64 real codes or latents."""
        ...

    @property
    def clips(self) -> Tensor:
        """(B, K, T, C) normalised log-mels of reference clips."""
        ...

    @property
    def clip_frames(self) -> Tensor:
        """(B, K) int64 real frames of each, 0 for a clip that there is not."""
        ...
