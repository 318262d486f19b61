"""DAC through transformers: its codes and sound in our shapes, whole frames, and folders."""

from __future__ import annotations

import json
from pathlib import Path

import published_codecs as published
import pytest
import torch
from published_codecs import noise

from flowtts.codec import Codec
from flowtts.types import CodeSpec, UserError
from flowtts.vocoders.dac import DacCodec, load

HOP = 6


def made(codebooks: int | None = None) -> DacCodec:
    return DacCodec(published.model("Dac", published.DAC), codebooks)


def test_is_a_codec_whose_codes_and_sound_are_those_of_the_model() -> None:
    codec = made()
    assert isinstance(codec, Codec) and codec.name == "dac" and codec.spec == CodeSpec(600, 100.0, 3, 16)
    x = 0.3 * noise(2, 20 * HOP)
    found = codec.model(x[:, None])
    codes = codec.encode(x)
    assert codes.shape == (2, 20, 3) and torch.equal(codes, found.audio_codes.transpose(1, 2))
    sound = codec.decode(codes)
    length = found.audio_values.shape[-1]
    torch.testing.assert_close(sound[:, :length], found.audio_values.clamp(-1, 1), atol=1e-5, rtol=0)
    # An odd stride makes too few samples; ours are whole frames.
    assert sound.shape == (2, 20 * HOP) and length < 20 * HOP and not sound[:, length:].any()


@pytest.mark.parametrize("length", [1, 5, 6, 7, 119])
def test_silence_fills_the_last_frame(length: int) -> None:
    codec, x = made(), 0.3 * noise(1, length)
    frames = -(-length // HOP)
    codes = codec.encode(x)
    assert codes.shape == (1, frames, 3) and codec.latents(x).shape[:2] == (1, frames)
    filled = torch.cat([x, torch.zeros(1, frames * HOP - length)], 1)
    assert torch.equal(codec.encode(filled), codes)
    assert codec.decode(codes).shape == (1, frames * HOP)


def test_fewer_codebooks_are_the_first_of_more() -> None:
    x = noise(1, 60)
    codes = made().encode(x)
    for count in (1, 2):
        codec = made(count)
        assert codec.spec.codebooks == count and torch.equal(codec.encode(x), codes[..., :count])
        torch.testing.assert_close(codec.decode(codes[..., :count]), made().decode(codes[..., :count]))
    for wrong in (0, 4):
        with pytest.raises(UserError, match="1 to 3 of them"):
            made(wrong)


def test_latents_decode_without_codes() -> None:
    codec, x = made(), 0.3 * noise(1, 60)
    latents = codec.latents(x)
    torch.testing.assert_close(latents.transpose(1, 2), codec.model.encoder(x[:, None]))
    sound = codec.model.decoder(latents.transpose(1, 2))[:, 0].clamp(-1, 1)
    torch.testing.assert_close(codec.from_latents(latents)[:, : sound.shape[1]], sound)


def test_nothing_is_nothing_and_there_are_no_pieces() -> None:
    codec = made()
    codes = codec.encode(torch.zeros(2, 0))
    assert codes.shape == (2, 0, 3) and codes.dtype == torch.long and codec.decode(codes).shape == (2, 0)
    for stream in (codec.encoding, codec.decoding):
        with pytest.raises(UserError, match="hears what comes later"):
            stream()


def test_folders(tmp_path: Path) -> None:
    codec = made()
    codec.model.save_pretrained(tmp_path)
    x = noise(1, 60)
    assert torch.equal(load(tmp_path, 2).encode(x), codec.encode(x)[..., :2])
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"model_type": "mimi"}))
    with pytest.raises(UserError, match="of the kind mimi, not dac"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        load(tmp_path)
