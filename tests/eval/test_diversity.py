"""Fréchet distance and pairwise similarity against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flowtts.compat import require
from flowtts.eval.frechet import FrechetSpeechDistance, frechet, frechet_interval, principal
from flowtts.eval.metrics import load, names
from flowtts.eval.pairwise import PairwiseSimilarity, pairs_interval
from flowtts.types import Audio, Item, Samples, UserError


@dataclass
class Told:
    """An encoder that reads its vector from the first samples."""

    backend: str = "told"
    opened: list[int] = field(default_factory=list)

    def open(self) -> Callable[[Samples], Tensor]:
        return lambda samples: torch.from_numpy(samples[:2].copy())


def saying(*vector: float) -> Audio:
    samples = np.full(16_000, 0.5, np.float32)
    samples[: len(vector)] = vector
    return Audio(samples, 16_000)


def test_frechet_of_gaussians_is_the_closed_form(rng: torch.Generator) -> None:
    x = torch.randn(500, 3, generator=rng, dtype=torch.float64)
    # Exactly white, so that the closed form holds without sampling error.
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T)).T)
    scale = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    shift = torch.tensor([3.0, 0.0, -1.0], dtype=torch.float64)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x + shift, x) == pytest.approx(10, abs=1e-9)
    assert frechet(x * scale + shift, x) == pytest.approx(10 + 0 + 1 + 0.25, abs=1e-9)
    # A rotation of a white set is the same Gaussian; the order of the sets does not count.
    turned = torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64))[0]
    assert frechet(x @ turned, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x * scale, x) == pytest.approx(frechet(x, x * scale))


def test_frechet_agrees_with_the_matrix_square_root(rng: torch.Generator) -> None:
    a = torch.randn(40, 5, generator=rng, dtype=torch.float64) @ torch.randn(5, 5, generator=rng, dtype=torch.float64)
    b = torch.randn(30, 5, generator=rng, dtype=torch.float64) + 1
    s, t = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(s)
    half = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    root = torch.linalg.eigvalsh(half @ t @ half).clamp(min=0).sqrt().sum()
    expected = (a.mean(0) - b.mean(0)).square().sum() + s.trace() + t.trace() - 2 * root
    assert frechet(a, b) == pytest.approx(float(expected))


def test_principal_components_keep_what_varies(rng: torch.Generator) -> None:
    real = torch.randn(300, 4, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 50.0, 2.0, 10.0])
    basis = principal(real, 2)
    assert basis.shape == (4, 2)
    assert torch.allclose(basis.abs(), torch.eye(4, dtype=torch.float64)[:, [1, 3]], atol=0.05)
    # Fewer recordings than dimensions: as many directions as they span.
    assert principal(real[:3]).shape == (4, 2)


def test_intervals_hold_the_value(rng: torch.Generator) -> None:
    made = torch.randn(60, 4, generator=rng, dtype=torch.float64) + 1
    real = torch.randn(60, 4, generator=rng, dtype=torch.float64)
    found = frechet_interval(made, real)
    assert 0 <= found.low < found.value < found.high
    assert found == frechet_interval(made, real)


def test_fsd_counts_every_reference_once_and_says_what_it_dropped() -> None:
    real = [saying(x, y) for x, y in ((0.1, 0.2), (0.3, 0.1), (0.2, 0.4), (0.4, 0.3))]
    items = [Item(audio, "", real[n], id=f"{n}") for n, audio in enumerate(real)]
    metric = FrechetSpeechDistance("fsd", Told())
    assert metric(items).value == pytest.approx(0, abs=1e-9)
    # The same references named again change nothing; neither does the order.
    shuffled = [Item(real[3 - n], "", real[n]) for n in range(4)] + [
        Item(real[0], "", real[0]),
        Item(real[1], "", real[0]),
    ]
    assert metric(shuffled).value == pytest.approx(frechet(*_pair(real, [3, 2, 1, 0, 0, 1])), abs=1e-9)
    silent = Item(Audio(np.zeros(16_000, np.float32), 16_000), "", real[0], id="silent")
    found = metric([*items, silent])
    assert found.dropped == {"silent": "the audio is silent"} and found.count == 4
    assert "told" in found.backend and "principal components" in found.backend
    few = metric([Item(real[0], "", real[0], id="a"), Item(real[1], "", real[0], id="b")])
    assert math.isnan(few.value) and set(few.dropped) == {"a", "b"} and few.count == 0


def _pair(real: list[Audio], order: list[int]) -> tuple[Tensor, Tensor]:
    vectors = torch.stack([torch.from_numpy(audio.samples[:2]) for audio in real]).double()
    basis = principal(vectors)
    return vectors[order] @ basis, vectors @ basis


def test_pairs_of_directions() -> None:
    metric = PairwiseSimilarity(Told())
    right, up, diagonal = saying(1.0, 0.0), saying(0.0, 1.0), saying(0.6, 0.8)
    found = metric([Item(right, "", id="right"), Item(up, "", id="up"), Item(diagonal, "", id="diagonal")])
    assert found.value == pytest.approx((0 + 0.6 + 0.8) / 3, abs=1e-6)
    assert found.items == {"right": pytest.approx(0.3), "up": pytest.approx(0.4), "diagonal": pytest.approx(0.7)}
    assert found.low <= found.value <= found.high
    same = metric([Item(right, "", id="a"), Item(saying(1.0, 0.0), "", id="b")])
    assert same.value == pytest.approx(1)
    alone = metric([Item(right, "", id="a")])
    assert math.isnan(alone.value) and alone.dropped == {"a": "there is no other recording to compare with"}


def test_a_recording_is_never_paired_with_itself() -> None:
    # All different recordings are orthogonal: drawn twice, a recording must not count as a pair of 1.
    found = pairs_interval(np.eye(6))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_wav2vec_takes_the_sixth_layer_from_a_folder(tmp_path: Path) -> None:
    try:
        require("transformers", "hf")
    except UserError as error:
        pytest.skip(str(error))
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=8, num_hidden_layers=7, num_attention_heads=1, intermediate_size=8, conv_dim=(8, 8),
        conv_stride=(5, 64), conv_kernel=(10, 64), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        num_feat_extract_layers=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Wav2Vec2Model(config).eval()
    network.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    sounds = [Audio(np.random.default_rng(n).standard_normal(16_000).astype(np.float32), 16_000) for n in range(4)]
    metric = load(f"fsd-wav2vec2:{tmp_path}")
    assert isinstance(metric, FrechetSpeechDistance)
    embedded = metric.encoder.open()(sounds[0].samples)
    normalised = torch.from_numpy((sounds[0].samples - sounds[0].samples.mean()) / sounds[0].samples.std())[None]
    with torch.inference_mode():
        expected = network(normalised, output_hidden_states=True).hidden_states[6][0].mean(0)
    assert torch.allclose(embedded, expected, atol=1e-4)
    found = metric([Item(sound, "", sound, id=str(n)) for n, sound in enumerate(sounds)])
    assert found.value == pytest.approx(0, abs=1e-6) and "layer 6" in found.backend


def test_they_are_registered() -> None:
    assert {"fsd", "fsd-wav2vec2", "sim-pairs"} <= set(names())
