"""Features by their spec: mels and a codec's latents go the same ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_codec
import torch

from flowtts import copying, registry
from flowtts.audio.mel import LogMel
from flowtts.features import Latents, extractor, frames, latent_spec
from flowtts.types import VOICEBOX_MEL, Audio, LatentSpec, UserError


def noise(count: int) -> torch.Tensor:
    return torch.randn(2, count, generator=torch.Generator().manual_seed(1)) * 0.1


def test_mels_are_as_ever() -> None:
    samples = noise(4000)
    assert torch.equal(extractor(VOICEBOX_MEL)(samples), LogMel(VOICEBOX_MEL)(samples))
    assert frames(VOICEBOX_MEL, 4000) == 25


@pytest.mark.parametrize("count", [320, 3199, 3200, 3201])
def test_latents_are_the_codecs_brought_to_mean_0_and_deviation_1(tmp_path: Path, count: int) -> None:
    folder = tiny_codec.folder(tmp_path)
    codec = registry.load_codec(folder)
    spec = latent_spec(codec, str(folder))
    assert (spec.frame_rate, spec.channels, spec.hash) == (50.0, 8, codec.hash)
    mean, std = codec.statistics()
    made = extractor(spec)(noise(count))
    assert made.shape[1] == frames(spec, count) == -(-count // 320)
    torch.testing.assert_close(made * std + mean, codec.latents(noise(count)))
    torch.testing.assert_close(Latents(codec).invert(made), codec.latents(noise(count)))


def test_speech_like_the_measured_has_mean_0_and_deviation_1(tmp_path: Path) -> None:
    codec = registry.load_codec(tiny_codec.folder(tmp_path))
    made = Latents(codec)(torch.randn(4, 16_000, generator=torch.Generator().manual_seed(5)) * 0.1).flatten(0, 1)
    assert made.mean(0).abs().max() < 0.2
    assert (made.std(0) - 1).abs().max() < 0.2


def test_latents_of_another_codec_are_refused(tmp_path: Path) -> None:
    folder = tiny_codec.folder(tmp_path)
    spec = latent_spec(registry.load_codec(folder), str(folder))
    with pytest.raises(UserError, match="take the codec that it was trained with"):
        extractor(replace(spec, hash="0" * 12))
    with pytest.raises(UserError, match="no codec 'nowhere'"):
        extractor(replace(spec, codec="nowhere", hash="1" * 12))


def test_a_spec_is_the_codecs_wherever_that_lies() -> None:
    assert LatentSpec("here", "abc") == LatentSpec("there", "abc") != LatentSpec("here", "def")


def test_a_codec_is_a_vocoder_of_its_latents(tmp_path: Path) -> None:
    folder = tiny_codec.folder(tmp_path)
    codec = registry.load_codec(folder)
    spec = latent_spec(codec, str(folder))
    vocoder = registry.load_vocoder(folder, spec)
    features = extractor(spec)(noise(3200))
    torch.testing.assert_close(vocoder.decode(features), codec.from_latents(codec.latents(noise(3200))))
    assert vocoder.decode(features[:, :0]).shape == (2, 0)
    with pytest.raises(ValueError, match="needs \\(B, T, 8\\)"):
        vocoder.decode(features[..., :5])
    with pytest.raises(UserError, match="does not fit"):
        registry.load_vocoder(folder, VOICEBOX_MEL)
    with pytest.raises(UserError, match="does not fit"):
        registry.load_vocoder(tiny_codec.folder(tmp_path, 1), spec)
    with pytest.raises(UserError, match="reads mels"):
        registry.load_vocoder("griffin-lim", spec)
    assert registry.find_vocoder(folder) == folder


def test_copies_of_a_codec_go_through_its_codes(tmp_path: Path) -> None:
    folder = tiny_codec.folder(tmp_path)
    codec = registry.load_codec(folder)
    samples = noise(5000)[0]
    made = copying.copy(registry.load_vocoder(folder), Audio(samples.numpy(), 16_000))
    wanted = codec.decode(codec.encode(samples[None]))[0, :5000]
    assert len(made.samples) == 5000
    np.testing.assert_allclose(made.samples, wanted.numpy(), atol=1e-6)
    unquantised = codec.from_latents(codec.latents(samples[None]))[0, :5000]
    assert (wanted - unquantised).abs().max() > 1e-3
