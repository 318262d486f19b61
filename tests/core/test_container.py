"""Files of codes: exact bytes, round trips, every refusal by its name, sound through pieces and whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from flowtts import container
from flowtts.codec import Codec, Pieces
from flowtts.container import Coded, from_bytes, pack, read, require_codec, to_bytes, unpack, write
from flowtts.types import Audio, CodeSpec, UserError

SPEC = CodeSpec(16_000, 50.0, 3, 1024)
HASH = "0123456789ab"


def coded(frames: int = 7, spec: CodeSpec = SPEC, samples: int | None = None) -> Coded:
    generator = torch.Generator().manual_seed(frames)
    codes = torch.randint(spec.codebook_size, (frames, spec.codebooks), generator=generator)
    length = frames * spec.hop_length - 5 if samples is None else samples
    return Coded(codes, spec, "codec", HASH, max(0, length), 44_100)


class Signs:
    """A codec that can be checked by hand: four samples a frame, the n-th codebook codes the n-th sample's sign.

    Args:
        streams: whether it knows pieces.
    """

    name, hash = "signs", ""

    def __init__(self, codebooks: int = 3, streams: bool = True) -> None:
        self.spec, self.streams = CodeSpec(8000, 2000.0, codebooks, 3), streams
        self.longest = 0

    def encode(self, samples: Tensor) -> Tensor:
        filled = torch.nn.functional.pad(samples, (0, -samples.shape[-1] % 4)).unflatten(-1, (-1, 4))
        self.longest = max(self.longest, samples.shape[-1])
        return filled[..., : self.spec.codebooks].sign().long() + 1

    def decode(self, codes: Tensor) -> Tensor:
        self.longest = max(self.longest, codes.shape[1])
        return torch.nn.functional.pad(0.5 * (codes - 1.0), (0, 4 - codes.shape[-1])).flatten(1)

    def encoding(self) -> Pieces:
        return self._pieces(self.encode)

    def decoding(self) -> Pieces:
        return self._pieces(self.decode)

    def _pieces(self, make: Callable[[Tensor], Tensor]) -> Pieces:
        if not self.streams:
            raise UserError("signs hears what comes later")
        return Late(make)

    def latents(self, samples: Tensor) -> Tensor:
        raise NotImplementedError

    def from_latents(self, latents: Tensor) -> Tensor:
        raise NotImplementedError

    def statistics(self) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def to(self, device: torch.device | str) -> Codec:
        return self


class Late:
    """Answers a piece late."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        self.make, self.held = make, None

    def push(self, piece: Tensor) -> Tensor:
        late, self.held = self.held, piece  # type: ignore[assignment]
        return self.make(piece[:, :0] if late is None else late)

    def finish(self) -> Tensor:
        return self.push(torch.zeros(1, 0))


def test_bytes_are_as_documented() -> None:
    codes = torch.tensor([[0, 1023, 1], [512, 2, 0]])
    data = to_bytes(Coded(codes, SPEC, "codec", HASH, 321, 44_100))
    numbers = [16_000, 320, 1024, 44_100]
    head = b"\x89FTC" + bytes([1, 5, 3]) + bytes.fromhex(HASH) + b"".join(x.to_bytes(4, "big") for x in numbers)
    head += (321).to_bytes(8, "big") + (2).to_bytes(4, "big") + b"codec"
    assert data[: len(head)] == head and len(head) == 46
    bits = "0000000000111111111100000000011000000000000000001000000000000000"
    assert data[46:54] == int(bits, 2).to_bytes(8, "big")
    assert data[54:] == zlib.crc32(data[:54]).to_bytes(4, "big")


@pytest.mark.parametrize("size", [2, 3, 10, 1024, 1025, 2048, 65_536, 100_000])
@pytest.mark.parametrize(("frames", "codebooks"), [(0, 4), (1, 1), (13, 1), (7, 9)])
def test_packing_is_tight_and_comes_back(size: int, frames: int, codebooks: int) -> None:
    codes = torch.randint(size, (frames, codebooks), generator=torch.Generator().manual_seed(size))
    if frames:
        codes[0, 0], codes[-1, -1] = size - 1, 0
    data = pack(codes, size)
    width = len(f"{size - 1:b}")
    written = "".join(f"{code:0{width}b}" for code in codes.flatten().tolist())
    assert len(data) == -(-len(written) // 8)
    assert "".join(f"{byte:08b}" for byte in data) == written.ljust(8 * len(data), "0")
    back = unpack(data, frames, codebooks, size)
    assert back.dtype == torch.int64 and torch.equal(back, codes)


def test_packing_refuses_what_it_cannot_hold() -> None:
    for code in (-1, 16):
        with pytest.raises(ValueError, match="codes are from 0 to 15"):
            pack(torch.tensor([[code]]), 16)
    with pytest.raises(ValueError, match="3 codes of 10 bits are 4 bytes, not 5"):
        unpack(bytes(5), 1, 3, 1024)


@pytest.mark.parametrize("frames", [0, 1, 50, 3000])
@pytest.mark.parametrize("spec", [SPEC, CodeSpec(44_100, 44_100 / 512, 9, 1024), CodeSpec(24_000, 12.5, 32, 2048)])
def test_a_file_comes_back_whole(tmp_path: Path, frames: int, spec: CodeSpec) -> None:
    given = coded(frames, spec)
    write(tmp_path / "a.ftc", given)
    found = read(tmp_path / "a.ftc")
    assert torch.equal(found.codes, given.codes)
    assert (found.spec, found.codec, found.hash) == (spec, "codec", HASH)
    assert (found.samples, found.source_rate) == (given.samples, 44_100)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ftc"]


def test_a_second_at_four_kilobits_is_half_a_kilobyte() -> None:
    second = coded(50, replace(SPEC, codebooks=8), samples=16_000)
    assert second.seconds == 1 and second.bits_per_second == 4000
    assert len(to_bytes(second)) == 500 + 50


def test_the_first_codebooks_are_a_file_of_their_own() -> None:
    given = coded()
    less = from_bytes(to_bytes(given.first(2)))
    assert torch.equal(less.codes, given.codes[:, :2]) and less.spec == replace(SPEC, codebooks=2)
    assert given.first(None) is given
    for count in (0, 4):
        with pytest.raises(UserError, match=f"take 1 to 3 of them, not {count}"):
            given.first(count)


def test_codes_of_no_file_have_no_hash() -> None:
    assert from_bytes(to_bytes(replace(coded(), hash=""))).hash == ""


def changed(data: bytes, place: int, value: bytes, sum_right: bool = True) -> bytes:
    """With other bytes at a place, and a checksum that fits if asked for."""
    made = data[:place] + value + data[place + len(value) :]
    return made[:-4] + zlib.crc32(made[:-4]).to_bytes(4, "big") if sum_right else made


GOOD = to_bytes(coded())
BAD = {
    "empty": (b"", r"is empty \(0 bytes\)"),
    "foreign": (b"RIFF" + bytes(100), "is no file of codes, it begins with b'RIFF'"),
    "short and foreign": (b"R", "is no file of codes"),
    "text transfer": (b"\x89FT\n" + GOOD[4:], "is no file of codes"),
    "newer": (changed(GOOD, 4, b"\x02"), r"has format 2 and this flowtts .* reads format 1: use a newer flowtts"),
    "newer and of another layout": (b"\x89FTC\x09", "has format 9"),
    "format 0": (changed(GOOD, 4, b"\x00"), "damaged: its header contradicts itself"),
    "magic alone": (GOOD[:3], "is cut short: its 3 bytes are less than a header"),
    "half a header": (GOOD[:30], "is cut short: its 30 bytes"),
    "half the codes": (GOOD[:60], f"is cut short: it has 60 of {len(GOOD)} bytes"),
    "a byte missing": (GOOD[:-1], f"is cut short: it has {len(GOOD) - 1} of {len(GOOD)} bytes"),
    "a byte more": (GOOD + b"\n", "goes on for 1 bytes behind its end"),
    "a bit of a code": (changed(GOOD, 50, bytes([GOOD[50] ^ 1]), False), "damaged: its checksum is wrong"),
    "a bit of the checksum": (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "damaged: its checksum is wrong"),
    "a bit of the hash": (changed(GOOD, 7, bytes([GOOD[7] ^ 1]), False), "damaged: its checksum is wrong"),
    "other frames": (changed(GOOD, 37, struct.pack(">I", 2**31)), "damaged: its header contradicts itself"),
    "no codebooks": (changed(GOOD, 6, b"\x00"), "damaged: its header contradicts itself"),
    "no hop": (changed(GOOD, 17, bytes(4)), "damaged: its header contradicts itself"),
    "a name that is no text": (changed(GOOD, 41, b"\xff"), "holds what no codec writes"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_every_bad_file_is_refused_by_name(tmp_path: Path, case: str) -> None:
    data, said = BAD[case]
    (tmp_path / "bad.ftc").write_bytes(data)
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path / "bad.ftc")
    assert str(caught.value).startswith(f"{tmp_path / 'bad.ftc'} ") and "\n" not in str(caught.value)


def test_any_single_wrong_bit_is_noticed() -> None:
    for place in range(8 * len(GOOD)):
        data = bytearray(GOOD)
        data[place // 8] ^= 1 << place % 8
        with pytest.raises(UserError):
            from_bytes(bytes(data))


def test_codes_out_of_range_are_refused_though_the_checksum_is_right() -> None:
    spec = replace(SPEC, codebook_size=1000)
    data = to_bytes(coded(1, spec))
    with pytest.raises(UserError, match=r"holds what no codec writes \(codes are from 0 to 999, not up to 1023\)"):
        from_bytes(changed(data, 46, b"\xff\xff"))


def test_missing_files_folders_and_recordings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*gone.ftc: No such file"):
        read(tmp_path / "gone.ftc")
    with pytest.raises(UserError, match="is a folder"):
        read(tmp_path)
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 16_000)
    with pytest.raises(UserError, match="begins with b'RIFF': give one that flowtts encode wrote"):
        read(tmp_path / "a.wav")
    with pytest.raises(UserError, match="folder does not exist"):
        write(tmp_path / "gone" / "a.ftc", coded())


def test_what_contradicts_itself_is_never_made() -> None:
    good = coded()
    with pytest.raises(ValueError, match=r"2235 samples are codes of the shape \(7, 3\), not \(6, 3\)"):
        replace(good, codes=good.codes[:-1])
    with pytest.raises(ValueError, match="codes are from 0 to 1023"):
        replace(good, codes=good.codes - 1024)
    with pytest.raises(ValueError, match="whole samples"):
        replace(good, spec=replace(SPEC, frame_rate=49.9))
    with pytest.raises(ValueError, match="a hash of 12 digits"):
        to_bytes(replace(good, hash="0123"))
    with pytest.raises(ValueError, match="a header cannot hold"):
        to_bytes(replace(good, source_rate=-1))


def sound(seconds: float, rate: int = 8000, channels: int = 1) -> Audio:
    samples = np.random.default_rng(0).standard_normal((round(seconds * rate), channels), "f4").clip(-1, 1)
    return Audio(np.ascontiguousarray(samples[:, 0] if channels == 1 else samples), rate)


@pytest.mark.parametrize("samples", [1, 3, 4, 8000, 200_001])
def test_pieces_and_the_whole_give_the_same_bytes_and_the_same_sound(samples: int) -> None:
    audio = sound(samples / 8000)
    streaming, whole = Signs(), Signs(streams=False)
    made, same = container.encode(streaming, audio), container.encode(whole, audio)
    assert to_bytes(made) == to_bytes(same) and made.samples == samples and len(made.codes) == -(-samples // 4)
    signs = torch.nn.functional.pad(torch.from_numpy(audio.samples), (0, -samples % 4)).view(-1, 4)[:, :3].sign()
    assert torch.equal(made.codes, signs.long() + 1)
    assert streaming.longest <= 80_000 and whole.longest == samples
    heard, also = container.decode(streaming, made), container.decode(whole, made)
    assert np.array_equal(heard.samples, also.samples) and heard.sample_rate == 8000
    expected = np.sign(audio.samples) * (np.arange(samples) % 4 < 3) / 2
    assert np.array_equal(heard.samples, expected.astype("f4"))


def test_channels_are_averaged_and_other_rates_brought_to_the_codecs() -> None:
    stereo = sound(0.5, 44_100, 2)
    made = container.encode(Signs(), stereo)
    assert (made.samples, made.source_rate) == (4000, 44_100)
    assert to_bytes(made) == to_bytes(container.encode(Signs(), stereo.mono()))
    with pytest.raises(UserError, match="too short: 1 samples at 44100 Hz are none at 8000 Hz"):
        container.encode(Signs(), Audio(np.zeros(1, "f4"), 44_100))


def test_only_what_wrote_codes_reads_them() -> None:
    codec = Signs()
    made = container.encode(codec, sound(0.1))
    require_codec(made, codec)
    require_codec(made.first(1), codec)
    with pytest.raises(UserError, match=r"wrong codec: a.ftc was written by other \(no hash\), this is signs"):
        require_codec(replace(made, codec="other"), codec, "a.ftc")
    with pytest.raises(UserError, match=f"wrong codec: a.ftc was written by signs .{HASH}., this is signs .no hash."):
        require_codec(replace(made, hash=HASH), codec, "a.ftc")
    with pytest.raises(UserError, match=r"wrong codec: a.ftc needs 3 codebooks of 3 at .* signs has 2 codebooks"):
        require_codec(made, Signs(2), "a.ftc")
    other = Signs()
    other.spec = replace(other.spec, codebook_size=4)
    with pytest.raises(UserError, match=r"needs 3 codebooks of 3 .* has 3 codebooks of 4"):
        require_codec(made, other)


def test_codes_of_nothing_make_no_file_of_nothing() -> None:
    nothing = Coded(torch.zeros(0, 3, dtype=torch.long), Signs().spec, "signs", "", 0, 8000)
    assert len(from_bytes(to_bytes(nothing)).codes) == 0
    with pytest.raises(UserError, match="no sound in these codes"):
        container.decode(Signs(), nothing)


def test_weights_count_not_the_name_of_who_reads_them() -> None:
    """A decoder by itself has the hash of the codec whose codes it reads."""
    codec = Signs()
    made = replace(container.encode(codec, sound(0.1)), hash=HASH, codec="encodec")
    codec.name, codec.hash = "vocos-encodec", HASH  # type: ignore[misc]
    require_codec(made, codec)
