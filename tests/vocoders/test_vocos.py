"""The Vocos network, its checkpoints, and published ones."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from flowtts import checkpoint
from flowtts.audio.mel import LogMel
from flowtts.compat import require
from flowtts.types import VOCOS_MEL, VOICEBOX_MEL, MelSpec, UserError, Vocoder
from flowtts.vocoders.griffin_lim import GriffinLim
from flowtts.vocoders.vocos import VocosConfig, VocosNetwork, VocosVocoder, load_published

MEL = MelSpec(sample_rate=8000, n_fft=256, win_length=160, hop_length=40, n_mels=20, f_max=4000.0)
TINY = VocosConfig(mel=MEL, dim=16, intermediate=32, layers=2, n_fft=160)
CENTRED = replace(TINY, mel=replace(MEL, center=True), padding="center")


def _tiny(config: VocosConfig = TINY) -> VocosVocoder:
    torch.manual_seed(0)
    return VocosVocoder(VocosNetwork(config))


def _voice(seconds: float, rate: int = 16_000) -> Tensor:
    """(N,) vowel-like: harmonics of a gliding pitch under two formants, with pauses and noise."""
    time = torch.arange(int(seconds * rate)) / rate
    phase = 2 * math.pi * (120 * time + 15 * time.square())
    sound = torch.zeros_like(time)
    for k in range(1, 30):
        gain = sum(math.exp(-(((130 * k - f) / 250) ** 2)) for f in (600, 1500)) + 0.02
        sound += gain * torch.sin(k * phase + 0.3 * k)
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    gate = (torch.sin(2 * math.pi * 3 * time) > -0.6).float()
    return 0.1 * sound * gate + 0.002 * noise


@pytest.mark.parametrize("config", [TINY, CENTRED, replace(TINY, polish=2), replace(CENTRED, polish=2)])
@pytest.mark.parametrize("frames", [1, 2, 31])
def test_length_is_frames_times_hop(config: VocosConfig, frames: int) -> None:
    features = torch.randn(3, frames, 20, generator=torch.Generator().manual_seed(0))
    made = _tiny(config).decode(features)
    assert made.shape == (3, frames * 40) and made.isfinite().all() and made.abs().max() <= 1


def test_is_a_vocoder_and_takes_no_frames() -> None:
    vocoder = _tiny()
    assert isinstance(vocoder, Vocoder) and vocoder.spec == MEL and vocoder.name == "vocos"
    assert vocoder.decode(torch.zeros(2, 0, 20)).shape == (2, 0)
    with pytest.raises(ValueError, match=r"\(B, T, 20\)"):
        vocoder.decode(torch.zeros(2, 5, 80))


def test_head_inverts_a_true_stft() -> None:
    """Given the logarithm and the angle of a signal's STFT, the head returns the signal."""
    signal = _voice(0.5, 8000)
    n_fft, hop = 160, 40
    pad = (n_fft - hop) // 2
    window = torch.hann_window(n_fft)
    framed = torch.nn.functional.pad(signal[None], (pad, pad), mode="reflect").unfold(1, n_fft, hop)
    stft = torch.fft.rfft(framed * window)
    head: Any = _tiny().network.head
    head.out = torch.nn.Identity()
    made = head(torch.cat([stft.abs().clamp(min=1e-9).log(), stft.angle()], dim=-1))
    assert torch.allclose(made, signal[None, : made.shape[1]], atol=1e-4)
    assert made.shape[1] == len(signal) // hop * hop


def test_parameters_are_as_published_and_within_the_budget() -> None:
    assert sum(p.numel() for p in VocosNetwork(VocosConfig()).parameters()) == 3_486_082
    published = VocosConfig(mel=VOCOS_MEL, dim=512, intermediate=1536, layers=8, n_fft=1024, padding="center")
    assert sum(p.numel() for p in VocosNetwork(published).parameters()) == 13_531_650


def test_configuration_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="padding"):
        VocosConfig(padding="valid")
    with pytest.raises(ValueError, match="two hops"):
        VocosConfig(n_fft=160)
    with pytest.raises(ValueError, match="polish"):
        VocosConfig(polish=-1)


def test_checkpoint_round_trip_in_half_precision(tmp_path: Path) -> None:
    vocoder = _tiny(replace(TINY, polish=1))
    folder = vocoder.save(tmp_path / "voc", readme="# voc\n")
    back = VocosVocoder.load(folder)
    assert back.network.config == vocoder.network.config
    for name, weight in vocoder.network.state_dict().items():
        assert torch.equal(back.network.state_dict()[name], weight.half().float())
    assert all(p.dtype == torch.float32 for p in back.network.parameters())
    assert (folder / "README.md").read_text() == "# voc\n"
    features = torch.randn(1, 9, 20, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(back.decode(features), vocoder.decode(features), atol=1e-2)


def test_checkpoint_of_another_kind_or_shape(tmp_path: Path) -> None:
    state = _tiny().network.state_dict()
    checkpoint.save(tmp_path / "other", kind="voicebox", config=TINY, state=state)
    with pytest.raises(UserError, match="of kind voicebox, not vocos"):
        VocosVocoder.load(tmp_path / "other")
    checkpoint.save(tmp_path / "wide", kind="vocos", config=replace(TINY, dim=24), state=state)
    with pytest.raises(UserError, match="does not fit"):
        VocosVocoder.load(tmp_path / "wide")
    with pytest.raises(UserError, match="nowhere"):
        VocosVocoder.load(tmp_path / "nowhere")


def _publish(folder: Path, dim: int = 24) -> Any:
    """Small random weights in the files and the words of charactr/vocos-mel-24khz; returns the package's own model."""

    def part(name: str, **arguments: object) -> dict[str, object]:
        return {"class_path": f"vocos.{name}", "init_args": arguments}

    config = {
        "feature_extractor": part(
            "feature_extractors.MelSpectrogramFeatures",
            sample_rate=24_000, n_fft=1024, hop_length=256, n_mels=100, padding="center",
        ),
        "backbone": part(
            "models.VocosBackbone", input_channels=100, dim=dim, intermediate_dim=48, num_layers=2
        ),
        "head": part("heads.ISTFTHead", dim=dim, n_fft=1024, hop_length=256, padding="center"),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(1)
    model = require("vocos", "").Vocos.from_hparams(str(folder / "config.yaml")).eval()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return model


def test_published_weights_sound_the_same_as_in_the_package(tmp_path: Path) -> None:
    model = _publish(tmp_path / "published")
    vocoder = VocosVocoder.load(tmp_path / "published")
    assert vocoder.spec == VOCOS_MEL
    audio = 0.1 * torch.randn(1, 256 * 40, generator=torch.Generator().manual_seed(2))
    features = LogMel(VOCOS_MEL)(audio)
    made, theirs = vocoder.decode(features), model(audio)
    assert made.shape == (1, 41 * 256) and theirs.shape == (1, 40 * 256)
    # The held last frame reaches back as far as the network looks.
    reach = (3 + 2 * 3 + 4) * 256
    assert torch.allclose(made[:, : 40 * 256 - reach], theirs[:, :-reach].clamp(-1, 1), atol=1e-4)


def test_published_folder_with_something_wrong(tmp_path: Path) -> None:
    _publish(tmp_path / "a")
    config = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    config["feature_extractor"]["class_path"] = "vocos.feature_extractors.EncodecFeatures"
    (tmp_path / "a" / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="only mel Vocos"):
        load_published(tmp_path / "a")
    (tmp_path / "a" / "config.yaml").write_text("backbone: 3\n")
    with pytest.raises(UserError, match="not a published Vocos configuration"):
        load_published(tmp_path / "a")
    _publish(tmp_path / "a")
    (tmp_path / "a" / "pytorch_model.bin").write_bytes(b"\x80\x04not tensors")
    with pytest.raises(UserError, match="safely"):
        load_published(tmp_path / "a")
    _publish(tmp_path / "a", dim=16)
    (tmp_path / "b").mkdir()
    _publish(tmp_path / "b")
    (tmp_path / "b" / "pytorch_model.bin").replace(tmp_path / "a" / "pytorch_model.bin")
    with pytest.raises(UserError, match="does not fit"):
        load_published(tmp_path / "a")


def test_shipped_checkpoint_copies_a_voice() -> None:
    vocoder = VocosVocoder.load("vocos-16k")
    assert vocoder.spec == VOICEBOX_MEL
    real = _voice(2.0)
    mel = LogMel(VOICEBOX_MEL)
    features = mel(real)
    made = vocoder.decode(features)
    assert made.shape == (1, 200 * 160)
    distance = float((mel.denormalise(mel(made)) - mel.denormalise(features)).abs().mean())
    assert distance < 0.35
    rough = GriffinLim(VOICEBOX_MEL, iterations=1).decode(features)
    assert distance < float((mel.denormalise(mel(rough)) - mel.denormalise(features)).abs().mean())


def test_shipped_checkpoint_keeps_silence_and_says_what_it_was_trained_on() -> None:
    vocoder = VocosVocoder.load("vocos-16k")
    assert vocoder.decode(LogMel(VOICEBOX_MEL)(torch.zeros(16_000))).abs().max() < 0.01
    readme = (checkpoint.SHIPPED / "vocos-16k" / "README.md").read_text()
    assert "LibriSpeech" in readme and "CC BY 4.0" in readme and "% 8 == 3" in readme
