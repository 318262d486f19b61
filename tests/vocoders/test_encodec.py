"""EnCodec: transformers' codes and sound from the same weights, both ways; chunks, pieces, sizes, folders."""

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
from flowtts.types import CodeSpec, UserError
from flowtts.vocoders.encodec import (
    ENCODEC_24KHZ,
    ENCODEC_48KHZ,
    SOUNDSTREAM,
    EncodecConfig,
    EncodecNetwork,
    from_transformers,
    load,
    load_network,
    overlapped,
    published_config,
    to_transformers,
)
from flowtts.vocoders.network_codec import NetworkCodec
from flowtts.vocoders.seanet import SeanetConfig, fold_weight_norm

TINY = EncodecConfig(SeanetConfig(width=8, filters=4, strides=(2, 3)), 600, 5, 16)
HOP = 6


def ours(theirs: Any, values: dict[str, Any]) -> EncodecNetwork:
    """Our network with the same weights."""
    network = EncodecNetwork(published_config(values))
    load_state(network, from_transformers(theirs.state_dict()))
    return network.eval().requires_grad_(False)


def pair(values: dict[str, Any]) -> tuple[Any, EncodecNetwork]:
    theirs = published.model("Encodec", values)
    return theirs, ours(theirs, values)


def alone(config: EncodecConfig = TINY) -> EncodecNetwork:
    torch.manual_seed(0)
    network = EncodecNetwork(config).eval().requires_grad_(False)
    frames = network.latents(noise(1, config.seanet.channels, 300))[0]
    published.spread([level.quantiser.codebook for level in network.quantiser.levels], frames)
    return network


@pytest.mark.parametrize("length", [1, 5, 6, 97, 300])
def test_codes_latents_and_sound_are_those_of_transformers(length: int) -> None:
    theirs, mine = pair(published.ENCODEC)
    x = noise(2, 1, length)
    for bandwidth, codebooks in ((0.4, 1), (0.8, 2), (2.0, 5)):
        codes = theirs.encode(x, bandwidth=bandwidth).audio_codes  # (1, B, K, T)
        assert torch.equal(mine.encode(x, codebooks), codes[0].transpose(1, 2))
        sound = theirs.decode(codes, [None]).audio_values
        torch.testing.assert_close(mine.decode(codes[0].transpose(1, 2)), sound, atol=1e-5, rtol=0)
    torch.testing.assert_close(mine.latents(x).transpose(1, 2), theirs.encoder(x), atol=1e-5, rtol=0)
    assert len(mine.encode(noise(1, 1, 300)).unique()) > 8, "codes say something"


@pytest.mark.parametrize(
    "change",
    [
        {"use_conv_shortcut": False, "pad_mode": "constant", "num_residual_layers": 2, "last_kernel_size": 3},
        {"use_causal_conv": False, "compress": 1, "dilation_growth_rate": 3, "num_residual_layers": 2},
        {"trim_right_ratio": 0.5, "residual_kernel_size": 5, "kernel_size": 5},
    ],
)
def test_every_option_means_the_same(change: dict[str, Any]) -> None:
    theirs, mine = pair(published.ENCODEC | change)
    x = noise(1, 1, 100)
    found = theirs(x, bandwidth=2.0)
    assert torch.equal(mine.encode(x), found.audio_codes[0].transpose(1, 2))
    made = mine.decode(mine.encode(x))
    torch.testing.assert_close(made[..., :100], found.audio_values, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [300, 600, 700, 1188, 2000])
def test_stereo_in_overlapping_seconds_is_that_of_transformers(length: int) -> None:
    theirs, mine = pair(published.ENCODEC_STEREO)
    x = noise(2, 2, length) * torch.linspace(0.1, 2, length)
    found = theirs.encode(x, bandwidth=2.0)
    codes, scales = mine.encode(x), mine.scales(x)
    assert scales is not None
    torch.testing.assert_close(scales, torch.cat(list(found.audio_scales), 1))
    whole = torch.cat(list(found.audio_codes), -1).transpose(1, 2)
    assert torch.equal(codes, whole[:, : whole.shape[1] - found.last_frame_pad_length])
    sound = theirs.decode(
        found.audio_codes, found.audio_scales, last_frame_pad_length=found.last_frame_pad_length
    ).audio_values
    made = mine.decode(codes, scales)
    torch.testing.assert_close(made, sound, atol=1e-5, rtol=0)
    assert made.shape[-1] >= length
    with pytest.raises(ValueError, match="as many scales"):
        mine.decode(codes, scales[:, :0])


def test_weights_go_both_ways_strictly() -> None:
    for values in (published.ENCODEC, published.ENCODEC_STEREO):
        theirs, mine = pair(values)
        back = to_transformers(mine.state_dict())
        state = theirs.state_dict()
        assert set(back) == set(state) and all(torch.equal(back[name], state[name]) for name in state)
        fresh = published.model("Encodec", values)
        with torch.no_grad():
            for p in fresh.parameters():
                p.zero_()
        fresh.load_state_dict(to_transformers(mine.state_dict()), strict=True)
        x = noise(1, mine.config.seanet.channels, 600)
        assert torch.equal(fresh.encoder(x), theirs.encoder(x))
        again = from_transformers(back)
        assert all(torch.equal(again[name], weight) for name, weight in mine.state_dict().items())


def test_weights_of_older_files_are_the_same() -> None:
    theirs, mine = pair(published.ENCODEC)
    norms = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
    old = {}
    for name, weight in theirs.state_dict().items():
        for new, spelling in norms.items():
            name = name.replace(new, spelling)
        old[name] = weight
    assert any(name.endswith("weight_g") for name in old)
    found = from_transformers(old)
    assert all(torch.equal(found[name], weight) for name, weight in mine.state_dict().items())
    for change, said in (
        ({"encoder.layers.0.conv.bias": None}, "encoder.layers.0.conv.bias is missing"),
        ({"encoder.layers.0.conv.more": torch.zeros(1)}, "encoder.layers.0.conv.more is unknown"),
        ({"encoder.layers.0.conv.bias": torch.zeros(2)}, r"is \(2,\), not \(4,\)"),
    ):
        state = {name: x for name, x in {**old, **change}.items() if x is not None}
        with pytest.raises(UserError, match=said):
            load_state(mine, from_transformers(state))


def test_sizes_and_rates_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = EncodecNetwork(ENCODEC_24KHZ)
        assert network.latents(torch.empty(1, 1, 24_000)).shape == (1, 75, 128)
    assert sum(p.numel() for p in network.parameters()) == 14_851_810
    assert network.spec == CodeSpec(24_000, 75.0, 32, 1024) and network.spec.hop_length == 320
    assert network.starts == (7, 7) and network.streams
    assert [bitrate(75, k, 1024) for k in (2, 4, 8, 16, 32)] == [1500, 3000, 6000, 12_000, 24_000]
    assert ENCODEC_48KHZ.stride == 47_520 and ENCODEC_48KHZ.chunk // ENCODEC_48KHZ.seanet.hop == 150
    assert SOUNDSTREAM.seanet.hop == 320 and bitrate(75, SOUNDSTREAM.codebooks, SOUNDSTREAM.codes) == 6000


def test_configurations_of_transformers_are_ours() -> None:
    package = published.transformers()
    for config, change in (
        (ENCODEC_24KHZ, {}),
        (
            ENCODEC_48KHZ,
            {
                "sampling_rate": 48_000, "audio_channels": 2, "normalize": True, "norm_type": "time_group_norm",
                "chunk_length_s": 1.0, "overlap": 0.01, "use_causal_conv": False,
                "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
            },
        ),
    ):  # fmt: skip
        theirs = package.EncodecConfig(**change)
        assert replace(published_config(theirs.to_dict()), overlap=0.01) == config
        assert replace(published_config(theirs.to_diff_dict()), overlap=0.01) == config
        assert theirs.num_quantizers == config.codebooks


def test_a_folder_of_transformers_is_a_codec(tmp_path: Path) -> None:
    theirs = published.model("Encodec", published.ENCODEC)
    theirs.save_pretrained(tmp_path)
    codec = load(tmp_path, 2)
    assert isinstance(codec, Codec) and codec.name == "encodec" and codec.spec == CodeSpec(600, 100.0, 2, 16)
    x = 0.1 * noise(2, 600)
    codes = theirs.encode(x[:, None], bandwidth=0.8).audio_codes
    assert torch.equal(codec.encode(x), codes[0].transpose(1, 2))
    sound = theirs.decode(codes, [None]).audio_values[:, 0].clamp(-1, 1)
    torch.testing.assert_close(codec.decode(codec.encode(x)), sound, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        codec.from_latents(codec.network.coder.decode(codec.encode(x))), sound, atol=1e-5, rtol=0
    )
    with pytest.raises(UserError, match="5 codebooks: take 1 to 5 of them, not 6"):
        load(tmp_path, 6)


def test_a_stereo_folder_is_a_network_but_codes_alone_do_not_hold_it(tmp_path: Path) -> None:
    theirs = published.model("Encodec", published.ENCODEC_STEREO)
    theirs.save_pretrained(tmp_path)
    network = load_network(tmp_path)
    x = noise(1, 2, 900)
    assert network.encode(x).shape == (1, 100 + 51, 5)
    with pytest.raises(UserError, match="codes alone do not hold"):
        load(tmp_path)


def test_bad_folders_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a checkpoint"):
        load(tmp_path)
    theirs = published.model("Encodec", published.ENCODEC)
    theirs.save_pretrained(tmp_path)
    good = json.loads((tmp_path / "config.json").read_text())
    weights = load_tensors(tmp_path / "model.safetensors")
    for change, said in (
        ({"model_type": "mimi"}, "of the kind mimi, not encodec"),
        ({"norm_type": "batch"}, "not a configuration of EnCodec's"),
        ({"codebook_dim": 4}, "codes are not as wide as frames"),
        ({"upsampling_ratios": 7}, "not a configuration"),
        ({"num_filters": 8}, "does not fit EncodecNetwork"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(good | change))
        with pytest.raises(UserError, match=said) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(good))
    weights.pop("decoder.layers.0.conv.bias")
    save_tensors(tmp_path / "model.safetensors", weights)
    with pytest.raises(UserError, match=r"decoder\.layers\.0\.conv\.bias is missing"):
        load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        load(tmp_path)


# --- the codec, whole and in pieces ----------------------------------------------------------------------------------


def pieces(stream: Any, x: Tensor, sizes: list[int]) -> Tensor:
    made = [stream.push(piece) for piece in x.split(sizes, 1)]
    return torch.cat([*[part for part in made if part.numel()], stream.finish()], 1)


@pytest.mark.parametrize("length", [1, 6, 35, 121])
@pytest.mark.parametrize("pad", ["reflect", "constant"])
def test_pieces_of_any_length_are_the_whole(length: int, pad: Any) -> None:
    codec = NetworkCodec("encodec", alone(replace(TINY, seanet=replace(TINY.seanet, pad=pad))))
    x = 0.3 * noise(2, length)
    codes = codec.encode(x)
    assert length < 100 or len(codes.unique()) > 8, "codes say something"
    frames = -(-length // HOP)
    assert codes.shape == (2, frames, 5) and codec.latents(x).shape == (2, frames, 8)
    sound = codec.decode(codes)
    assert sound.shape == (2, frames * HOP) and float(sound.abs().max()) <= 1
    coder, decoder = codec.encoding(), codec.decoding()
    for size in (1, 7, 50):
        sizes = [min(size, length - begin) for begin in range(0, length, size)]
        assert torch.equal(pieces(coder, x, sizes), codes)
        sizes = [min(size, frames - begin) for begin in range(0, frames, size)]
        torch.testing.assert_close(pieces(decoder, codes, sizes), sound, atol=1e-5, rtol=0)


def test_answers_come_as_soon_as_frames_are_whole_once_the_start_is_there() -> None:
    codec = NetworkCodec("encodec", alone(), 3)
    x = noise(1, 20 * HOP)
    coder = codec.encoding()
    counts = [coder.push(piece).shape for piece in x.split(HOP, 1)]
    assert [shape[1] for shape in counts] == [0] * 6 + [7] + [1] * 13 and {shape[2] for shape in counts} == {3}
    assert coder.finish().shape == (1, 0, 3)
    decoder = codec.decoding()
    assert [decoder.push(c).shape[1] for c in codec.encode(x).split(1, 1)] == [0] * 6 + [42] + [6] * 13


def test_nothing_is_nothing() -> None:
    codec = NetworkCodec("encodec", alone())
    codes = codec.encode(torch.zeros(2, 0))
    assert codes.shape == (2, 0, 5) and codes.dtype == torch.long and codec.decode(codes).shape == (2, 0)
    assert codec.encoding().finish().numel() == 0


def test_what_hears_ahead_has_no_pieces() -> None:
    codec = NetworkCodec("encodec", alone(replace(TINY, seanet=replace(TINY.seanet, causal=False))))
    for stream in (codec.encoding, codec.decoding):
        with pytest.raises(UserError, match="hears what comes later"):
            stream()


def test_fewer_codebooks_are_nested_and_decode_alone() -> None:
    network, x = alone(), noise(1, 1, 60)
    codes = network.encode(x)
    for count in (1, 2, 5):
        assert torch.equal(NetworkCodec("encodec", network, count).encode(x[:, 0]), codes[..., :count])
        assert network.decode(codes[..., :count]).shape == (1, 1, 60)


def test_folding_weight_normalisation_changes_no_code() -> None:
    network, x = alone(), noise(1, 1, 90)
    before = network.encode(x)
    sound = network.decode(before)
    fold_weight_norm(network)
    assert torch.equal(network.encode(x), before)
    torch.testing.assert_close(network.decode(before), sound, atol=1e-5, rtol=0)


@pytest.mark.parametrize("normalise", [False, True])
def test_training_reaches_every_weight_and_learns(normalise: bool) -> None:
    torch.manual_seed(0)
    network = EncodecNetwork(replace(TINY, normalise=normalise, revive_below=0.0))
    tones = torch.tensor([0.2, 0.3, 0.4, 0.5])[:, None, None]
    x, rng = 0.5 * torch.sin(tones * torch.arange(60)), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    errors = []
    for step in range(40):
        made, coded = network(x, rng)
        assert made.shape == x.shape and coded.ids.shape == (4, 10, 5)
        error = (made - x).square().mean()
        optimiser.zero_grad()
        (error + coded.loss).backward()
        if step == 0:
            assert all(p.grad is not None and p.grad.any() for p in network.parameters())
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.9 * errors[0]


def test_a_loudness_of_its_own_does_not_change_codes() -> None:
    network, x = alone(replace(TINY, normalise=True)), noise(1, 1, 60)
    codes, scales = network.encode(x), network.scales(x)
    assert scales is not None and float(scales) == pytest.approx(float(x.square().mean().sqrt()), rel=1e-6)
    assert torch.equal(network.encode(4 * x), codes)
    torch.testing.assert_close(network.decode(codes, 4 * scales), 4 * network.decode(codes, scales))


def test_equal_pieces_overlap_into_themselves() -> None:
    line = torch.arange(25.0).expand(1, 2, 25)
    parts = [line[..., 0:10], line[..., 8:18], line[..., 16:25]]
    torch.testing.assert_close(overlapped(parts, 8), line)
    made = overlapped([torch.zeros(1, 1, 10), torch.ones(1, 1, 10)], 6)[0, 0]
    # Triangles (1 … 5, 5 … 1): the second piece has 1 of 5, 2 of 5, 3 of 5, 4 of 5 where both are.
    assert made.tolist() == pytest.approx([0] * 6 + [0.2, 0.4, 0.6, 0.8] + [1] * 6)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="whole frames of 6"):
        replace(TINY, chunk=601)
    with pytest.raises(ValueError, match="share below 1"):
        replace(TINY, overlap=1.0)
