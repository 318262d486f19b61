"""What a codec is: sound to codes and back, whole and in pieces."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from flowtts.types import CodeSpec


class Pieces(Protocol):
    """One direction of a codec, piece by piece: its answers put together are those of the whole, to rounding.

    It remembers no more of a long sound than of a short one.
    """

    def push(self, piece: Tensor) -> Tensor:
        """The next samples (B, n), or codes (B, t, K), of any length; answers what can be answered so far."""
        ...

    def finish(self) -> Tensor:
        """The rest; afterwards it begins anew."""
        ...


@runtime_checkable
class Codec(Protocol):
    """Sound to codes and back; N samples are T = ceil(N / hop) frames, and T frames T * hop samples."""

    name: str
    hash: str
    """Of the weights, so that codes are read by what wrote them."""

    @property
    def spec(self) -> CodeSpec:
        """What it emits."""
        ...

    def encode(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, T, K) int64; silence fills the last frame."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """(B, T, k) codes of the first k codebooks, k up to K -> (B, T * hop) samples in [-1, 1]."""
        ...

    def latents(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, T, D), what the quantiser would read."""
        ...

    def from_latents(self, latents: Tensor) -> Tensor:
        """(B, T, D), quantised or not -> (B, T * hop) samples in [-1, 1]."""
        ...

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (D,) of latents of speech; 0 and 1 where they were not measured."""
        ...

    def encoding(self) -> Pieces:
        """`encode` in pieces. Raises UserError if the codec hears what comes later."""
        ...

    def decoding(self) -> Pieces:
        """`decode` in pieces. Raises UserError if the codec hears what comes later."""
        ...

    def to(self, device: torch.device | str) -> Codec:
        """Moves it."""
        ...
