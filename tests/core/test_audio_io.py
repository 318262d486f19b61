"""Sound files and sampling rates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from flowtts.audio.io import read, resample, write
from flowtts.types import Audio, UserError


def _sine(hz: float, seconds: float, rate: int, amplitude: float = 0.5) -> Audio:
    time = np.arange(round(seconds * rate)) / rate
    return Audio((amplitude * np.sin(2 * math.pi * hz * time)).astype(np.float32), rate)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_round_trip_within_half_a_step(tmp_path: Path, suffix: str, rate: int) -> None:
    audio = _sine(440, 0.1, rate)
    write(tmp_path / f"a{suffix}", audio)
    back = read(tmp_path / f"a{suffix}")
    assert back.sample_rate == rate and back.samples.dtype == np.float32
    assert np.abs(back.samples - audio.samples).max() <= 1 / 32768


def test_float_subtype_is_exact(tmp_path: Path) -> None:
    audio = _sine(440, 0.1, 16_000, 1.7)
    write(tmp_path / "a.wav", audio, subtype="FLOAT")
    assert np.array_equal(read(tmp_path / "a.wav").samples, audio.samples)


@pytest.mark.parametrize("suffix", [".ogg", ".mp3"])
def test_lossy_formats_choose_their_own_encoding(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a{suffix}", _sine(440, 0.5, 16_000))
    back = read(tmp_path / f"a{suffix}")
    assert back.sample_rate == 16_000 and abs(back.seconds - 0.5) < 0.1
    middle = back.samples[2000:6000]
    assert np.abs(np.fft.rfft(middle)).argmax() == 440 * len(middle) // 16_000


def test_channels_stay_and_mono_averages(tmp_path: Path) -> None:
    left, right = _sine(300, 0.1, 16_000).samples, _sine(500, 0.1, 16_000).samples
    write(tmp_path / "a.wav", Audio(np.stack([left, right], axis=1), 16_000))
    back = read(tmp_path / "a.wav")
    assert back.samples.shape == (1600, 2)
    assert np.abs(back.mono().samples - (left + right) / 2).max() < 1e-4


def test_too_loud_is_clipped_not_wrapped(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", Audio(np.array([2.0, -2.0], dtype=np.float32), 16_000))
    back = read(tmp_path / "a.wav").samples
    assert back[0] > 0.999 and back[1] == -1


def test_missing_folder_garbage_empty_and_nan(tmp_path: Path) -> None:
    (tmp_path / "garbage.wav").write_bytes(b"RIFF not at all")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, dtype=np.float32), 16_000)
    soundfile.write(tmp_path / "nan.wav", np.array([0, np.nan], dtype=np.float32), 16_000, subtype="FLOAT")
    for name, words in {
        "absent.wav": "no such file", ".": "is a folder", "garbage.wav": "cannot be read as sound",
        "empty.wav": "no sound", "nan.wav": "NaN",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=words) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_text_file_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UserError, match="cannot be read as sound"):
        read(tmp_path / "a.txt")


def test_bad_targets(tmp_path: Path) -> None:
    audio = _sine(440, 0.01, 16_000)
    with pytest.raises(UserError, match=r"unknown sound format '\.xyz'"):
        write(tmp_path / "a.xyz", audio)
    with pytest.raises(UserError, match="unknown sound format ''"):
        write(tmp_path / "a", audio)
    with pytest.raises(UserError, match="folder does not exist"):
        write(tmp_path / "no" / "a.wav", audio)
    (tmp_path / "d.wav").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        write(tmp_path / "d.wav", audio)
    with pytest.raises(ValueError, match="NaN"):
        write(tmp_path / "a.wav", Audio(np.array([np.nan], dtype=np.float32), 16_000))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.wav"]


def test_failure_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.wav", _sine(440, 0.01, 16_000))
    before = (tmp_path / "a.wav").read_bytes()

    def full(file: object, samples: object) -> None:
        # The header is in the file by now.
        raise OSError("No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    with pytest.raises(UserError, match="No space left"):
        write(tmp_path / "a.wav", _sine(880, 0.01, 16_000))
    assert (tmp_path / "a.wav").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(("source", "target"), [(16_000, 24_000), (44_100, 16_000), (8_000, 16_000)])
def test_resampled_sine_is_the_sine(source: int, target: int) -> None:
    made = resample(_sine(440, 0.5, source), target)
    wanted = _sine(440, 0.5, target)
    assert made.sample_rate == target and len(made.samples) == len(wanted.samples)
    edge = target // 20
    assert np.abs(made.samples - wanted.samples)[edge:-edge].max() < 1e-3


def test_resampling_removes_what_cannot_be_held() -> None:
    made = resample(_sine(6_000, 0.5, 16_000), 8_000)
    assert np.abs(made.samples[400:-400]).max() < 1e-3


def test_same_rate_is_the_same_object_and_channels_survive() -> None:
    audio = _sine(440, 0.1, 16_000)
    assert resample(audio, 16_000) is audio
    stereo = Audio(np.stack([audio.samples, -audio.samples], axis=1), 16_000)
    made = resample(stereo, 24_000).samples
    assert made.shape == (2400, 2) and np.allclose(made[:, 0], -made[:, 1], atol=1e-6)
    with pytest.raises(ValueError, match="positive"):
        resample(audio, 0)
