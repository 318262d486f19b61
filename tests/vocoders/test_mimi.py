"""Mimi: transformers' codes and sound from the same weights, both ways; pieces, sizes, branches, folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import published_codecs as published
import pytest
import torch
from published_codecs import noise
from torch import Tensor

from flowtts.checkpoint import load_state, load_tensors, save_tensors
from flowtts.codec import Codec
from flowtts.nn.residual import bitrate
from flowtts.nn.sliding import SlidingConfig
from flowtts.types import CodeSpec, UserError
from flowtts.vocoders.mimi import (
    MimiConfig,
    MimiNetwork,
    from_transformers,
    load,
    load_network,
    published_config,
    to_transformers,
)
from flowtts.vocoders.network_codec import NetworkCodec
from flowtts.vocoders.seanet import MIMI, SeanetConfig

TINY = MimiConfig(
    SeanetConfig(width=16, filters=4, strides=(2, 3), encoder_last=3, decoder_last=3, skip=True, lstm=0,
                 pad="constant", norm="none"),
    SlidingConfig(layers=2, heads=2, width=16, ffn=32, context=5, scale=0.7),
    600, groups=16, space=8, codebooks=5, codes=16,
)  # fmt: skip
HOP = 12


def pair(values: dict[str, Any] = published.MIMI) -> tuple[Any, MimiNetwork]:
    """Transformers' model and ours with the same weights."""
    theirs = published.model("Mimi", values)
    network = MimiNetwork(published_config(values))
    load_state(network, from_transformers(theirs.state_dict()))
    return theirs, network.eval().requires_grad_(False)


def alone(config: MimiConfig = TINY) -> MimiNetwork:
    torch.manual_seed(0)
    network = MimiNetwork(config).eval().requires_grad_(False)
    frames = network.latents(noise(1, config.seanet.channels, 600))
    for branch in (network.quantiser.semantic, network.quantiser.acoustic):
        books = [level.quantiser.codebook for level in branch.quantiser.levels]
        published.spread(books, branch.into(frames)[0])
    return network


@pytest.mark.parametrize("length", [1, 11, 12, 97, 360])
def test_codes_and_sound_are_those_of_transformers(length: int) -> None:
    theirs, mine = pair()
    x = noise(2, 1, length)
    for codebooks in (1, 3, 5):
        codes = theirs.encode(x, num_quantizers=codebooks).audio_codes  # (B, K, T)
        assert torch.equal(mine.encode(x, codebooks), codes.transpose(1, 2))
        sound = theirs.decode(codes).audio_values
        torch.testing.assert_close(mine.decode(codes.transpose(1, 2)), sound, atol=1e-5, rtol=1e-5)
    assert len(mine.encode(noise(1, 1, 360)).unique()) > 8, "codes say something"


@pytest.mark.parametrize(
    "change",
    [
        {"use_conv_shortcut": True, "pad_mode": "reflect", "num_residual_layers": 2, "last_kernel_size": 5},
        {"vector_quantization_hidden_dimension": 16, "codebook_dim": 16, "num_semantic_quantizers": 2},
        {"sliding_window": 3, "num_hidden_layers": 1, "upsample_groups": 4, "kernel_size": 5},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}, "frame_rate": 25.0},
    ],
)
def test_every_option_means_the_same(change: dict[str, Any]) -> None:
    theirs, mine = pair(published.MIMI | change)
    x = noise(1, 1, 240)
    codes = theirs.encode(x).audio_codes
    assert torch.equal(mine.encode(x), codes.transpose(1, 2))
    sound = theirs.decode(codes).audio_values
    torch.testing.assert_close(mine.decode(codes.transpose(1, 2)), sound, atol=1e-5, rtol=1e-5)


def test_weights_go_both_ways_strictly() -> None:
    theirs, mine = pair()
    state = theirs.state_dict()
    halves = any("_seanet." in name for name in state)
    back = to_transformers(mine.state_dict(), halves)
    assert set(back) == set(state) and all(torch.equal(back[name], state[name]) for name in state)
    fresh = published.model("Mimi", published.MIMI)
    with torch.no_grad():
        for p in fresh.parameters():
            p.zero_()
    fresh.load_state_dict(back, strict=True)
    x = noise(1, 1, 120)
    codes = theirs.encode(x).audio_codes
    assert torch.equal(fresh.encode(x).audio_codes, codes)
    assert torch.equal(fresh.decode(codes).audio_values, theirs.decode(codes).audio_values)
    for names in (to_transformers(mine.state_dict(), True), to_transformers(mine.state_dict())):
        again = from_transformers(names)
        assert set(again) == set(mine.state_dict())
        assert all(torch.equal(again[name], x) for name, x in mine.state_dict().items())


def test_our_weights_make_a_folder_of_theirs(tmp_path: Path) -> None:
    theirs, mine = pair()
    theirs.save_pretrained(tmp_path)
    stored = load_tensors(tmp_path / "model.safetensors")
    assert set(to_transformers(mine.state_dict())) == set(stored)
    other = alone()
    save_tensors(tmp_path / "model.safetensors", to_transformers(other.state_dict()))
    loaded = published.transformers().MimiModel.from_pretrained(tmp_path).eval()
    assert loaded.config.frame_rate == 50
    x = noise(1, 1, 120)
    with torch.no_grad():
        counts = loaded.quantizer.state_dict()["semantic_residual_vector_quantizer.layers.0.codebook.cluster_usage"]
        assert not counts.any(), "ours never counted"
        torch.testing.assert_close(loaded.encoder(x).latents.transpose(1, 2), other.latents(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"downsample.weird": torch.zeros(1)}, r"downsample.weird is unknown"),
        ({"upsample.conv.weight": None}, "upsample.conv.weight is missing"),
        ({"encoder_transformer.layers.0.self_attn.k_proj.weight": None}, "qkv.weight is missing"),
        ({"quantizer.semantic_residual_vector_quantizer.layers.0.codebook.cluster_usage": None}, "counts is missing"),
        ({"quantizer.acoustic_residual_vector_quantizer.input_proj.weight": torch.zeros(3, 4, 1)}, r"is \(3, 4\)"),
    ],
)
def test_every_weight_must_have_its_place(change: dict[str, Any], said: str) -> None:
    mine = alone()
    state = {name: x for name, x in {**to_transformers(mine.state_dict()), **change}.items() if x is not None}
    with pytest.raises(UserError, match=said):
        load_state(mine, from_transformers(state))


def test_sizes_and_rates_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = MimiNetwork(MimiConfig())
        assert network.latents(torch.empty(1, 1, 48_000)).shape == (1, 25, 512)
    assert sum(p.numel() for p in network.parameters()) == 79_308_609
    assert network.spec == CodeSpec(24_000, 12.5, 32, 2048) and network.spec.hop_length == 1920
    assert network.starts == (1, 1) and network.streams and bitrate(12.5, 8, 2048) == 1100
    theirs = published.transformers().MimiConfig()
    assert published_config(theirs.to_dict()) == published_config(theirs.to_diff_dict()) == MimiConfig()
    # As the published file has it, from before transformers reckoned the rate.
    assert published_config(theirs.to_dict() | {"frame_rate": 12.5, "rope_theta": 10_000.0}) == MimiConfig()


def test_a_folder_of_transformers_is_a_codec(tmp_path: Path) -> None:
    theirs = published.model("Mimi", published.MIMI)
    theirs.save_pretrained(tmp_path)
    codec = load(tmp_path, 3)
    assert isinstance(codec, Codec) and codec.name == "mimi" and codec.spec == CodeSpec(600, 50.0, 3, 16)
    x = 0.1 * noise(2, 360)
    codes = theirs.encode(x[:, None], num_quantizers=3).audio_codes
    assert torch.equal(codec.encode(x), codes.transpose(1, 2))
    sound = theirs.decode(codes).audio_values[:, 0].clamp(-1, 1)
    torch.testing.assert_close(codec.decode(codec.encode(x)), sound, atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="take 1 to 5 of them, not 8"):
        load(tmp_path, 8)


def test_bad_folders_are_refused_by_name(tmp_path: Path) -> None:
    published.model("Mimi", published.MIMI).save_pretrained(tmp_path)
    good = json.loads((tmp_path / "config.json").read_text())
    for change, said in (
        ({"model_type": "encodec"}, "of the kind encodec, not mimi"),
        ({"num_key_value_heads": 1}, "its num_key_value_heads is 1, not 2"),
        ({"hidden_act": "relu"}, "its hidden_act is relu, not gelu"),
        ({"codebook_dim": 4}, "its codebook_dim is 4, not 8"),
        ({"num_semantic_quantizers": 5}, "some are semantic"),
        ({"num_filters": 8}, "does not fit MimiNetwork"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(good | change))
        with pytest.raises(UserError, match=said) as caught:
            load_network(tmp_path)
        assert "\n" not in str(caught.value)


# --- the codec, whole and in pieces ----------------------------------------------------------------------------------


def pieces(stream: Any, x: Tensor, sizes: list[int]) -> Tensor:
    made = [stream.push(piece) for piece in x.split(sizes, 1)]
    return torch.cat([*[part for part in made if part.numel()], stream.finish()], 1)


@pytest.mark.parametrize("length", [1, 12, 100, 240])
def test_pieces_of_any_length_are_the_whole(length: int) -> None:
    codec = NetworkCodec("mimi", alone(), 4)
    x = 0.3 * noise(2, length)
    codes = codec.encode(x)
    assert length < 100 or len(codes.unique()) > 8, "codes say something"
    frames = -(-length // HOP)
    assert codes.shape == (2, frames, 4) and codec.latents(x).shape == (2, frames, 16)
    sound = codec.decode(codes)
    assert sound.shape == (2, frames * HOP)
    coder, decoder = codec.encoding(), codec.decoding()
    for size in (5, 12, 31):
        sizes = [min(size, length - begin) for begin in range(0, length, size)]
        assert torch.equal(pieces(coder, x, sizes), codes)
        sizes = [min(size, frames - begin) for begin in range(0, frames, size)]
        torch.testing.assert_close(pieces(decoder, codes, sizes), sound, atol=1e-5, rtol=1e-5)


def test_latents_in_pieces_are_the_whole_and_little_is_remembered() -> None:
    network, x = alone(), noise(1, 1, 40 * HOP)
    state, made, held = None, [], set()
    for piece in x.split(HOP, -1):
        part, state = network.stream_latents(piece, state)
        made.append(part)
        first, past, last = state
        tensors = [*(kept for layer in first for kept in layer), *past.keys, *past.values, *last]
        held.add(sum(kept.numel() for kept in tensors))
    torch.testing.assert_close(torch.cat(made, 1), network.latents(x), atol=1e-5, rtol=0)
    # Two frames a piece fill the context of 5 after the second.
    assert len(made) == 40 and len(held) == 2


def test_every_frame_answers_at_once_and_hears_nothing_later() -> None:
    codec = NetworkCodec("mimi", alone())
    x = noise(1, 20 * HOP)
    coder = codec.encoding()
    assert [coder.push(piece).shape[1] for piece in x.split(HOP, 1)] == [1] * 20
    other = x.clone()
    other[:, 10 * HOP + 3] += 1
    changed = (codec.latents(x) - codec.latents(other)).abs().amax((0, 2)) > 0
    assert not changed[:10].any() and changed[10]


def test_neither_branch_hears_the_other() -> None:
    network, x = alone(), noise(1, 1, 240)
    before = network.encode(x)
    for level in network.quantiser.acoustic.quantiser.levels:
        level.quantiser.codebook.zero_()
    after = network.encode(x)
    assert torch.equal(after[..., 0], before[..., 0]) and not after[..., 1:].any()
    network = alone()
    network.quantiser.semantic.quantiser.levels[0].quantiser.codebook.zero_()
    after = network.encode(x)
    assert torch.equal(after[..., 1:], before[..., 1:]) and not after[..., 0].any()


def test_training_reaches_every_weight_and_distils() -> None:
    torch.manual_seed(0)
    network = MimiNetwork(replace(TINY, teacher=6, plain=0.0))
    x, target, rng = 0.5 * noise(4, 1, 120), noise(4, 10, 6, seed=2), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    apart, errors = [], []
    for step in range(40):
        made, coded = network(x, rng, target)
        assert made.shape == x.shape and coded.ids.shape == (4, 10, 5)
        error = (made - x).square().mean()
        optimiser.zero_grad()
        (error + coded.loss + coded.distillation).backward()
        if step == 0:
            assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
        optimiser.step()
        errors.append(float(error.detach()))
        apart.append(float(coded.distillation.detach()))
    assert errors[-1] < 0.9 * errors[0] and apart[-1] < apart[0] - 0.2


def test_nonsense_is_refused() -> None:
    for change, said in (
        ({"seanet": MIMI}, "so must the transformer be"),
        ({"semantic": 5}, "some are semantic"),
        ({"stride": 1}, "2 or more"),
        ({"groups": 3}, "divide the width"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(TINY, **change)  # type: ignore[arg-type]
    stereo = replace(TINY, seanet=replace(TINY.seanet, channels=2))
    with pytest.raises(UserError, match="several channels"):
        NetworkCodec("mimi", MimiNetwork(stereo))
