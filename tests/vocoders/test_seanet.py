"""SEANet: the published program's output for all its options, counts, causality, and pieces that equal the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowtts.compat import require
from flowtts.vocoders.seanet import (
    ENCODEC_24KHZ,
    ENCODEC_48KHZ,
    MIMI,
    SOUNDSTREAM,
    Decoder,
    Encoder,
    SeanetConfig,
    fold_weight_norm,
    padded,
)

TINY = SeanetConfig(width=5, filters=4, strides=(2, 3), lstm=1)
HOP = 6


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(kind: type[Encoder] | type[Decoder], **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(replace(TINY, **options)).eval().requires_grad_(False)


def published(config: SeanetConfig, kind: str) -> nn.Module:
    """Meta's program with the same options."""
    norms = {"none": "none", "weight": "weight_norm", "group": "time_group_norm"}
    options: dict[str, Any] = {
        "channels": config.channels, "dimension": config.width, "n_filters": config.filters,
        "n_residual_layers": config.residual_layers, "ratios": list(reversed(config.strides)),
        "norm": norms[config.norm], "kernel_size": config.kernel, "residual_kernel_size": config.residual_kernel,
        "dilation_base": config.dilation_base, "causal": config.causal, "pad_mode": config.pad,
        "true_skip": config.skip, "compress": config.compress, "lstm": config.lstm,
    }  # fmt: skip
    seanet = require("encodec.modules.seanet", "")
    if kind == "encoder":
        network: nn.Module = seanet.SEANetEncoder(**options, last_kernel_size=config.encoder_last)
    else:
        trim = config.trim_right
        network = seanet.SEANetDecoder(**options, last_kernel_size=config.decoder_last, trim_right_ratio=trim)
    return network.eval()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "none", "skip": True, "lstm": 0, "pad": "constant", "encoder_last": 3, "decoder_last": 3},
        {"causal": False, "norm": "group", "channels": 2, "lstm": 2},
        {"causal": False, "pad": "replicate", "strides": (4, 5, 2)},
        {"residual_kernel": 7, "residual_layers": 3, "dilation_base": 3, "compress": 1, "skip": True, "lstm": 0},
        {"trim_right": 0.5, "kernel": 5},
    ],
)
def test_parity_with_the_published_program_for_every_option(options: dict[str, Any]) -> None:
    config = replace(TINY, **options)
    for kind, ours in (("encoder", Encoder), ("decoder", Decoder)):
        theirs = published(config, kind)
        with torch.no_grad():
            for p in theirs.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        mine = made(ours, **options)
        pairs = list(zip(mine.state_dict().items(), theirs.state_dict().values(), strict=True))
        mine.load_state_dict({name: weight for (name, _), weight in pairs})
        channels = config.channels if kind == "encoder" else config.width
        for length in (1, 2, config.hop - 1, config.hop, 7 * config.hop + 1, 97):
            x = noise(2, channels, length)
            with torch.no_grad():
                torch.testing.assert_close(mine(x), theirs(x), atol=1e-6, rtol=1e-5)


def count(kind: Any, config: SeanetConfig, **options: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in kind(replace(config, **options)).parameters())


def test_parameters_and_hops_are_the_published_ones() -> None:
    assert (count(Encoder, ENCODEC_24KHZ), count(Decoder, ENCODEC_24KHZ)) == (7_425_792, 7_426_018)
    assert (count(Encoder, MIMI), count(Decoder, MIMI)) == (12_628_256, 14_724_641)
    assert (ENCODEC_24KHZ.hop, ENCODEC_48KHZ.hop, MIMI.hop, SOUNDSTREAM.hop) == (320, 320, 960, 320)


def test_sizes_of_soundstream_are_those_of_its_table() -> None:
    encoders = {filters: count(Encoder, SOUNDSTREAM, filters=filters) for filters in (8, 16, 32)}
    decoders = {filters: count(Decoder, SOUNDSTREAM, filters=filters) for filters in (8, 16, 32)}
    sizes = [round((encoders[a] + decoders[b]) / 1e6, 1) for a, b in ((32, 32), (16, 16), (8, 32), (32, 8))]
    assert sizes == [8.4, 2.4, 4.8, 4.4]


@pytest.mark.parametrize("options", [{}, {"causal": False}, {"pad": "constant", "skip": True}])
def test_lengths_are_whole_frames(options: dict[str, Any]) -> None:
    encoder, decoder = made(Encoder, **options), made(Decoder, **options)
    for length in (1, 5, 6, 7, 60, 61):
        assert encoder(noise(1, 1, length)).shape == (1, 5, -(-length // HOP))
    for frames in (1, 4, 9):
        assert decoder(noise(1, 5, frames)).shape == (1, 1, frames * HOP)


@pytest.mark.parametrize("pad", ["constant", "reflect", "replicate"])
def test_nothing_is_heard_before_it_sounds(pad: str) -> None:
    encoder, decoder = made(Encoder, pad=pad), made(Decoder, pad=pad)
    x, n = noise(1, 1, 40 * HOP), 20 * HOP + 3
    other = x.clone()
    other[..., n] += 1
    changed = (encoder(x) - encoder(other)).abs().amax((0, 1)) > 0
    assert not changed[: n // HOP].any() and changed[n // HOP]
    frames, t = noise(1, 5, 40), 20
    other = frames.clone()
    other[..., t] += 1
    changed = (decoder(frames) - decoder(other)).abs().amax((0, 1)) > 0
    assert not changed[: t * HOP].any() and changed[t * HOP]
    sees = made(Encoder, causal=False)
    other = x.clone()
    other[..., n] += 1
    assert (sees(x) - sees(other)).abs().amax((0, 1))[: n // HOP].any()


def pieces(network: Any, x: Tensor, sizes: list[int]) -> tuple[Tensor, set[int]]:
    """The whole in pieces, and the sizes of what is remembered."""
    state, out, held = None, [], set()
    for piece in x.split(sizes, -1):
        part, state = network.stream(piece, state)
        out.append(part)
        held.add(sum(kept.numel() for layer in state for kept in layer))
    return torch.cat(out, -1), held


OPTIONS: list[dict[str, Any]] = [
    {},
    {"lstm": 0, "skip": True, "norm": "none"},
    {"residual_layers": 3, "residual_kernel": 7, "dilation_base": 3, "compress": 1},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("pad", ["constant", "replicate"])
def test_pieces_are_the_whole_and_little_is_remembered(options: dict[str, Any], pad: str) -> None:
    encoder, decoder = made(Encoder, pad=pad, **options), made(Decoder, pad=pad, **options)
    assert encoder.start == decoder.start == 1
    x, frames = noise(2, 1, 24 * HOP), noise(2, 5, 24)
    for sizes in ([1] * 24, [3, 1, 20]):
        out, held = pieces(encoder, x, [size * HOP for size in sizes])
        torch.testing.assert_close(out, encoder(x), atol=1e-5, rtol=0)
        assert len(held) == 1, "what is remembered does not grow"
        out, held = pieces(decoder, frames, sizes)
        torch.testing.assert_close(out, decoder(frames), atol=1e-5, rtol=0)
        assert len(held) == 1


@pytest.mark.parametrize("options", OPTIONS)
def test_reflected_padding_wants_a_longer_first_piece(options: dict[str, Any]) -> None:
    encoder, decoder = made(Encoder, **options), made(Decoder, **options)
    x, frames = noise(2, 1, 30 * HOP), noise(2, 5, 30)
    for network, whole, hop in ((encoder, x, HOP), (decoder, frames, 1)):
        start = network.start
        out, _ = pieces(network, whole, [start * hop, hop, (29 - start) * hop])
        torch.testing.assert_close(out, network(whole), atol=1e-5, rtol=0)
        early, _ = pieces(network, whole, [hop] * 30)
        assert early.shape == out.shape and (early - out).abs().max() > 1e-3
        if not network.config.lstm:
            # Without an LSTM the difference ends where no convolution reaches the beginning any more.
            torch.testing.assert_close(early[..., -hop:], out[..., -hop:], atol=1e-5, rtol=0)
        # A whole that is so short is reflected in the same way.
        torch.testing.assert_close(network.stream(whole[..., :hop])[0], network(whole[..., :hop]))


def test_first_pieces_of_the_published_models() -> None:
    with torch.device("meta"):
        starts = [
            (Encoder(c).start, Decoder(c).start)
            for c in (ENCODEC_24KHZ, MIMI, SOUNDSTREAM, replace(SOUNDSTREAM, pad="reflect", encoder_last=1, kernel=1))
        ]
    # Dilated by 9, width 7: 54 before, at 8 a frame behind the third stride and before the first transposed one.
    assert starts == [(7, 7), (1, 1), (1, 1), (7, 7)]


def test_what_sees_ahead_or_is_no_whole_frame_has_no_pieces() -> None:
    for options in ({"causal": False}, {"norm": "group"}, {"trim_right": 0.5}):
        with pytest.raises(ValueError, match="only causal"):
            made(Decoder, **options).stream(noise(1, 5, 1))
    for length in (0, 7):
        with pytest.raises(ValueError, match="whole frames of 6"):
            made(Encoder).stream(noise(1, 1, length))


def test_folding_weight_normalisation_changes_no_sound() -> None:
    encoder, x = made(Encoder), noise(1, 1, 60)
    before = encoder(x)
    names = set(encoder.state_dict())
    fold_weight_norm(encoder)
    torch.testing.assert_close(encoder(x), before)
    assert "layers.0.conv.weight" in set(encoder.state_dict()) - names
    assert not any("parametrizations" in name for name in encoder.state_dict())


def test_what_is_too_short_is_reflected_with_silence() -> None:
    x = torch.tensor([[[1.0, 2.0]]])
    assert padded(x, 3, 0, "reflect").tolist() == [[[0, 0, 2, 1, 2]]]
    assert padded(x, 1, 1, "reflect").tolist() == [[[2, 1, 2, 1]]]
    assert padded(x, 2, 0, "replicate").tolist() == [[[1, 1, 1, 2]]]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="trim_right is for causal"):
        SeanetConfig(causal=False, trim_right=0.5)
    with pytest.raises(ValueError, match="compressed by 3"):
        SeanetConfig(compress=3)
