"""Codes in a file, ``.ftc``, and a codec between sound and such a file; ``docs/codecs.md`` has it byte by byte.

A header says which weights of which codec wrote the codes, then come the codes in as few bits as they need, then a
checksum of it all.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowtts import __version__
from flowtts.audio.io import replacing, resample
from flowtts.codec import Codec, Pieces
from flowtts.types import Audio, CodeSpec, PathLike, UserError

MAGIC = b"\x89FTC"
"""How a file begins; the first byte is no text, so that a transfer that changes text is found out."""

FORMAT = 1
"""The layout; raised when an older reader could not understand a newer file."""

SUFFIX = ".ftc"

PIECE = 10.0
"""Seconds that are coded at once, by codecs that know pieces."""

_LAYOUT = ">4sBBB6sIIIIQI"
_HASH, _CHECKSUM = 6, 4


@dataclass(frozen=True, eq=False)
class Coded:
    """A recording as codes.

    Attributes:
        codes: (T, K) int64, T = ceil(samples / hop).
        spec: what they are; K is its ``codebooks``.
        codec: name of the codec that made them.
        hash: of its weights, 12 hexadecimal digits, or "" if they came from no file.
        samples: of the recording at the codec's rate, so that it becomes no longer than it was.
        source_rate: of the recording before it was brought to the codec's rate, Hz.
    """

    codes: Tensor
    spec: CodeSpec
    codec: str
    hash: str
    samples: int
    source_rate: int

    def __post_init__(self) -> None:
        spec, hop = self.spec, self.spec.hop_length
        if spec.frame_rate != spec.sample_rate / hop:
            raise ValueError(f"frames have whole samples, not {spec.sample_rate / spec.frame_rate}")
        if self.codes.shape != (shape := (-(-self.samples // hop), spec.codebooks)):
            raise ValueError(f"{self.samples} samples are codes of the shape {shape}, not {tuple(self.codes.shape)}")
        if self.codes.numel() and not 0 <= int(self.codes.min()) <= int(self.codes.max()) < spec.codebook_size:
            raise ValueError(f"codes are from 0 to {spec.codebook_size - 1}, not up to {int(self.codes.max())}")

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples / self.spec.sample_rate

    @property
    def bits_per_second(self) -> float:
        """Of the codes alone."""
        return self.spec.frame_rate * self.spec.codebooks * bits(self.spec.codebook_size)

    def first(self, codebooks: int | None) -> Coded:
        """The first so many codebooks, or all: the same sound in fewer bits.

        Raises:
            UserError: there are not so many.
        """
        if codebooks is None:
            return self
        most = self.spec.codebooks
        if not 1 <= codebooks <= most:
            raise UserError(f"these are codes of {most} codebooks: take 1 to {most} of them, not {codebooks}")
        spec = replace(self.spec, codebooks=codebooks)
        return replace(self, codes=self.codes[:, :codebooks], spec=spec)


class _Header(NamedTuple):
    """The fixed part of a file, in its order."""

    magic: bytes
    format: int
    name_length: int
    codebooks: int
    hash: bytes
    sample_rate: int
    hop_length: int
    codebook_size: int
    source_rate: int
    samples: int
    frames: int

    @property
    def sensible(self) -> bool:
        """Whether its numbers can all be true."""
        whole = min(self.codebooks, self.sample_rate, self.hop_length, self.source_rate, self.codebook_size - 1) > 0
        return whole and self.format > 0 and self.frames == -(-self.samples // self.hop_length)

    @property
    def payload(self) -> int:
        """Bytes of the codes."""
        return _bytes(self.frames * self.codebooks, self.codebook_size)


def write(path: PathLike, coded: Coded) -> None:
    """Write a file of codes, atomically.

    Raises:
        UserError: the folder is missing or not writable.
    """
    data = to_bytes(coded)
    with replacing(path) as part:
        part.write_bytes(data)


def read(path: PathLike) -> Coded:
    """Read a file of codes.

    Raises:
        UserError: it is missing, something else, of a newer format, cut short, damaged, or goes on behind its end.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file of codes ({SUFFIX})")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from None
    return from_bytes(data, path)


def to_bytes(coded: Coded) -> bytes:
    """What a file of codes holds.

    Raises:
        ValueError: the codec's name, its hash or a number does not fit into a header.
    """
    name, spec = coded.codec.encode(), coded.spec
    identity = bytes.fromhex(coded.hash or "00" * _HASH)
    if not 0 < len(name) < 256 or len(identity) != _HASH:
        raise ValueError(f"a name of 1 to 255 bytes and a hash of 12 digits, not {coded.codec!r} and {coded.hash!r}")
    try:
        head = struct.pack(
            _LAYOUT, MAGIC, FORMAT, len(name), spec.codebooks, identity, spec.sample_rate, spec.hop_length,
            spec.codebook_size, coded.source_rate, coded.samples, len(coded.codes),
        )  # fmt: skip
    except struct.error as error:
        raise ValueError(f"a header cannot hold {spec} of {coded.samples} samples ({error})") from None
    body = head + name + pack(coded.codes, spec.codebook_size)
    return body + zlib.crc32(body).to_bytes(_CHECKSUM, "big")


def from_bytes(data: bytes, where: PathLike = "the data") -> Coded:
    """The inverse of `to_bytes`.

    Args:
        data: a whole file.
        where: its name, for messages.

    Raises:
        UserError: as `read`.
    """
    again = "copy it again, or encode the recording again"
    head = _header(data, where)
    if not head.sensible:
        raise UserError(f"{where} is damaged: its header contradicts itself; {again}")
    begin = struct.calcsize(_LAYOUT) + head.name_length
    end = begin + head.payload
    if len(data) < end + _CHECKSUM:
        raise UserError(f"{where} is cut short: it has {len(data)} of {end + _CHECKSUM} bytes; {again}")
    if len(data) > end + _CHECKSUM:
        raise UserError(f"{where} goes on for {len(data) - end - _CHECKSUM} bytes behind its end; {again}")
    if zlib.crc32(data[:end]) != int.from_bytes(data[end:], "big"):
        raise UserError(f"{where} is damaged: its checksum is wrong; {again}")
    spec = CodeSpec(head.sample_rate, head.sample_rate / head.hop_length, head.codebooks, head.codebook_size)
    try:
        name = data[struct.calcsize(_LAYOUT) : begin].decode()
        codes = unpack(data[begin:end], head.frames, head.codebooks, head.codebook_size)
        return Coded(codes, spec, name, head.hash.hex() if any(head.hash) else "", head.samples, head.source_rate)
    except ValueError as error:
        raise UserError(f"{where} holds what no codec writes ({error}): encode the recording again") from None


def _header(data: bytes, where: PathLike) -> _Header:
    if not data:
        raise UserError(f"{where} is empty (0 bytes): encode the recording again")
    if not data.startswith(MAGIC[: len(data)]):
        raise UserError(f"{where} is no file of codes, it begins with {data[:4]!r}: give one that flowtts encode wrote")
    if len(data) > len(MAGIC) and (version := data[len(MAGIC)]) > FORMAT:
        raise UserError(
            f"{where} has format {version} and this flowtts {__version__} reads format {FORMAT}: use a newer flowtts"
        )
    if len(data) < (size := struct.calcsize(_LAYOUT)):
        raise UserError(
            f"{where} is cut short: its {len(data)} bytes are less than a header ({size}); copy it again, or encode "
            "the recording again"
        )
    return _Header(*struct.unpack_from(_LAYOUT, data))


def bits(codebook_size: int) -> int:
    """Bits of a code: ceil(log2(size))."""
    return (codebook_size - 1).bit_length()


def pack(codes: Tensor, codebook_size: int) -> bytes:
    """Codes (T, K), one frame after the other, each in `bits`, the highest bit first; zeros fill the last byte.

    Raises:
        ValueError: a code is below 0 or not below the size.
    """
    flat = codes.reshape(-1).cpu().numpy()
    if flat.size and not 0 <= flat.min() <= flat.max() < codebook_size:
        raise ValueError(f"codes are from 0 to {codebook_size - 1}, not {flat.min()} to {flat.max()}")
    width = bits(codebook_size)
    table: NDArray[np.uint8] = np.empty((flat.size, width), np.uint8)
    # A column at a time: all of them at once would be int64.
    for place in range(width):
        table[:, place] = (flat >> (width - 1 - place)) & 1
    return np.packbits(table).tobytes()


def unpack(data: bytes, frames: int, codebooks: int, codebook_size: int) -> Tensor:
    """The inverse of `pack`: (T, K) int64.

    Raises:
        ValueError: there are too few or too many bytes.
    """
    count, width = frames * codebooks, bits(codebook_size)
    if len(data) != (needed := _bytes(count, codebook_size)):
        raise ValueError(f"{count} codes of {width} bits are {needed} bytes, not {len(data)}")
    table = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width).reshape(count, width)
    flat: NDArray[np.int64] = np.zeros(count, np.int64)
    for place in range(width):
        flat = flat << 1 | table[:, place]
    return torch.from_numpy(flat).reshape(frames, codebooks)


def _bytes(count: int, codebook_size: int) -> int:
    return (count * bits(codebook_size) + 7) // 8


def encode(codec: Codec, audio: Audio, device: torch.device | str = "cpu") -> Coded:
    """A recording as codes: mono, at the codec's rate.

    Codecs that know pieces code pieces of `PIECE` seconds, whatever the length: memory stays bounded (but for the
    samples themselves), and there is one way for each codec, so that a recording always gives the same bytes.

    Args:
        codec: all of its codebooks are used.
        audio: of any rate and number of channels, which are averaged.
        device: where the codec is.

    Raises:
        UserError: nothing is left of the recording at the codec's rate.
    """
    spec = codec.spec
    samples = resample(audio.mono(), spec.sample_rate).samples
    if not len(samples):
        raise UserError(
            f"the recording is too short: {len(audio.samples)} samples at {audio.sample_rate} Hz are none at "
            f"{spec.sample_rate} Hz; give a longer one"
        )
    size = max(1, round(PIECE * spec.frame_rate)) * spec.hop_length
    codes = _through(codec.encode, codec.encoding, torch.from_numpy(samples)[None], size, device)[0]
    return Coded(codes, spec, codec.name, codec.hash, len(samples), audio.sample_rate)


def decode(codec: Codec, coded: Coded, device: torch.device | str = "cpu") -> Audio:
    """The sound of codes: mono, at the codec's rate, exactly as long as what was coded there; pieces as in `encode`.

    Args:
        codec: that made them; see `require_codec`.
        coded: with as many codebooks as the codec has, or fewer.
        device: where the codec is.

    Raises:
        UserError: nothing was coded.
    """
    if not coded.samples:
        raise UserError("there is no sound in these codes (0 samples); encode a recording")
    size = max(1, round(PIECE * coded.spec.frame_rate))
    samples = _through(codec.decode, codec.decoding, coded.codes[None], size, device)[0, : coded.samples]
    return Audio(np.ascontiguousarray(samples.float().numpy()), coded.spec.sample_rate)


def require_codec(coded: Coded, codec: Codec, where: PathLike = "the codes") -> None:
    """See that codes are read by what wrote them: by the same weights, and what these emit.

    A decoder by itself may read the codes of another codec's weights; then its hash is theirs.

    Raises:
        UserError: they are not, or there are more codebooks than the codec has.
    """
    spec = codec.spec
    if (coded.hash or coded.codec) != (codec.hash or codec.name):
        raise UserError(
            f"wrong codec: {where} was written by {coded.codec} ({coded.hash or 'no hash'}), this is {codec.name} "
            f"({codec.hash or 'no hash'}); give the one that wrote it with --codec"
        )
    if replace(coded.spec, codebooks=spec.codebooks) != spec or coded.spec.codebooks > spec.codebooks:
        raise UserError(
            f"wrong codec: {where} needs {_said(coded.spec)}, {codec.name} has {_said(spec)}; give the one that wrote "
            "it with --codec"
        )


def _said(spec: CodeSpec) -> str:
    books = f"{spec.codebooks} codebooks of {spec.codebook_size}"
    return f"{books} at {spec.frame_rate:g} frames a second, {spec.sample_rate} Hz"


def _through(
    whole: Callable[[Tensor], Tensor], pieces: Callable[[], Pieces], x: Tensor, size: int, device: torch.device | str
) -> Tensor:
    """One direction of a codec over (1, n, …): in pieces of ``size`` if it knows them, at once if not."""
    try:
        run = pieces()
    except UserError:
        return whole(x.to(device)).cpu()
    made = [run.push(piece.to(device)).cpu() for piece in torch.split(x, size, 1)]
    return torch.cat([*made, run.finish().cpu()], 1)
