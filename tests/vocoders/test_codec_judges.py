"""Discriminators and losses of codecs: sizes from independent formulas, the authors' own, closed forms."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowtts.compat import require
from flowtts.types import UserError
from flowtts.vocoders.codec_train.config import JudgeConfig
from flowtts.vocoders.codec_train.judges import Panel, SpectraJudge, StftJudge, Verdict, WaveJudge
from flowtts.vocoders.codec_train.losses import MelLoss, adversarial_loss, judges_loss, matching_loss


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _normed(outputs: int, inputs: int, kernel: int) -> int:
    """A convolution with weight normalisation: kernels, a gain and an offset for each output."""
    return outputs * (inputs * kernel + 2)


@pytest.mark.parametrize("filters", [4, 32])
def test_encodecs_have_the_size_and_shapes_of_the_paper(filters: int) -> None:
    judge = SpectraJudge(256, filters)
    inner = _normed(filters, filters, 27)
    expected = _normed(filters, 2, 27) + 3 * inner + _normed(filters, filters, 9) + _normed(1, filters, 9)
    assert _size(judge) == expected
    scores, maps = judge(_noise(2, 1000))
    frames, bins = (1000 - 256) // 64 + 1, 129
    halved = [bins, *(bins := (bins + 1) // 2 for _ in range(3))]
    assert [m.shape for m in maps] == [(2, filters, frames, b) for b in (*halved, halved[-1])]
    assert scores.shape == (2, 1, frames, halved[-1])


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_encodecs_are_those_of_the_authors() -> None:
    try:
        package = require("encodec.msstftd", "")
    except UserError as error:
        pytest.skip(str(error))
    theirs, ours = package.DiscriminatorSTFT(4, n_fft=256, hop_length=64, win_length=256), SpectraJudge(256, 4)
    pairs = zip([*ours.layers, ours.last], [*theirs.convs, theirs.conv_post], strict=True)
    with torch.no_grad():
        theirs(_noise(1, 300)[:, None])  # its weights are made of their normalisation when it is called
        for mine, his in pairs:
            _copy(mine, his.conv)
    x = _noise(2, 1500)
    scores, maps = ours(x)
    expected, layers = theirs(x[:, None])
    torch.testing.assert_close(scores, expected)
    for a, b in zip(maps, layers, strict=True):
        torch.testing.assert_close(a, b)


def _copy(mine: Any, theirs: Any) -> None:
    """Weights under a normalisation; theirs leaves the first convolution without one."""
    weight = theirs.weight
    mine.parametrizations.weight.original0.copy_(weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
    mine.parametrizations.weight.original1.copy_(weight)
    mine.bias.copy_(theirs.bias)


@pytest.mark.parametrize(("window", "samples"), [(128, 700), (256, 1000)])
def test_soundstreams_spectrum_is_halved_as_the_paper_says(window: int, samples: int) -> None:
    judge = StftJudge(window, 2)
    scores, maps = judge(_noise(2, samples))
    frames = (samples - window) // (window // 4) + 1
    shapes = [(2, 2, frames, window // 2)]
    for number, growth in enumerate((2, 4, 4, 8, 8, 16)):
        frames = math.ceil(frames / (1 + number % 2))
        shapes.append((2, 2 * growth, frames, window // 2 >> number + 1))
    assert [tuple(m.shape) for m in maps] == shapes
    assert scores.shape == (2, 1, frames, 1)
    sizes, expected = [2, 4, 8, 8, 16, 16, 32], _normed(2, 2, 49) + _normed(1, 32, window // 128)
    for number, (a, b) in enumerate(pairwise(sizes)):
        kernel = 3 * 4 if number % 2 == 0 else 4 * 4
        expected += _normed(a, a, 9) + _normed(b, a, kernel) + _normed(b, a, 1)
    assert _size(judge) == expected


def test_soundstreams_waveform_has_the_sizes_of_melgan() -> None:
    """16, 64, 256, 1024, 1024 channels, groups of 4 inputs."""
    judge = WaveJudge(0)
    expected = _normed(16, 1, 15) + _normed(64, 4, 41) + _normed(256, 4, 41) + 2 * _normed(1024, 4, 41)
    assert _size(judge) == expected + _normed(1024, 1024, 5) + _normed(1, 1024, 3)
    small = WaveJudge(1, 4)
    scores, maps = small(_noise(2, 2048))
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 1024), (16, 256), (64, 64), (256, 16), (256, 4), (256, 4)]
    assert scores.shape == (2, 1, 4)


def test_scales_hear_less_and_less() -> None:
    """A tone above the halved band fades, one below does not."""
    time = torch.arange(4096) / 8000
    for scale, hz, least, most in ((1, 100, 0.9, 1.1), (1, 3900, 0.0, 0.1), (0, 3900, 0.9, 1.1)):
        judge = WaveJudge(scale, 4)
        heard: list[Tensor] = []
        judge.layers[0].register_forward_pre_hook(lambda _, given, kept=heard: kept.append(given[0]))
        judge((math.sqrt(2) * torch.sin(2 * math.pi * hz * time))[None])
        assert least <= float(heard[0].square().mean().sqrt()) <= most


def test_a_panel_counts_all_alike_or_by_groups() -> None:
    small = {"spectra_filters": 2, "wave_channels": 4, "period_widths": (2, 2), "band_channels": 1}
    config = JudgeConfig(spectra=(128, 64), waves=1, periods=(2,), bands=(64,), stft=128, stft_channels=1, **small)
    panel = Panel(config)
    assert panel.shares == pytest.approx([1 / 6] * 6)
    real, made = panel(_noise(2, 600), _noise(2, 600, seed=1))
    assert len(real) == len(made) == 6
    for x, y in zip(real, made, strict=True):
        assert x.scores.shape == y.scores.shape and [m.shape for m in x.maps] == [m.shape for m in y.maps]
    weighed = JudgeConfig(spectra=(128, 64), periods=(2,), weights={"spectra": 3.0}, **small)
    assert Panel(weighed).shares == pytest.approx([1.5, 1.5, 1.0])
    with pytest.raises(ValueError, match="no wave to weigh; there are spectra"):
        JudgeConfig(weights={"wave": 1.0})


def test_hinges_in_closed_form() -> None:
    real = [Verdict(torch.tensor([[2.0, 0.5]]), []), Verdict(torch.tensor([[-1.0]]), [])]
    made = [Verdict(torch.tensor([[-3.0, 0.0]]), []), Verdict(torch.tensor([[0.5]]), [])]
    # max(0, 1 - D(real)): 0.25 and 2; max(0, 1 + D(made)): 0.5 and 1.5; max(0, 1 - D(made)): 2.5 and 0.5.
    assert float(judges_loss(real, made, (1.0, 2.0))) == pytest.approx(0.25 + 0.5 + 2 * (2 + 1.5))
    assert float(adversarial_loss(made, (1.0, 2.0))) == pytest.approx(2.5 + 2 * 0.5)


def test_matching_is_relative_to_what_recordings_have() -> None:
    maps = [_noise(2, 3, 4), 5 * _noise(2, 6, seed=1)]
    real = [Verdict(torch.zeros(1), maps)]
    made = [Verdict(torch.zeros(1), [1.5 * m for m in maps])]
    assert float(matching_loss(real, made, (1.0,), True)) == pytest.approx(0.5, rel=1e-5)
    sizes = [float(m.abs().mean()) for m in maps]
    assert float(matching_loss(real, made, (1.0,), False)) == pytest.approx(0.5 * sum(sizes) / 2, rel=1e-5)
    theirs, ours = _noise(2, 3).requires_grad_(), _noise(2, 3, seed=1).requires_grad_()
    matching_loss([Verdict(theirs, [theirs])], [Verdict(ours, [ours])], (1.0,), True).backward()
    assert theirs.grad is None and ours.grad is not None


def test_mel_loss_of_a_gain_in_closed_form() -> None:
    """Half the amplitude: ln 2 in every band, so L1 = L2 = ln 2 at every scale."""
    x = _noise(2, 8000)
    loss = MelLoss(16_000, (256, 512, 2048), bands=16)
    assert float(loss(0.5 * x, x)) == pytest.approx(2 * math.log(2), rel=1e-3)
    assert float(loss(x, x)) == 0 and float(loss(-x, x)) == pytest.approx(0, abs=1e-5)


def test_soundstreams_mel_loss_weighs_the_scales() -> None:
    x = _noise(1, 8000)
    one = MelLoss(16_000, (512,), bands=16, form="soundstream")
    mel: Any = one.mels[0]
    # The squares of a Hann window of 512 add up to 512 * 3 / 8.
    linear = float(0.5 * mel.magnitude(x).matmul(mel.filterbank).sum(-1).mean()) / math.sqrt(512 * 3 / 8)
    assert float(one(0.5 * x, x)) == pytest.approx(linear + math.sqrt(256) * math.log(2) * math.sqrt(16), rel=1e-3)
    both = MelLoss(16_000, (512, 128), bands=16, form="soundstream")
    other = MelLoss(16_000, (128,), bands=16, form="soundstream")
    assert float(both(0.5 * x, x)) == pytest.approx(float(one(0.5 * x, x) + other(0.5 * x, x)), rel=1e-5)


def test_mel_loss_has_a_finite_gradient_at_silence() -> None:
    for form in ("encodec", "soundstream"):
        loss = MelLoss(8000, (32, 256), form=form)  # type: ignore[arg-type]
        for real in (torch.zeros(1, 1000), _noise(1, 1000)):
            made = torch.zeros(1, 1000, requires_grad=True)
            loss(made, real).backward()
            assert made.grad is not None and made.grad.isfinite().all()
