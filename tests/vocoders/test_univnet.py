"""UnivNet: its convolutions, its length, its checkpoints, and published weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import published_tortoise as published
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from flowtts import checkpoint, cli, registry
from flowtts.published import fold_weight_norm
from flowtts.recipes.tortoise.config import TORTOISE_MEL
from flowtts.types import VOICEBOX_MEL, MelSpec, UserError, Vocoder
from flowtts.vocoders.univnet import (
    QUIET,
    TAIL,
    UNIVNET_MEL,
    KernelPredictor,
    UnivNet,
    UnivNetConfig,
    UnivNetVocoder,
    convert,
    from_published,
)

MEL = MelSpec(sample_rate=8000, n_fft=64, win_length=64, hop_length=12, n_mels=10, f_max=4000.0, mean=-4.0, std=3.0)
TINY = UnivNetConfig(mel=MEL, noise=6, channels=4, strides=(3, 4), dilations=(1, 3), predictor=8)


def _tiny(config: UnivNetConfig = TINY, seed: int = 0) -> UnivNetVocoder:
    torch.manual_seed(0)
    return UnivNetVocoder(UnivNet(config), seed)


def _features(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_parameters_are_as_published_and_so_is_the_mel() -> None:
    with torch.device("meta"):
        folded = sum(p.numel() for p in UnivNet(UnivNetConfig()).parameters())
    normed = sum(x.numel() for x in published.vocoder(published.shaped).values())
    assert (folded, normed) == (14_789_153, 14_865_506)
    assert UNIVNET_MEL == TORTOISE_MEL


@pytest.mark.parametrize("frames", [1, 2, 17])
def test_length_is_frames_times_hop(frames: int) -> None:
    made = _tiny().decode(_features(3, frames, 10))
    assert made.shape == (3, frames * 12) and made.isfinite().all() and made.abs().max() <= 1


def test_is_a_vocoder_takes_no_frames_and_refuses_other_channels() -> None:
    vocoder = _tiny()
    assert isinstance(vocoder, Vocoder) and vocoder.spec == MEL and vocoder.name == "univnet"
    assert vocoder.decode(torch.zeros(2, 0, 10)).shape == (2, 0)
    with pytest.raises(ValueError, match=r"\(B, T, 10\)"):
        vocoder.decode(torch.zeros(2, 5, 80))


def test_the_same_sound_twice_another_with_another_seed_and_no_item_hears_its_neighbours() -> None:
    features = _features(3, 9, 10)
    vocoder = _tiny()
    made = vocoder.decode(features)
    assert torch.equal(made, vocoder.decode(features))
    assert torch.allclose(vocoder.decode(features[1:2]), made[1:2], atol=1e-6)
    assert not torch.allclose(_tiny(seed=1).decode(features), made, atol=1e-3)


def test_the_network_hears_plain_log_mels_with_silence_behind() -> None:
    features = _features(1, 7, 10)
    vocoder = _tiny()
    noise = torch.randn(7 + TAIL, 6, generator=torch.Generator().manual_seed(0))
    mel = torch.cat([features * 3.0 - 4.0, torch.full((1, TAIL, 10), QUIET)], dim=1)
    whole = vocoder.network(mel.transpose(1, 2), noise.T[None])
    assert torch.equal(vocoder.decode(features), whole[:, : 7 * 12].clamp(-1, 1))


def test_the_beginning_does_not_hear_how_long_the_features_are() -> None:
    features, vocoder = _features(1, 40, 10), _tiny()
    whole, half = vocoder.decode(features), vocoder.decode(features[:, :20])
    assert torch.allclose(whole[:, :60], half[:, :60], atol=1e-6)


def test_kernels_are_those_of_the_frame() -> None:
    block = _tiny().network.blocks[1]
    assert isinstance(block, nn.Module)
    variable: Any = block._variable
    kernels = _features(1, 5, 4, 3, 8)  # frames, in, taps, out
    biases = _features(1, 5, 1, 8)
    x = _features(1, 4, 5 * 12)
    made = variable(x, kernels.flatten(2, 3), biases)
    for frame in range(5):
        weight, bias = kernels[0, frame].permute(2, 0, 1), biases[0, frame, 0]
        plain = F.conv1d(x, weight, bias, padding=1)
        here = slice(frame * 12, frame * 12 + 12)
        assert torch.allclose(made[..., here], plain[..., here], atol=1e-5)


def test_predicted_kernels_are_laid_out_as_published() -> None:
    predictor = KernelPredictor(TINY)
    kernels, biases = predictor(_features(2, 10, 5))
    assert kernels.shape == (2, 2, 5, 4 * 3, 8) and biases.shape == (2, 2, 5, 1, 8)
    assert predictor.kernels.bias is not None
    with torch.no_grad():
        predictor.kernels.weight.zero_()
        predictor.kernels.bias.copy_(torch.arange(2.0 * 4 * 8 * 3))
    # (layer, in, out, tap), as the published program reads its convolution's channels.
    flat = torch.arange(2.0 * 4 * 8 * 3).view(2, 4, 8, 3)
    assert torch.equal(predictor(_features(1, 10, 5))[0][0, 1, 2], flat[1].permute(0, 2, 1).reshape(12, 8))


@pytest.mark.parametrize("layer", [nn.Conv1d(3, 5, 7), nn.ConvTranspose1d(3, 5, 4)])
def test_folded_weight_normalisation_is_the_weight(layer: nn.Module) -> None:
    normed: Any = nn.utils.parametrizations.weight_norm(layer)
    with torch.no_grad():
        normed.parametrizations.weight.original0.mul_(3)
    gain, direction = normed.parametrizations.weight.original0, normed.parametrizations.weight.original1
    state = {"a.weight_g": gain.data, "a.weight_v": direction.data, "a.bias": normed.bias.data, "b.weight_v": gain.data}
    folded = fold_weight_norm(state)
    assert set(folded) == {"a.weight", "a.bias", "b.weight_v"}
    assert torch.allclose(folded["a.weight"], normed.weight, atol=1e-6)


def test_configuration_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="must be the hop, 12"):
        UnivNetConfig(mel=MEL)
    with pytest.raises(ValueError, match="odd"):
        replace(TINY, kernel=4)


def test_checkpoints_of_the_right_kind_load_by_their_folder(tmp_path: Path) -> None:
    vocoder = _tiny()
    state = vocoder.network.state_dict()
    folder = checkpoint.save(tmp_path / "v", kind="univnet", config=TINY, state=state)
    back = registry.load_vocoder(folder, MEL)
    assert isinstance(back, UnivNetVocoder) and back.network.config == TINY
    features = _features(1, 4, 10)
    assert torch.equal(back.decode(features), vocoder.decode(features))
    with pytest.raises(UserError, match="does not fit: its sample_rate is 8000, the model's 16000"):
        registry.load_vocoder(folder, VOICEBOX_MEL)
    checkpoint.save(tmp_path / "w", kind="univnet", config=replace(TINY, channels=8), state=state)
    with pytest.raises(UserError, match="does not fit UnivNet"):
        UnivNetVocoder.load(tmp_path / "w")
    checkpoint.save(tmp_path / "x", kind="vocos", config=TINY, state=state)
    with pytest.raises(UserError, match="of kind vocos, not univnet"):
        UnivNetVocoder.load(tmp_path / "x")


def test_without_weights_it_says_where_they_come_from() -> None:
    with pytest.raises(UserError, match=r"flowtts convert univnet") as caught:
        registry.load_vocoder("univnet")
    assert "\n" not in str(caught.value)


def test_published_weights_become_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = published.vocoder(published.drawn())
    torch.save({"model_g": state, "step": 3}, tmp_path / "vocoder.pth")
    assert cli.main(["convert", "univnet", str(tmp_path), "-o", str(tmp_path / "out"), "--half", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["parts"] == {".": "univnet"} and 29e6 < said["bytes"] < 30e6
    saved = checkpoint.load_tensors(tmp_path / "out" / "model.safetensors")
    assert saved["first.weight"].dtype == torch.float16
    vocoder = registry.load_vocoder(tmp_path / "out", TORTOISE_MEL)
    assert isinstance(vocoder, UnivNetVocoder)
    direction, gain = state["conv_pre.weight_v"], state["conv_pre.weight_g"]
    weight = gain * direction / direction.flatten(1).norm(dim=1)[:, None, None]
    assert torch.allclose(vocoder.network.first.weight, weight, atol=1e-3)
    assert "Licence" in (tmp_path / "out" / "README.md").read_text()


def test_names_of_every_published_weight_are_told_apart() -> None:
    state = published.vocoder(published.shaped)
    plain = {name.removesuffix("_v"): x for name, x in state.items() if not name.endswith("_g")}
    renamed = from_published(plain)
    with torch.device("meta"):
        wanted = UnivNet(UnivNetConfig()).state_dict()
    assert {name: x.shape for name, x in renamed.items()} == {name: x.shape for name, x in wanted.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conv_pre.bias": None}, "first.bias is missing"),
        ({"conv_pre.extra": torch.zeros(1)}, "first.extra is unknown"),
        ({"conv_pre.bias": torch.zeros(2)}, r"first.bias is \(2,\), not \(32,\)"),
        ({"conv_pre.weight_g": None}, "first.weight is missing"),
        ({"first.bias": torch.zeros(32)}, "first.bias twice"),
    ],
)
def test_every_published_weight_must_have_its_place(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    state: dict[str, Any] = {**published.vocoder(published.drawn()), **change}
    torch.save({"model_g": {name: x for name, x in state.items() if x is not None}}, tmp_path / "vocoder.pth")
    with pytest.raises(UserError, match=said):
        convert(tmp_path, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["vocoder.pth"]


def test_files_that_are_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        convert(tmp_path, tmp_path / "out")
    for held, said in (
        ({"a": torch.zeros(1)}, "no generator called model_g"),
        (torch.zeros(1), "no generator"),
        ({"model_g": {"a": 1}}, "does not hold weights by name"),
        (_Trap(tmp_path / "ran"), "safely"),
    ):
        torch.save(held, tmp_path / "vocoder.pth")
        with pytest.raises(UserError, match=said):
            convert(tmp_path / "vocoder.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "ran").exists()


class _Trap:
    """Runs code where it is unpickled carelessly."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))
