"""Small pictures of sound: log-mel spectrograms as PNG files of a few kilobytes, the same bytes every time."""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from flowtts.audio.io import resample
from flowtts.audio.mel import LogMel
from flowtts.types import Audio, MelSpec

BANDS = 64
RANGE_DB = 75.0
"""Below the loudest; anything softer is as dark as silence."""

LEVELS = 48
"""Shades, more than the eye counts in a picture of this size; fewer make a smaller file."""

MOST_FRAMES = 1500
"""Widest picture; longer recordings have longer frames."""

_RATE, _HOP = 16_000, 320
_DB_OF_NEPER = 20 / float(np.log(10))
# Nine of the 256 colours of matplotlib's magma (CC0), evenly spaced.
_MAGMA = "000004 1c1044 4f127b 812581 b5367a e55964 fb8761 fec287 fcfdbf"


def picture(audio: Audio) -> bytes:
    """A PNG: 64 bands from 0 to 8 kHz upwards, 20 ms per column, the loudest 75 dB.

    Args:
        audio: of any rate; above 8 kHz nothing is shown.
    """
    sound = resample(audio.mono(), _RATE)
    hop = _HOP * -(-len(sound.samples) // (_HOP * MOST_FRAMES) or 1)
    mel = _log_mel(hop)(torch.from_numpy(sound.samples)[None])[0].numpy() * _DB_OF_NEPER
    # Not above the loudest but at a fixed level where there is only silence.
    top = max(float(mel.max()), -60.0)
    share = np.clip((mel - (top - RANGE_DB)) / RANGE_DB, 0.0, 1.0)
    levels = np.rint(share * (LEVELS - 1)).astype(np.uint8)
    return png(np.ascontiguousarray(levels.T[::-1]), _palette())


def png(levels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """A PNG of indexed colours (ISO/IEC 15948), without a date or anything else that changes.

    Args:
        levels: (height, width), from the top, indices of the palette.
        palette: (colours, 3) red, green, blue.

    Raises:
        ValueError: the picture is empty, or an index has no colour.
    """
    height, width = levels.shape
    if not levels.size or int(levels.max()) >= len(palette):
        raise ValueError("a picture needs pixels, each with a colour of the palette")
    # Each line begins with its filter: 0, none.
    lines = np.concatenate([np.zeros((height, 1), np.uint8), levels], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    pixels = zlib.compress(lines.tobytes(), 9)
    parts = ((b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


@lru_cache(maxsize=4)
def _log_mel(hop: int) -> LogMel:
    window = max(640, hop)
    return LogMel(MelSpec(
        n_fft=max(1024, window), win_length=window, hop_length=hop, n_mels=BANDS, floor=1e-7, center=True
    ))  # fmt: skip


@lru_cache(maxsize=1)
def _palette() -> NDArray[np.uint8]:
    anchors = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in _MAGMA.split()], dtype=np.float64)
    at, places = np.linspace(0, 1, LEVELS), np.linspace(0, 1, len(anchors))
    return np.rint(np.stack([np.interp(at, places, anchors[:, i]) for i in range(3)], axis=1)).astype(np.uint8)
