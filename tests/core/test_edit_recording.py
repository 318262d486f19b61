"""Recordings read by stretches, and files in which everything but the patches stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from flowtts.edit import recording as module
from flowtts.edit.recording import Patch, Recording, assemble, render, save, to_output
from flowtts.types import Audio, UserError

RATES = (8000, 16_000, 22_050, 44_100, 48_000)


def make(channels: int, length: int = 9000, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-1, 1, (length, channels))


def patch(start: int, end: int, length: int, channels: int = 1, value: float = 0.25) -> Patch:
    return Patch(start, end, np.full((length, channels), value, np.float32), 0, 0)


def patched(samples: NDArray[Any], patches: list[Patch]) -> NDArray[Any]:
    """The output by plain concatenation; patches in order, as floats."""
    pieces, at = [], 0
    for one in patches:
        pieces += [samples[at : one.start], one.samples]
        at = one.end
    return np.concatenate([*pieces, samples[at:]])


def outside(patches: list[Patch], length: int) -> NDArray[np.bool_]:
    """Samples of the output that no patch touches."""
    marks = patched(np.ones((length, 1), np.float32), [patch(p.start, p.end, len(p.samples), 1, 0.0) for p in patches])
    return np.asarray(marks[:, 0] == 1)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        ("wav", "PCM_U8"), ("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "PCM_32"), ("wav", "FLOAT"),
        ("wav", "DOUBLE"), ("wav", "ULAW"), ("flac", "PCM_16"), ("flac", "PCM_24"), ("aiff", "PCM_16"),
    ],
)  # fmt: skip
def test_save_keeps_every_sample_outside_patches(
    tmp_path: Path, rate: int, channels: int, form: str, subtype: str
) -> None:
    source = tmp_path / f"in.{form}"
    soundfile.write(source, make(channels), rate, subtype=subtype)
    dtype = "int32" if subtype not in ("FLOAT", "DOUBLE") else "float64"
    before, _ = soundfile.read(source, dtype=dtype, always_2d=True)
    patches = [patch(0, 10, 300, channels), patch(4000, 5000, 20, channels), patch(5000, 5000, 7, channels)]
    opened = Recording.open(source)
    assert (opened.sample_rate, opened.channels, opened.length) == (rate, channels, 9000)
    save(opened, patches, tmp_path / f"out.{form}")
    after, out_rate = soundfile.read(tmp_path / f"out.{form}", dtype=dtype, always_2d=True)
    kept = outside(patches, 9000)
    assert out_rate == rate and soundfile.info(tmp_path / f"out.{form}").subtype == subtype
    assert len(after) == len(kept) == 9000 + 290 - 980 + 7
    np.testing.assert_array_equal(after[kept], np.concatenate([before[10:4000], before[5000:]]))
    scale = 2.0**31 if dtype == "int32" else 1.0
    np.testing.assert_allclose(after[~kept] / scale, 0.25, atol=0.01 if subtype in ("PCM_U8", "ULAW") else 2e-5)


@pytest.mark.parametrize(
    ("form", "subtype", "rate"), [("OGG", "VORBIS", 16_000), ("OGG", "OPUS", 48_000), ("MP3", "MPEG_LAYER_III", 44_100)]
)
def test_compressed_files_become_floats_and_are_read_from_anywhere(
    tmp_path: Path, form: str, subtype: str, rate: int
) -> None:
    source = tmp_path / f"in.{form.lower()}"
    soundfile.write(source, 0.1 * make(2, 100_000), rate, format=form, subtype=subtype)
    before, _ = soundfile.read(source, dtype="float32", always_2d=True)
    opened = Recording.open(source)
    assert opened.length == len(before) and opened.subtype == subtype and opened.format == form
    for start in (0, 1, 40_000, 61_234, len(before) - 50):
        np.testing.assert_array_equal(opened.read(start, min(start + 3000, len(before))), before[start : start + 3000])
    patches = [patch(50_000, 50_100, 400, 2)]
    save(opened, patches, tmp_path / "out.wav")
    after, _ = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    assert soundfile.info(tmp_path / "out.wav").subtype == "FLOAT"
    np.testing.assert_array_equal(after, patched(before, patches))
    save(opened, patches, source)
    assert soundfile.info(source).subtype == subtype


@pytest.mark.parametrize(
    ("subtype", "suffix", "written", "dtype"),
    [
        ("PCM_16", "flac", "PCM_16", "int32"), ("PCM_U8", "flac", "PCM_16", "int32"), ("FLOAT", "flac", "PCM_24", ""),
        ("PCM_24", "aiff", "PCM_24", "int32"), ("DOUBLE", "w64", "DOUBLE", "float64"), ("PCM_16", "ogg", "VORBIS", ""),
        ("PCM_32", "mat", "PCM_32", "int32"), ("IMA_ADPCM", "wav", "FLOAT", "float32"),
    ],
)  # fmt: skip
def test_save_to_another_format_takes_the_narrowest_lossless_encoding(
    tmp_path: Path, subtype: str, suffix: str, written: str, dtype: str
) -> None:
    if suffix == "mat":
        suffix, written = "au", "PCM_32"
    soundfile.write(tmp_path / "in.wav", 0.9 * make(1), 16_000, subtype=subtype)
    save(Recording.open(tmp_path / "in.wav"), [patch(3000, 3500, 500)], tmp_path / f"out.{suffix}")
    assert soundfile.info(tmp_path / f"out.{suffix}").subtype == written
    if dtype:
        before, _ = soundfile.read(tmp_path / "in.wav", dtype=dtype)
        after, _ = soundfile.read(tmp_path / f"out.{suffix}", dtype=dtype)
        np.testing.assert_array_equal(np.delete(after, slice(3000, 3500)), np.delete(before, slice(3000, 3500)))
    elif written == "PCM_24":
        before, _ = soundfile.read(tmp_path / "in.wav")
        after, _ = soundfile.read(tmp_path / "out.flac")
        np.testing.assert_allclose(after[:3000], before[:3000], atol=0.51 / 2**23)


def test_a_double_file_keeps_what_a_float_cannot_hold(tmp_path: Path) -> None:
    samples = make(1)
    soundfile.write(tmp_path / "in.wav", samples, 16_000, subtype="DOUBLE")
    save(Recording.open(tmp_path / "in.wav"), [patch(0, 10, 10)], tmp_path / "out.wav")
    after, _ = soundfile.read(tmp_path / "out.wav", dtype="float64", always_2d=True)
    np.testing.assert_array_equal(after[10:], samples[10:])
    assert not np.array_equal(samples.astype(np.float32), samples)


def test_patches_are_rounded_and_limited(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", make(1), 16_000)
    values = np.array([[2.0], [-3.0], [1000.4 / 32768], [-1000.6 / 32768]], np.float32)
    opened = Recording.open(tmp_path / "in.wav")
    save(opened, [Patch(100, 104, values, 0, 0)], tmp_path / "out.wav")
    after, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    assert after[100:104].tolist() == [32767, -32768, 1000, -1001]
    assert render(opened, [Patch(100, 104, values, 0, 0)]).samples[100:102].tolist() == [1.0, -1.0]


def test_render_and_assemble_agree_and_patches_may_come_in_any_order() -> None:
    samples = make(3, 200_000).astype(np.float32)
    opened = Recording.open(Audio(samples, 48_000))
    patches = [patch(0, 0, 5, 3), patch(70_000, 140_000, 0, 3), patch(140_000, 140_001, 90_000, 3),
               patch(199_999, 200_000, 2, 3), patch(200_000, 200_000, 9, 3)]  # fmt: skip
    blocks = list(assemble(opened, patches[::-1]))
    assert max(map(len, blocks)) <= module.BLOCK
    np.testing.assert_array_equal(np.concatenate(blocks), patched(samples, patches))
    np.testing.assert_array_equal(render(opened, patches).samples, patched(samples, patches))
    assert render(opened, patches).sample_rate == 48_000


def test_nothing_is_read_beyond_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "in.wav", 0.5 * make(2, 500_000), 16_000)
    soundfile.write(tmp_path / "in.ogg", 0.5 * make(2, 500_000), 16_000)
    monkeypatch.setattr(module, "_DECODED", 1 << 16)
    asked: list[int] = []
    read = soundfile.SoundFile.read

    def counted(self: soundfile.SoundFile, frames: int = -1, *args: Any, **options: Any) -> Any:
        asked.append(frames)
        return read(self, frames, *args, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    for name in ("in.wav", "in.ogg"):
        opened = Recording.open(tmp_path / name)
        save(opened, [patch(250_000, 250_000, 300_000, 2)], tmp_path / "out.wav")
        assert soundfile.info(tmp_path / "out.wav").frames == 800_000
    assert asked and min(asked) > 0 and max(asked) <= 1 << 16
    asked.clear()
    opened = Recording.open(tmp_path / "in.wav")
    opened.read(300_000, 300_100)
    opened.mono(100_000, 132_000, 8000)
    assert asked[0] == 100 and asked[1] <= 32_000 + 2 * 400


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("begin", [0, 0.3, 0.4567])
def test_mono_is_the_mean_at_the_other_rate_without_a_shift(rate: int, begin: float) -> None:
    def sine(times: NDArray[np.float64]) -> NDArray[np.float64]:
        return 0.5 * np.sin(2 * np.pi * 440 * times)

    times, start, end = np.arange(rate) / rate, int(begin * rate), int((begin + 0.5) * rate)
    both: NDArray[np.float32] = np.stack([2 * sine(times), 0 * times], 1).astype(np.float32)
    opened = Recording.open(Audio(both, rate))
    got = opened.mono(start, end, 16_000)
    assert got.sample_rate == 16_000 and len(got.samples) == round((end - start) * 16_000 / rate)
    wanted = sine(start / rate + np.arange(len(got.samples)) / 16_000)
    edge = 400 if start == 0 else 0
    np.testing.assert_allclose(got.samples[edge:], wanted[edge:], atol=2e-3)


def test_to_output_follows_the_samples() -> None:
    samples: NDArray[np.float32] = np.arange(1000, dtype=np.float32)[:, None] / np.float32(1000)
    opened = Recording.open(Audio(samples, 8000))
    patches = [
        Patch(100, 200, np.full((300, 1), 0.5, np.float32), 20, 30),
        Patch(200, 260, np.full((10, 1), 0.5, np.float32), 2, 3),
        Patch(600, 600, np.full((50, 1), 0.5, np.float32), 0, 0),
    ]
    out = render(opened, patches).samples
    for place in [*range(0, 100), *range(260, 1000)]:
        assert out[to_output(patches, place)] == samples[place, 0]
    places = [to_output(patches, place) for place in range(1001)]
    assert places == sorted(places) and places[-1] == len(out)
    assert [places[at] for at in (100, 110, 120, 170, 190, 200)] == [100, 110, 120, 370, 390, 400]
    assert [to_output(patches[::-1], place) for place in range(1001)] == places


def test_a_recording_may_be_saved_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "same.wav"
    soundfile.write(path, make(1, 300_000), 16_000)
    before, _ = soundfile.read(path, dtype="int16", always_2d=True)
    save(Recording.open(path), [patch(10, 20, 5)], path)
    after, _ = soundfile.read(path, dtype="int16", always_2d=True)
    np.testing.assert_array_equal(after[15:], before[20:])
    assert [child.name for child in tmp_path.iterdir()] == ["same.wav"]


def test_a_recording_in_memory_is_saved_without_loss(tmp_path: Path) -> None:
    audio = Audio(np.linspace(-1, 1, 900, dtype=np.float32), 16_000)
    save(Recording.open(audio), [], tmp_path / "out.wav")
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out.wav", dtype="float32")[0], audio.samples)


def test_a_wav_too_long_for_its_header_becomes_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "in.wav", make(1), 16_000)
    monkeypatch.setattr(module, "_WAV_LIMIT", 17_999)
    save(Recording.open(tmp_path / "in.wav"), [], tmp_path / "out.wav")
    assert soundfile.info(tmp_path / "out.wav").format == "RF64"
    monkeypatch.setattr(module, "_WAV_LIMIT", 18_000)
    save(Recording.open(tmp_path / "in.wav"), [], tmp_path / "out.wav")
    assert soundfile.info(tmp_path / "out.wav").format == "WAV"


def test_bad_recordings_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not sound at all")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    for name, message in [("no.wav", "no such file"), ("", "folder"), ("text.wav", "cannot be read as sound"),
                          ("empty.wav", "0 samples")]:  # fmt: skip
        with pytest.raises(UserError, match=message) as caught:
            Recording.open(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="0 samples"):
        Recording.open(Audio(np.zeros(0, np.float32), 16_000))


def test_holes_are_found_where_they_are_read(tmp_path: Path) -> None:
    samples = make(1, 16_000).astype(np.float32)
    samples[8000] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16_000, subtype="FLOAT")
    opened = Recording.open(tmp_path / "nan.wav")
    np.testing.assert_array_equal(opened.read(0, 8000), samples[:8000])
    with pytest.raises(UserError, match=r"NaN or infinite samples at 0\.500 s"):
        opened.read(0, 16_000)
    soundfile.write(tmp_path / "long.flac", make(1, 100_000), 16_000)
    whole = (tmp_path / "long.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut short|cannot be read"):
        save(Recording.open(tmp_path / "cut.flac"), [], tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists() and not list(tmp_path.glob(".out*"))


def test_bad_targets_are_refused_in_one_line(tmp_path: Path) -> None:
    opened = Recording.open(Audio(make(7).astype(np.float32), 44_100))
    for name, message in [("out.xyz", "unknown sound format"), ("no/out.wav", "folder does not exist"),
                          ("out.mp3", "MP3 cannot hold 7 channels at 44100 Hz")]:  # fmt: skip
        with pytest.raises(UserError, match=message) as caught:
            save(opened, [], tmp_path / name)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_wrong_patches_are_refused() -> None:
    opened = Recording.open(Audio(make(1, 100).astype(np.float32), 8000))
    for wrong in ([patch(10, 30, 5), patch(20, 40, 5)], [patch(90, 101, 5)], [patch(0, 10, 5, 2)]):
        with pytest.raises(ValueError, match="patch"):
            render(opened, wrong)
    with pytest.raises(ValueError, match="NaN"):
        patch(0, 1, 1, 1, float("nan"))
    with pytest.raises(ValueError, match="cross-fades"):
        Patch(0, 10, np.zeros((10, 1), np.float32), 6, 5)
    with pytest.raises(ValueError, match="inside"):
        opened.read(50, 101)
