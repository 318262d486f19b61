"""Kept voices: what is written is read again, what is wrong is refused, and mixtures are weighted means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowtts.checkpoint import save_tensors
from flowtts.latents import Latents, mix, read_latents
from flowtts.types import UserError


def latents(seed: int = 0, model: str = "abc", gain: float = 1.0) -> Latents:
    rng = torch.Generator().manual_seed(seed)
    return Latents({"ar": torch.randn(5, generator=rng), "decoder": torch.randn(8, generator=rng)}, model, gain)


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    voice = latents(gain=0.1 + 0.2)
    assert voice.save(tmp_path / "a.safetensors") == tmp_path / "a.safetensors"
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    found = read_latents(tmp_path / "a.safetensors", "abc")
    assert (found.model, found.gain, found.hash) == (voice.model, voice.gain, voice.hash)
    assert found.tensors.keys() == voice.tensors.keys()
    assert all(torch.equal(found.tensors[name], voice.tensors[name]) for name in voice.tensors)


def test_the_hash_is_of_names_and_numbers() -> None:
    voice = latents()
    assert Latents(dict(reversed(list(voice.tensors.items()))), "other", 2.0).hash == voice.hash
    assert latents(1).hash != voice.hash
    assert Latents({"a": voice.tensors["ar"], "decoder": voice.tensors["decoder"]}, "abc").hash != voice.hash


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({}, "no voice that flowtts wrote"),
        ({"format": "flowtts-voice-9", "model": "abc", "gain": "1"}, "no voice that flowtts wrote"),
        ({"format": "flowtts-voice-1", "gain": "1"}, "is broken"),
        ({"format": "flowtts-voice-1", "model": "abc", "gain": "loud"}, "is broken"),
        ({"format": "flowtts-voice-1", "model": "xyz", "gain": "1"}, "with the weights xyz, these are abc"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path: Path, about: Mapping[str, str], message: str) -> None:
    save_tensors(tmp_path / "a.safetensors", latents().tensors, about)
    with pytest.raises(UserError, match=message):
        read_latents(tmp_path / "a.safetensors", "abc")


@pytest.mark.parametrize("content", [None, b"", b"this is no voice"])
def test_missing_and_broken_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "a.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the voice .*a\.safetensors") as caught:
        read_latents(file, "abc")
    assert "\n" not in str(caught.value)


def test_a_voice_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError):
        latents().save(tmp_path / "file" / "a.safetensors")


def close(found: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(found, wanted, atol=1e-6)


def test_a_mixture_is_the_weighted_mean() -> None:
    a, b = latents(0, gain=2.0), latents(1, gain=0.25)
    for weights in ((3.0, 1.0), (0.75, 0.25), (300.0, 100.0)):
        mixed = mix([(a, weights[0]), (b, weights[1])])
        for name in a.tensors:
            assert close(mixed.tensors[name], 0.75 * a.tensors[name] + 0.25 * b.tensors[name])
        assert mixed.gain == pytest.approx(2.0**0.75 * 0.25**0.25)
        assert mixed.model == "abc"
    only = mix([(a, 1.0), (b, 0.0)])
    assert all(torch.equal(only.tensors[name], a.tensors[name]) for name in a.tensors)


@pytest.mark.parametrize("weight", [1.0, 0.5, 3.0])
def test_a_mixture_of_one_is_itself_to_the_last_bit(weight: float) -> None:
    voice = latents(gain=0.1 + 0.2)
    mixed = mix([(voice, weight)])
    assert mixed.hash == voice.hash and mixed.gain == voice.gain


@pytest.mark.parametrize("weights", [(), (0.0, 0.0), (1.0, -0.5), (math.nan, 1.0), (math.inf, 1.0)])
def test_weights_that_make_no_mean_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="weights"):
        mix([(latents(seed), weight) for seed, weight in enumerate(weights)])


def test_voices_of_different_models_do_not_mix() -> None:
    with pytest.raises(UserError, match="different models"):
        mix([(latents(0), 1.0), (latents(1, model="xyz"), 1.0)])
    with pytest.raises(UserError, match="different models"):
        mix([(latents(0), 1.0), (Latents({"ar": torch.zeros(5)}, "abc"), 1.0)])
