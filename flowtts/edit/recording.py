"""Recordings that are never held whole, patches that replace stretches of them, and files written from both.

A recording is read where it is needed. What an edit changes is a list of patches; everything between them is copied in
a number type that is exact for the file's encoding, so that it stays bit-identical.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from flowtts.audio import io
from flowtts.types import Audio, PathLike, Samples, UserError

BLOCK = 1 << 16
"""Most samples per channel that copying reads at once."""

_DECODED = 1 << 22
"""Samples per channel that decoding a compressed file reads at once."""

_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ULAW": 16, "ALAW": 16}
"""Encodings that hold integers, and which of the upper bits of 32 they decode to."""

_EXACT = (*_BITS, "FLOAT", "DOUBLE")
"""Encodings whose decoding and encoding again changes nothing."""

_SEEKABLE = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC")
"""Formats in which seeking was measured to be exact to the sample; in Ogg Vorbis and MP3 it is not."""

_WAV_LIMIT = (1 << 32) - (1 << 16)
"""Bytes that a WAV file can count."""

_Exact = NDArray[Any]
"""(n, channels), int32 or float64."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A sound file, or sound in memory, read by stretches.

    Attributes:
        name: how messages call it.
        sample_rate: Hz.
        channels: how many.
        length: samples per channel.
        subtype: libsndfile's name of the encoding, None for sound in memory.
        format: libsndfile's name of the container, None for sound in memory.
    """

    name: str
    sample_rate: int
    channels: int
    length: int
    subtype: str | None
    format: str | None
    _file: Path | None = field(default=None, repr=False)
    _samples: Samples | None = field(default=None, repr=False)
    _folder: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    @classmethod
    def open(cls, source: PathLike | Audio) -> Recording:
        """Find out what a recording is without reading it.

        Compressed files in which libsndfile cannot seek exactly are decoded once, block by block, to a temporary
        file, which lives as long as the recording.

        Args:
            source: a file of any format libsndfile knows, or sound in memory.

        Raises:
            UserError: the file is missing, is no sound file, is cut short or is empty.
        """
        if isinstance(source, Audio):
            samples = source.samples if source.samples.ndim == 2 else source.samples[:, None]
            if samples.size == 0:
                raise UserError("the recording holds no sound (0 samples); give one that does")
            return cls("the recording", source.sample_rate, samples.shape[1], len(samples), None, None, None, samples)
        path = Path(source)
        if not path.exists():
            raise UserError(f"{path}: no such file; check the path")
        if path.is_dir():
            raise UserError(f"{path} is a folder; give a sound file")
        try:
            info = soundfile.info(str(path))
        except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
            raise _unreadable(str(path), error) from error
        length, folder, file = info.frames, None, path
        # A FLAC that was streamed does not know its length; libsndfile then gives an absurd one.
        if info.format not in _SEEKABLE or info.subtype not in _EXACT or not 0 <= length < 1 << 48:
            folder = tempfile.TemporaryDirectory(prefix="flowtts-")
            file = Path(folder.name) / "decoded.w64"
            length = _decode(path, file)
        if length == 0:
            raise UserError(f"{path}: holds no sound (0 samples); record it again")
        return cls(str(path), info.samplerate, info.channels, length, info.subtype, info.format, file, None, folder)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.length / self.sample_rate

    def read(self, start: int, end: int) -> Samples:
        """The samples [start, end), (end - start, channels), without reading the rest.

        Raises:
            ValueError: the stretch is not inside the recording.
            UserError: it cannot be read, or holds NaN or infinite samples.
        """
        samples = self.exact(start, end, "float32")
        finite = np.isfinite(samples)
        if not finite.all():
            at = (start + int(np.flatnonzero(~finite.all(axis=1))[0])) / self.sample_rate
            raise UserError(f"{self.name}: holds NaN or infinite samples at {at:.3f} s; export it again")
        return samples

    def mono(self, start: int, end: int, sample_rate: int) -> Audio:
        """The channels mixed to one (``mix``) over [start, end), at another rate.

        A little more than that is read on both sides, so that the ends do not ring where the sound goes on.

        Returns:
            (end - start) * sample_rate / self.sample_rate samples, rounded.
        """
        # A whole number of samples at either rate, hence no shift; 20 ms, longer than soxr's filter hears.
        step = self.sample_rate // math.gcd(self.sample_rate, sample_rate)
        margin = step * math.ceil(0.02 * self.sample_rate / step)
        left = min(start // step * step, margin)
        wide = mix(self.read(start - left, min(end + margin, self.length)))
        samples = io.resample(Audio(wide, self.sample_rate), sample_rate).samples
        first = left * sample_rate // self.sample_rate
        length = round((end - start) * sample_rate / self.sample_rate)
        samples = samples[first : first + length]
        return Audio(np.pad(samples, (0, length - len(samples))), sample_rate)

    def exact(self, start: int, end: int, dtype: str) -> _Exact:
        """The samples [start, end) as "int32", "float32" or "float64" as libsndfile converts them, unchecked.

        Raises:
            ValueError: the stretch is not inside the recording.
            UserError: it cannot be read.
        """
        if not 0 <= start <= end <= self.length:
            raise ValueError(f"[{start}, {end}) is not inside a recording of {self.length} samples")
        if self._samples is not None:
            return self._samples[start:end].astype(dtype)
        try:
            with soundfile.SoundFile(str(self._file)) as file:
                file.seek(start)
                samples: _Exact = file.read(end - start, dtype=dtype, always_2d=True)
        except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
            raise _unreadable(self.name, error) from error
        if len(samples) < end - start:
            at = (start + len(samples)) / self.sample_rate
            raise UserError(f"{self.name}: is cut short, no sound after {at:.3f} s; export it again")
        return samples


def mix(samples: Samples) -> Samples:
    """The mean of the channels, (n, channels) -> (n,).

    Where channels of opposite polarity cancel, those that oppose the first loud one are turned over first: their mean
    would be silence.
    """
    mean: Samples = samples.mean(axis=1, dtype=np.float32)
    energy = np.square(samples, dtype=np.float64).sum(axis=0)
    if samples.shape[1] == 1 or np.square(mean, dtype=np.float64).sum() >= 0.01 * energy.mean():
        return mean
    reference = samples[:, np.flatnonzero(energy >= 0.5 * energy.max())[0]].astype(np.float64)
    signs = np.where(reference @ samples < 0, -1.0, 1.0).astype(np.float32)
    return np.asarray((samples * signs).mean(axis=1, dtype=np.float32))


@dataclass(frozen=True, eq=False)
class Patch:
    """New samples for the stretch [start, end) of a recording.

    Attributes:
        start: first sample replaced.
        end: one past the last sample replaced.
        samples: (n, channels), n need not be end - start.
        fade_in: how many of the first samples are a cross-fade from the recording.
        fade_out: how many of the last samples are a cross-fade back to it.
    """

    start: int
    end: int
    samples: Samples
    fade_in: int
    fade_out: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            raise ValueError("a patch needs float32 samples of shape (n, channels)")
        if not 0 <= self.start <= self.end:
            raise ValueError(f"a patch cannot replace [{self.start}, {self.end})")
        if not np.isfinite(self.samples).all():
            raise ValueError("a patch may not hold NaN or infinite samples")
        if self.fade_in + self.fade_out > len(self.samples) or min(self.fade_in, self.fade_out) < 0:
            raise ValueError("the cross-fades are longer than the patch")

    @property
    def delta(self) -> int:
        """By how many samples the recording grows."""
        return len(self.samples) - (self.end - self.start)


def assemble(recording: Recording, patches: Sequence[Patch]) -> Iterator[Samples]:
    """The recording with its patches, in blocks of at most ``BLOCK`` samples, (n, channels).

    Raises:
        ValueError: patches overlap, lie outside the recording or have another number of channels.
    """
    yield from _blocks(recording, patches, "float32", lambda samples: samples)


def render(recording: Recording, patches: Sequence[Patch]) -> Audio:
    """The whole of the recording with its patches; (N,) if it has one channel.

    Raises:
        ValueError: as ``assemble``.
    """
    samples = np.concatenate([np.zeros((0, recording.channels), np.float32), *assemble(recording, patches)])
    return Audio(samples[:, 0] if recording.channels == 1 else samples, recording.sample_rate)


def save(
    recording: Recording, patches: Sequence[Patch], path: PathLike, comments: Mapping[str, str] | None = None
) -> None:  # fmt: skip
    """Write the recording with its patches, block by block; samples outside patches stay bit-identical.

    The encoding is the recording's own where the format of ``path`` can hold it without loss, otherwise the narrowest
    that can. Formats that only know lossy encodings (Ogg, MP3) take the samples as well as they can.

    Args:
        recording: may be the very file that ``path`` names.
        patches: in any order.
        path: where; the format follows from the suffix.
        comments: text fields of the file.

    Raises:
        UserError: the suffix names no known format, the format cannot hold that rate or those channels, or the folder
            is missing or not writable.
        ValueError: as ``assemble``.
    """
    form = io.container(path)
    subtype = _subtype(recording, form)
    if not soundfile.check_format(form, subtype):
        raise UserError(f"{path}: the format {form} cannot be written; use .wav or .flac")
    length = recording.length + sum(patch.delta for patch in patches)
    bits = _BITS.get(subtype)
    width = (bits or (64 if subtype == "DOUBLE" else 32)) // 8
    if form == "WAV" and length * recording.channels * width > _WAV_LIMIT:
        form = "RF64"
    if bits is None:
        blocks = _blocks(recording, patches, "float64", lambda samples: samples.astype(np.float64))
    elif recording.subtype in _BITS:
        blocks = _blocks(recording, patches, "int32", lambda samples: _integers(samples, bits))
    else:
        blocks = (_integers(block, bits) for block in _blocks(recording, patches, "float64", lambda samples: samples))
    _write(Path(path), blocks, recording, form, subtype, comments)


def to_output(patches: Sequence[Patch], sample: int) -> int:
    """Where a place in the recording comes to lie in the output.

    Inside a patch the cross-fades keep their distance to its ends, and what lies between is stretched evenly.
    """
    shift = 0
    for patch in sorted(patches, key=lambda patch: (patch.start, patch.end)):
        if patch.end <= sample:
            shift += patch.delta
        elif patch.start < sample:
            begin, length = patch.start + shift, len(patch.samples)
            after, before = sample - patch.start, patch.end - sample
            if after <= patch.fade_in:
                return begin + after
            if before <= patch.fade_out:
                return begin + length - before
            inside = length - patch.fade_in - patch.fade_out
            replaced = patch.end - patch.start - patch.fade_in - patch.fade_out
            return begin + patch.fade_in + round((after - patch.fade_in) * inside / replaced)
    return sample + shift


def _ordered(recording: Recording, patches: Sequence[Patch]) -> list[Patch]:
    """Patches by place, found to fit the recording and each other."""
    ordered = sorted(patches, key=lambda patch: (patch.start, patch.end))
    for patch in ordered:
        if patch.end > recording.length:
            raise ValueError(f"a patch ends at {patch.end}, the recording at {recording.length}")
        if patch.samples.shape[1] != recording.channels:
            raise ValueError(f"a patch has {patch.samples.shape[1]} channels, the recording {recording.channels}")
    for one, other in pairwise(ordered):
        if other.start < one.end:
            raise ValueError(f"patches overlap: [{one.start}, {one.end}) and [{other.start}, {other.end})")
    return ordered


def _blocks(
    recording: Recording, patches: Sequence[Patch], dtype: str, convert: Callable[[Samples], _Exact]
) -> Iterator[_Exact]:
    """Untouched stretches read as ``dtype``, patches limited to [-1, 1] and converted."""
    at = 0
    for patch in _ordered(recording, patches):
        yield from _copied(recording, at, patch.start, dtype)
        limited = np.clip(patch.samples, -1.0, 1.0)
        for first in range(0, len(limited), BLOCK):
            yield convert(limited[first : first + BLOCK])
        at = patch.end
    yield from _copied(recording, at, recording.length, dtype)


def _copied(recording: Recording, start: int, end: int, dtype: str) -> Iterator[_Exact]:
    for first in range(start, end, BLOCK):
        yield recording.exact(first, min(first + BLOCK, end), dtype)


def _integers(samples: _Exact, bits: int) -> NDArray[np.int32]:
    """Rounded to ``bits`` bits, in the upper bits of 32, where libsndfile expects them.

    Libsndfile's own conversion from floats truncates, and scales by 2**31 - 1 what it reads back by 2**31.
    """
    full = 1 << (bits - 1)
    rounded = np.clip(np.rint(samples.astype(np.float64) * full), -full, full - 1).astype(np.int64)
    return (rounded << (32 - bits)).astype(np.int32)


def _subtype(recording: Recording, form: str) -> str:
    """The encoding to write in a container: the recording's own, else the narrowest that holds its samples."""
    own = recording.subtype
    lossless: tuple[str, ...] = ("FLOAT", "DOUBLE", "PCM_32", "PCM_24")
    if own in _BITS:
        wider = [f"PCM_{bits}" for bits in (16, 24, 32) if bits >= _BITS[own]]
        lossless = (own, *wider, "FLOAT", "PCM_24") if own != "PCM_32" else (own, "DOUBLE", "FLOAT", "PCM_24")
    elif own == "DOUBLE":
        lossless = ("DOUBLE", *lossless)
    elif own is not None and own != "FLOAT" and form == recording.format and form in ("OGG", "MP3"):
        lossless = (own,)
    fitting = (subtype for subtype in lossless if soundfile.check_format(form, subtype))
    return next(fitting, soundfile.default_subtype(form) or "")


def _write(
    path: Path, blocks: Iterator[_Exact], recording: Recording, form: str, subtype: str,
    comments: Mapping[str, str] | None,
) -> None:  # fmt: skip
    rate, channels = recording.sample_rate, recording.channels
    with io.replacing(path) as part, open(part, "wb+") as handle:
        try:
            file = soundfile.SoundFile(handle, "w", rate, channels, subtype, format=form)
        except soundfile.LibsndfileError as error:
            what = f"{form} cannot hold {channels} channels at {rate} Hz"
            raise UserError(f"{path}: {what}; use .wav or .flac") from error
        with file:
            io.say(file, comments)
            for block in blocks:
                file.write(block)


def _decode(path: Path, target: Path) -> int:
    """Decode a compressed file to one that can be read from anywhere; returns its length in samples.

    Decoders of MP3 round differently when they are asked for less at a time, so the pieces are large.
    """
    try:
        with soundfile.SoundFile(str(path)) as source:
            kept, dtype = "FLOAT", "float32"
            if source.subtype in _EXACT and source.subtype != "FLOAT":
                kept, dtype = ("PCM_32", "int32") if source.subtype in _BITS else ("DOUBLE", "float64")
            length = 0
            with soundfile.SoundFile(str(target), "w", source.samplerate, source.channels, kept) as copy:
                while len(block := source.read(_DECODED, dtype=dtype, always_2d=True)):
                    copy.write(block)
                    length += len(block)
            return length
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise _unreadable(str(path), error) from error


def _unreadable(name: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"{name}: cannot be read as sound ({reason}); give a WAV, FLAC, OGG or MP3 file")
