"""Sound files in and out, and changes of sampling rate."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

from flowtts.types import Audio, PathLike, UserError

SOUNDS: tuple[str, ...] = (".flac", ".wav", ".ogg", ".opus", ".mp3")
"""Suffixes by which recordings are told from other files in a folder."""

TEXTED: tuple[str, ...] = ("WAV", "WAVEX", "RF64", "AIFF", "CAF", "FLAC", "OGG", "MP3")
"""Formats, by libsndfile's names, whose files hold text fields."""


def read(path: PathLike) -> Audio:
    """Read a sound file of any format, rate and number of channels that libsndfile knows.

    Returns:
        float32 samples, (N,) if the file has one channel, (N, channels) otherwise, at the file's own rate.

    Raises:
        UserError: the file is missing, is no sound file, is cut short, is empty, or holds NaN or infinite samples.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a sound file")
    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as sound ({reason}); give a WAV, FLAC, OGG or MP3 file") from error
    if len(samples) == 0:
        raise UserError(f"{path}: holds no sound (0 samples); record it again")
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: holds NaN or infinite samples; export it again")
    return Audio(np.ascontiguousarray(samples, dtype=np.float32), int(rate))


def write(
    path: PathLike, audio: Audio, subtype: str = "PCM_16", comments: Mapping[str, str] | None = None
) -> None:  # fmt: skip
    """Write a sound file in the format of its suffix, atomically: on failure an older file of that name stays.

    Args:
        path: where; ``.wav``, ``.flac``, ``.ogg``, ``.mp3`` and whatever else libsndfile writes.
        audio: what; samples beyond [-1, 1] are clipped by integer subtypes.
        subtype: libsndfile's name of the encoding; formats that cannot hold it (OGG, MP3) use their own.
        comments: text fields: title, artist, software, comment, license … Left out where the format has none.

    Raises:
        UserError: the suffix names no known format, or the folder is missing or not writable.
        ValueError: the samples are not finite.
    """
    form = container(path)
    if not np.isfinite(audio.samples).all():
        raise ValueError(f"{path}: refusing to write NaN or infinite samples")
    if not soundfile.check_format(form, subtype):
        subtype = soundfile.default_subtype(form)
    channels = 1 if audio.samples.ndim == 1 else audio.samples.shape[1]
    with (
        replacing(path) as part,
        open(part, "wb+") as handle,
        soundfile.SoundFile(handle, "w", audio.sample_rate, channels, subtype, format=form) as file,
    ):
        say(file, comments)
        file.write(audio.samples)


def say(file: soundfile.SoundFile, comments: Mapping[str, str] | None) -> None:
    """Write text fields into a file, before its samples; nothing if its format has none."""
    if file.format not in TEXTED:
        return
    for field, text in (comments or {}).items():
        setattr(file, field, text)


def container(path: PathLike) -> str:
    """Libsndfile's name of the format that a file name asks for by its suffix.

    Raises:
        UserError: the suffix names no known format.
    """
    path = Path(path)
    form = path.suffix[1:].upper()
    if form not in soundfile.available_formats():
        raise UserError(f"{path}: unknown sound format '{path.suffix}'; use .wav, .flac, .ogg or .mp3")
    return form


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """A name beside ``path`` to write to; it takes the place of ``path`` if all goes well and vanishes if not.

    Raises:
        UserError: the folder is missing, the name is a folder's, or writing fails.
    """
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path}: its folder does not exist; create {path.absolute().parent} first")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file name")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be written ({reason}); check the folder's permissions and space") from error
    finally:
        part.unlink(missing_ok=True)


def resample(audio: Audio, rate: int) -> Audio:
    """The same sound at another sampling rate, by soxr's HQ band-limited interpolation.

    Args:
        audio: (N,) or (N, channels).
        rate: Hz.

    Returns:
        N * rate / sample_rate samples, rounded; the same object if the rate is already right.

    Raises:
        ValueError: the rate is not positive.
    """
    if rate <= 0:
        raise ValueError(f"rate must be positive, not {rate}")
    if rate == audio.sample_rate:
        return audio
    samples = soxr.resample(audio.samples, audio.sample_rate, rate, quality="HQ")
    return Audio(np.ascontiguousarray(samples, dtype=np.float32), rate)
