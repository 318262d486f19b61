"""Voices without transcripts: what of recordings reaches the model, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from flowtts import voice
from flowtts.audio.active import TRAINING_RMS, active_rms
from flowtts.audio.io import read
from flowtts.latents import Latents
from flowtts.listening import LONGEST, Heard, listen
from flowtts.types import Audio, PathLike, UserError

RATE = 16_000
Noise = Callable[..., Audio]


class Ear:
    """Hears, and remembers what it heard."""

    def __init__(self) -> None:
        self.clips: Sequence[Audio] = ()

    def __call__(self, clips: Sequence[Audio]) -> Latents:
        self.clips = clips
        return Latents({"ar": torch.tensor([float(len(clips))])}, "abc")


def heard(of: PathLike | Audio, ear: Ear | None = None) -> Heard:
    return listen(of, RATE, "abc", ear or Ear())


def write(path: Path, audio: Audio, gain: float = 1.0) -> None:
    soundfile.write(path, gain * audio.samples, audio.sample_rate, subtype="FLOAT", format="WAV")


def test_the_model_hears_mono_at_its_rate_and_at_one_level(noise: Noise) -> None:
    one, ear = noise(2.0, 24_000), Ear()
    stereo = Audio(np.stack([one.samples, 3 * one.samples], axis=1), 24_000)
    found = heard(stereo, ear)
    (clip,) = ear.clips
    assert clip.sample_rate == RATE and clip.samples.ndim == 1 and clip.seconds == pytest.approx(2.0)
    assert active_rms(clip.samples, RATE) == pytest.approx(TRAINING_RMS, rel=1e-4)
    assert found.latents.gain == found.gain and found.audio is not None
    assert np.array_equal(found.audio.samples, clip.samples)
    assert (found.name, found.clips) == ("audio", 1)
    quiet = heard(replace(stereo, samples=0.1 * stereo.samples))
    assert quiet.gain == pytest.approx(10 * found.gain, rel=1e-5)


def test_a_folder_is_its_recordings_by_name(tmp_path: Path, noise: Noise) -> None:
    whole = noise(5.0).samples
    parts = {"c.WAV": whole[:16_000], "a.wav": whole[16_000:48_000], "b.flac": whole[48_000:]}
    for name, samples in parts.items():
        soundfile.write(tmp_path / name, samples, RATE)
    for name in ("a.txt", ".hidden.wav", "notes.json"):
        (tmp_path / name).write_bytes(b"no sound")
    ear = Ear()
    found = heard(tmp_path, ear)
    assert [round(clip.seconds) for clip in ear.clips] == [2, 2, 1]
    assert found.name == str(tmp_path) and found.clips == 3 and found.audio is not None
    assert found.audio.seconds == pytest.approx(5.0)
    assert found.info() == {"name": str(tmp_path), "text": None, "heard": False, "hash": found.hash, "clips": 3}


def test_the_gain_of_a_folder_is_the_geometric_mean(tmp_path: Path, noise: Noise) -> None:
    write(tmp_path / "a.wav", noise(2.0), 1.0)
    write(tmp_path / "b.wav", noise(2.0), 0.04)
    assert heard(tmp_path).gain == pytest.approx(heard(noise(2.0)).gain * 5, rel=1e-5)


def test_the_hash_is_of_the_samples(tmp_path: Path, noise: Noise) -> None:
    write(tmp_path / "a.wav", noise(2.0))
    before = heard(tmp_path / "a.wav").hash
    assert heard(noise(2.0)).hash == before == heard(tmp_path).hash
    write(tmp_path / "b.wav", noise(1.5))
    assert heard(tmp_path).hash != before


def test_shipped_voices_go_by_their_names() -> None:
    found = heard("rms")
    assert found.name == "rms" and found.hash == heard(read(voice.resolve("rms", None)[0])).hash


def test_long_recordings_are_cut(noise: Noise) -> None:
    ear = Ear()
    assert heard(noise(LONGEST + 5), ear).clips == 1
    assert ear.clips[0].seconds == LONGEST


def test_a_kept_voice_is_not_heard_again(tmp_path: Path) -> None:
    ear, kept = Ear(), Latents({"ar": torch.arange(3.0)}, "abc", 0.5)
    file = kept.save(tmp_path / "v.safetensors")
    found = heard(file, ear)
    assert ear.clips == () and found.audio is None and found.clips == 0
    assert (found.name, found.gain, found.hash, found.latents.hash) == (str(file), 0.5, kept.hash, kept.hash)
    with pytest.raises(UserError, match="these are xyz"):
        listen(file, RATE, "xyz", ear)


def test_what_is_no_voice_is_refused(tmp_path: Path, noise: Noise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("words").mkdir()
    Path("words/a.txt").write_text("hello")
    Path("text.wav").write_text("hello")
    write(Path("short.wav"), noise(0.5))
    write(Path("silent.wav"), noise(2.0), 0.0)
    Path("mixed").mkdir()
    write(Path("mixed/a.wav"), noise(2.0))
    write(Path("mixed/b.wav"), noise(0.9))
    for name, said in (
        ("empty", "empty holds no recordings"),
        ("words", "words holds no recordings"),
        ("text.wav", r"text\.wav"),
        ("short.wav", r"short\.wav lasts 0\.50 s"),
        ("silent.wav", r"silent\.wav is silent"),
        ("mixed", r"b\.wav lasts 0\.90 s"),
        ("gone.wav", r"no voice 'gone\.wav'"),
        ("gone.safetensors", r"gone\.safetensors"),
    ):
        with pytest.raises(UserError, match=said):
            heard(name)
    with pytest.raises(UserError, match="audio is silent"):
        heard(Audio(np.zeros(2 * RATE, np.float32), RATE))
