"""UTMOS: weights under their published names, and the network against another way to compute it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_judges
import torch
from safetensors.torch import save_file
from tiny_judges import UTMOS_HEADS, UTMOS_HIDDEN
from torch import Tensor
from torch.nn import functional as F

from flowtts.audio.io import read
from flowtts.eval import utmos
from flowtts.eval.metrics import load
from flowtts.eval.utmos import FILE, NAMES, UtmosNetwork
from flowtts.published import rename
from flowtts.types import Audio, Item, UserError
from flowtts.voice import shipped

pytest.importorskip("transformers")

STRIDES = (5, 2, 2, 2, 2, 2, 2)


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return tiny_judges.utmos_weights()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of weights are of the tiny network."""
    monkeypatch.setattr(utmos, "UtmosNetwork", tiny_judges.utmos_network)


def opinion(state: dict[str, Tensor], samples: Tensor) -> float:
    """The published network, step by step, of (N,) samples."""
    w = {name.removeprefix("wav2vec2."): weight.double() for name, weight in state.items()}

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x: Tensor) -> Tensor:
        return x * (1 + torch.erf(x / 2**0.5)) / 2

    x = samples.double()[None]
    for number, stride in enumerate(STRIDES):
        x = F.conv1d(x, w[f"feature_extractor.conv_layers.{number}.0.weight"], stride=stride)
        if number == 0:
            x = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
            scale, shift = (w[f"feature_extractor.conv_layers.0.2.{part}"][:, None] for part in ("weight", "bias"))
            x = x * scale + shift
        x = gelu(x)
    x = linear(norm(x.T, "layer_norm"), "post_extract_proj")
    v = w["encoder.pos_conv.0.weight_v"]
    kernel = w["encoder.pos_conv.0.weight_g"] * v / v.square().sum((0, 1), keepdim=True).sqrt()
    moved = F.conv1d(x.T, kernel, w["encoder.pos_conv.0.bias"], padding=2, groups=2)[:, :-1]
    x = norm(x + gelu(moved).T, "encoder.layer_norm")
    for at in ("encoder.layers.0", "encoder.layers.1"):
        q, k, v = (linear(x, f"{at}.self_attn.{one}_proj").chunk(UTMOS_HEADS, 1) for one in "qkv")
        heads = [
            torch.softmax(q[i] @ k[i].T / q[i].shape[1] ** 0.5, 1) @ v[i] for i in range(UTMOS_HEADS)
        ]  # fmt: skip
        x = norm(x + linear(torch.cat(heads, 1), f"{at}.self_attn.out_proj"), f"{at}.self_attn_layer_norm")
        x = norm(x + linear(gelu(linear(x, f"{at}.fc1")), f"{at}.fc2"), f"{at}.final_layer_norm")
    x = torch.cat([x, w["domain_emb"].expand(len(x), -1), w["judge_emb"].expand(len(x), -1)], 1)
    x = torch.cat([_lstm(x, w, ""), _lstm(x.flip(0), w, "_reverse").flip(0)], 1)
    return float(linear(linear(x, "projection.0").relu(), "projection.2").mean() * 2 + 3)


def _lstm(x: Tensor, w: dict[str, Tensor], way: str) -> Tensor:
    h = c = torch.zeros(UTMOS_HIDDEN, dtype=torch.float64)
    states = []
    for frame in x:
        into = w[f"blstm.weight_ih_l0{way}"] @ frame + w[f"blstm.bias_ih_l0{way}"]
        i, f, g, o = (into + w[f"blstm.weight_hh_l0{way}"] @ h + w[f"blstm.bias_hh_l0{way}"]).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states)


def test_the_published_file_is_the_whole_network() -> None:
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in tiny_judges.utmos_shapes().items()}
        network = UtmosNetwork()
    assert len(state) == 225
    ours = {name: weight.shape for name, weight in rename(state, NAMES, FILE).items()}
    assert ours == {name: weight.shape for name, weight in network.state_dict().items()}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.usefixtures("tiny")
def test_scores_are_those_of_the_published_network(
    weights: dict[str, Tensor], suffix: str, tmp_path: Path, noise: Callable[[float, int], Audio]
) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(weights, path) if suffix == ".pt" else save_file(weights, path)
    sounds = {"noise": noise(0.5, 16_000), "short": noise(0.11, 16_000)}
    # Speech is no noise, and much of the published network forgets what level and length are.
    sounds["voice"] = Audio(read(shipped()["slt"]).samples[:16_000], 16_000)
    found = load(f"utmos:{path}")([Item(audio, "", id=name) for name, audio in sounds.items()])
    expected = {name: opinion(weights, torch.from_numpy(audio.samples)) for name, audio in sounds.items()}
    assert found.items == pytest.approx(expected, abs=1e-4)
    assert len({round(value, 3) for value in expected.values()}) == 3
    assert found.value == pytest.approx(sum(expected.values()) / 3, abs=1e-4)
    assert path.name in found.backend and found.sample_rate == 16_000


@pytest.mark.usefixtures("tiny")
def test_a_file_that_torch_hub_has_fetched_is_found(
    weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: Callable[[float, int], Audio]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=rf"checkpoints/{FILE}: no weights of UTMOS; fetch"):
        load("utmos")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(weights, tmp_path / "hub" / "checkpoints" / FILE)
    silent = Audio(noise(1.0, 16_000).samples * 0, 16_000)
    found = load("utmos")([Item(noise(1.0, 24_000), "", id="noise"), Item(silent, "", id="silent")])
    assert list(found.items) == ["noise"] and found.dropped == {"silent": "the audio is silent"}


@pytest.mark.usefixtures("tiny")
def test_other_files_are_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    first = next(iter(weights))
    for held in (
        {name: weight for name, weight in weights.items() if name != first},
        {**weights, "phoneme_encoder.weight": torch.zeros(1)},
        {**weights, first: torch.zeros(1, 64)},
        {"state_dict": weights},
        Path("code"),
    ):
        torch.save(held, path)
        with pytest.raises(UserError, match=r"weights\.pt") as refused:
            load(f"utmos:{path}")([])
        assert "\n" not in str(refused.value)
