"""Published codecs as vocoders: their latents are features like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import published_codecs as published
import pytest
import torch

from flowtts import registry
from flowtts.copying import copy
from flowtts.features import extractor, latent_spec
from flowtts.types import Audio

CODECS: list[tuple[str, dict[str, Any]]] = [
    ("Encodec", published.ENCODEC), ("Mimi", published.MIMI), ("Dac", published.DAC),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values"), CODECS, ids=[kind for kind, _ in CODECS])
def test_published_latents_are_features(tmp_path: Path, kind: str, values: dict[str, Any]) -> None:
    published.model(kind, values).save_pretrained(tmp_path)
    codec = registry.load_codec(tmp_path)
    spec = latent_spec(codec, str(tmp_path))
    samples = published.noise(1, 601) * 0.1
    features = extractor(spec)(samples)
    assert features.shape == (1, -(-601 // spec.hop_length), spec.width)
    vocoder = registry.load_vocoder(tmp_path, spec)
    torch.testing.assert_close(vocoder.decode(features), codec.from_latents(codec.latents(samples)))
    made = copy(vocoder, Audio(samples[0].numpy(), spec.sample_rate))
    wanted = codec.decode(codec.encode(samples))[0, :601]
    torch.testing.assert_close(torch.from_numpy(made.samples), wanted, rtol=0, atol=1e-5)
