"""Losses, discriminators, crops, and the trainer."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flowtts.audio.io import write
from flowtts.compat import require
from flowtts.types import Audio, MelSpec, UserError
from flowtts.vocoders import copy_synthesis, vocos_train
from flowtts.vocoders.clips import Clips, Source, load_clips, read_list
from flowtts.vocoders.discriminators import PeriodDiscriminator, SpectrumDiscriminator, build
from flowtts.vocoders.griffin_lim import GriffinLim
from flowtts.vocoders.vocos import VocosConfig, VocosVocoder
from flowtts.vocoders.vocos_losses import SpectralLoss, slope_error
from flowtts.vocoders.vocos_train import Trainer, VocosTraining

MEL = MelSpec(sample_rate=8000, n_fft=256, win_length=160, hop_length=40, n_mels=20, f_max=4000.0)
TINY = VocosTraining(
    model=VocosConfig(mel=MEL, dim=24, intermediate=48, layers=2, n_fft=160),
    steps=8, batch=2, frames=32, adversarial_from=0.5, adversarial_batch=2, adversarial_ramp=2,
    periods=(2, 3), widths=(4, 8), resolutions=(256, 128), channels=2, windows=(256, 128), warmup=2, log_steps=2,
    save_minutes=0.0,
)  # fmt: skip


def _sound(seconds: float = 1.0, rate: int = 8000, pitch: float = 120.0) -> Audio:
    time = np.arange(int(seconds * rate)) / rate
    sound = sum(np.sin(2 * math.pi * pitch * k * time) / k for k in range(1, 10))
    return Audio((0.2 * np.asarray(sound)).astype(np.float32), rate)


def _clips() -> Clips:
    samples = (_sound().samples * 32767).astype(np.int16)
    return Clips(samples, np.array([0, 4000, len(samples)]), np.array([1.0, 1.0]))


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_spectral_loss_is_zero_for_equals_and_blind_to_polarity() -> None:
    loss = SpectralLoss(16_000, (512, 256), slopes=0.0)
    x = _noise(2, 4000)
    assert float(loss(x, x)["spectral"]) == 0
    assert float(loss(-x, x)["spectral"]) == pytest.approx(0, abs=1e-6)
    assert float(loss(_noise(2, 4000, seed=1), x)["spectral"]) > 0.3


def test_spectral_loss_of_a_gain_in_closed_form() -> None:
    """Half the amplitude: ln 2 in both logarithms, one half in spectral convergence."""
    loss = SpectralLoss(16_000, (512,), linear=0.5, convergence=0.5, slopes=0.0)
    x = _noise(2, 8000)
    assert float(loss(0.5 * x, x)["spectral"]) == pytest.approx(1.5 * math.log(2) + 0.25, abs=0.01)


def test_slopes_ignore_loudness_and_polarity_but_not_pitch() -> None:
    def stft(hz: float) -> Tensor:
        x = torch.sin(2 * math.pi * hz * torch.arange(4000) / 8000)[None]
        return torch.stft(x, 256, 64, 256, torch.hann_window(256), return_complex=True).transpose(1, 2)

    real = stft(500.0)
    assert float(slope_error(-0.5 * real, real)) < 0.02
    # 31.25 Hz is a quarter turn per hop of 64 samples at 8 kHz: cos 90° = 0 over time alone makes one half.
    assert float(slope_error(stft(503.0), real)) < 0.3 < 0.5 <= float(slope_error(stft(531.25), real)) < 1
    noise = torch.complex(_noise(*real.shape), _noise(*real.shape, seed=1))
    assert float(slope_error(noise, real)) == pytest.approx(1.0, abs=0.25)


def test_losses_have_finite_gradients_at_silence() -> None:
    loss = SpectralLoss(16_000, (512, 256))
    for real in (torch.zeros(1, 4000), _noise(1, 4000)):
        made = torch.zeros(1, 4000, requires_grad=True)
        loss(made, real)["spectral"].backward()
        assert made.grad is not None and made.grad.isfinite().all()


@pytest.mark.parametrize("samples", [1000, 1280, 1283])
def test_discriminators_shapes(samples: int) -> None:
    judges = build("narrow", (2, 3, 5), (4, 8), (256, 128), 2)
    real, made, real_maps, made_maps = judges["period"](_noise(2, samples), _noise(2, samples, seed=1))
    assert len(real) == len(made) == 3 and [x.shape for x in real] == [x.shape for x in made]
    assert [len(m) for m in real_maps] == [len(m) for m in made_maps] == [2, 2, 2]
    real, made, real_maps, _ = judges["spectrum"](_noise(2, samples), _noise(2, samples, seed=1))
    assert len(real) == 2 and all(x.shape[:2] == (2, 1) for x in real) and [len(m) for m in real_maps] == [21, 21]


def test_narrow_discriminators_have_the_structure_of_the_full_ones() -> None:
    """At Vocos' own widths they have Vocos' own parameters."""
    package = require("vocos.discriminators", "")
    period, theirs = PeriodDiscriminator(5, (32, 128, 512, 1024, 1024)), package.DiscriminatorP(5)
    assert sum(p.numel() for p in period.parameters()) == sum(p.numel() for p in theirs.parameters())
    spectrum, theirs = SpectrumDiscriminator(512, 32), package.DiscriminatorR(512)
    assert sum(p.numel() for p in spectrum.parameters()) == sum(p.numel() for p in theirs.parameters())
    x = _noise(1, 2048)
    assert spectrum(x)[0].shape == theirs(x)[0].shape and len(spectrum(x)[1]) == len(theirs(x)[1])


def test_full_discriminators_are_the_packages() -> None:
    judges = build("full", (2,), (), (512,), 0)
    assert type(judges["period"]).__module__ == type(judges["spectrum"]).__module__ == "vocos.discriminators"


def test_crops_are_reproducible_in_range_and_weighted() -> None:
    samples = np.concatenate([np.full(1000, 3000, np.int16), np.full(100, 9000, np.int16)])
    starts = np.array([0, 1000, 1100])
    crops = Clips(samples, starts, np.array([0.0, 1.0])).draw(np.random.default_rng(0), 8, 150, 0.0)
    assert torch.allclose(crops[:, :100].abs(), torch.tensor(9000 / 32767)) and (crops[:, 100:] == 0).all()
    clips = Clips(samples, starts, np.array([1.0, 10.0]))
    values = clips.draw(np.random.default_rng(1), 400, 10, 0.0)[:, 0].abs()
    share = float((values > 6000 / 32767).float().mean())
    assert 0.42 < share < 0.58
    again = clips.draw(np.random.default_rng(1), 400, 10, 0.0)[:, 0].abs()
    assert torch.equal(values, again)
    assert clips.draw(np.random.default_rng(2), 50, 10, 24.0).abs().max() <= 1
    with pytest.raises(UserError, match="weight 0"):
        Clips(samples, starts, np.zeros(2))


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('x.wav\n\n{"audio": "y.wav", "weight": 2}\n')
    assert read_list(tmp_path / "a.txt") == [Source(tmp_path / "x.wav"), Source(tmp_path / "y.wav", 2.0)]
    for text, words in {
        '{"audio": 3}': "line 1", '{"weight": 1}': "line 1", "x.wav\n{": "line 2",
        '{"audio": "a", "weight": -1}': "at least 0", "\n": "no sound files",
    }.items():  # fmt: skip
        (tmp_path / "b.txt").write_text(text)
        with pytest.raises(UserError, match=words):
            read_list(tmp_path / "b.txt")
    with pytest.raises(UserError, match="no such list"):
        read_list(tmp_path / "none.txt")


def test_cache_is_written_once_and_holds_what_was_read(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", _sound(0.5))
    write(tmp_path / "b.wav", _sound(0.25, rate=16_000))
    sources = [Source(tmp_path / "a.wav"), Source(tmp_path / "b.wav")]
    clips = load_clips(sources, 8000, tmp_path / "cache")
    assert clips.starts.tolist() == [0, 4000, 6000]
    assert np.abs(clips.samples[:4000] / 32767 - _sound(0.5).samples).max() < 1e-4
    (tmp_path / "a.wav").unlink()
    assert np.array_equal(load_clips(sources, 8000, tmp_path / "cache").samples, clips.samples)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_overfits_one_sound() -> None:
    config = replace(TINY, steps=30, adversarial_from=1.0, lr=1e-2, gain_db=0.0)
    trainer = Trainer(config, _clips())
    losses = [trainer.step()["reconstruction"] for _ in range(30)]
    assert np.mean(losses[-3:]) < 0.6 * np.mean(losses[:3])


def test_discriminators_join_on_schedule_and_learn() -> None:
    trainer = Trainer(TINY, _clips())
    before = [p.clone() for p in trainer.judges.parameters()]
    logs = [trainer.step() for _ in range(8)]
    assert ["adversary" in log for log in logs] == [False] * 4 + [True] * 4
    assert all(math.isfinite(value) for log in logs for value in log.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.judges.parameters(), strict=True))
    assert all(p.requires_grad for p in trainer.judges.parameters())


def test_rates_warm_up_and_fall_to_zero() -> None:
    trainer = Trainer(replace(TINY, adversarial_from=1.0, lr=1.0), _clips())
    trainer._set_rates(0.0)
    assert trainer.optimiser.param_groups[0]["lr"] == 0.5
    trainer.steps = 4
    trainer._set_rates(0.5)
    assert trainer.optimiser.param_groups[0]["lr"] == pytest.approx(0.5)
    trainer._set_rates(1.0)
    assert trainer.optimiser.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


def test_resumed_run_equals_an_uninterrupted_one() -> None:
    whole = Trainer(TINY, _clips())
    for _ in range(8):
        whole.step()
    half = Trainer(TINY, _clips())
    for _ in range(5):
        half.step()
    rest = Trainer(replace(TINY, seed=0), _clips())
    rest.load_state(half.state())
    for _ in range(3):
        rest.step()
    for name, weight in whole.average.state_dict().items():
        assert torch.equal(weight, rest.average.state_dict()[name]), name


def test_command_trains_resumes_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.wav", _sound(0.5))
    (tmp_path / "list.txt").write_text("a.wav\n")
    (tmp_path / "c.yaml").write_text(
        "model: {dim: 16, intermediate: 16, layers: 1, n_fft: 160, mel: {sample_rate: 8000, n_fft: 256, "
        "win_length: 160, hop_length: 40, n_mels: 20, f_max: 4000.0, mean: 0.0, std: 1.0}}\n"
        "steps: 4\nbatch: 1\nframes: 32\nadversarial_from: 0.75\nadversarial_batch: 1\nperiods: [2]\nwidths: [2, 2]\n"
        "resolutions: [128]\nchannels: 1\nwindows: [128]\nlog_steps: 2\n"
    )
    out = tmp_path / "run"
    base = ["--data", str(tmp_path / "list.txt"), "--out", str(out), "--config", str(tmp_path / "c.yaml")]
    assert vocos_train.main([*base, "--valid", str(tmp_path / "list.txt")]) == 0
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 4 and log[-1]["valid_count"] == 1 and log[-1]["valid_mel_l1"] > 0
    assert VocosVocoder.load(out / "checkpoint").spec.sample_rate == 8000
    assert vocos_train.main(base) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert vocos_train.main([*base, "--resume", "steps=6"]) == 0
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"] == 6
    assert vocos_train.main(["--data", "none", "--out", str(tmp_path / "x")]) == 2
    assert vocos_train.main([*base, "--resume", "stepps=6"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "no such list" in errors[-2] and "stepps" in errors[-1]
    assert copy_synthesis.main([str(out / "checkpoint"), str(tmp_path / "list.txt")]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 1
    assert copy_synthesis.main(["nothing-like-it", str(tmp_path / "list.txt")]) == 2


def test_copy_keeps_whole_frames_and_mixes_down() -> None:
    sound = _sound(0.301).samples
    copied = copy_synthesis.copy(GriffinLim(MEL, iterations=1), Audio(np.stack([sound, sound], axis=1), 8000))
    assert len(copied.samples) == len(sound) // 40 * 40 and copied.samples.dtype == np.float32
