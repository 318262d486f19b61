"""Opus (RFC 6716) by libsndfile: what codecs of speech are measured against."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import soundfile

from flowtts.audio.io import read, resample
from flowtts.types import Audio, UserError

LIMITS = (6.0, 256.0)
"""kbit/s of one channel that libsndfile's compression levels 1 and 0 stand for; it is linear between them."""

RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Hz that Opus codes."""


def check(kbps: float) -> None:
    """Find out early whether there is such an Opus here.

    Raises:
        UserError: this libsndfile has none, or the bitrate is out of range.
    """
    if "OPUS" not in soundfile.available_subtypes("OGG"):
        raise UserError(f"this {version()} has no Opus; install soundfile 0.12 or newer, or leave Opus out")
    if not LIMITS[0] <= kbps <= LIMITS[1]:
        raise UserError(f"libsndfile's Opus has {LIMITS[0]:g} to {LIMITS[1]:g} kbit/s, not {kbps:g}; choose among them")


def version() -> str:
    """What codes and decodes."""
    return f"libsndfile {soundfile.__libsndfile_version__}"


def opus(audio: Audio, kbps: float) -> tuple[Audio, float]:
    """Sound through Opus, at a variable bitrate as its encoder has it by default.

    Args:
        audio: made mono.
        kbps: kbit/s that the encoder is asked for.

    Returns:
        The sound, mono, as long as it was and at the same rate, and the bits per second that were needed: those of the
        packets, without the Ogg container, which at 6 kbit/s would add a tenth.

    Raises:
        UserError: see ``check``.
    """
    check(kbps)
    given = audio.mono()
    rate = next((rate for rate in RATES if rate >= given.sample_rate), RATES[-1])
    level = (LIMITS[1] - kbps) / (LIMITS[1] - LIMITS[0])
    # Not in memory, where libsndfile 1.2.2 reads some formats only sometimes.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coded.ogg"
        sound = resample(given, rate).samples
        soundfile.write(path, sound, rate, format="OGG", subtype="OPUS", compression_level=level)
        bits = 8.0 * payload(path.read_bytes())
        heard = resample(read(path), given.sample_rate).samples
    count = len(given.samples)
    fitted = np.pad(heard, (0, max(0, count - len(heard))))[:count]
    return Audio(np.ascontiguousarray(fitted), given.sample_rate), bits / given.seconds


def payload(ogg: bytes) -> int:
    """Bytes of sound in an Ogg stream of Opus.

    The heads of pages (RFC 3533, section 6) and the first two packets, which say what it is (RFC 7845, section 3), are
    left out.
    """
    position = packets = found = 0
    while position < len(ogg):
        count = ogg[position + 26]
        sizes = ogg[position + 27 : position + 27 + count]
        for size in sizes:
            if packets >= 2:
                found += size
            # A packet ends with the first piece that is shorter than a piece can be.
            packets += size < 255
        position += 27 + count + sum(sizes)
    return found
