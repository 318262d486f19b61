"""Tortoise's VQ-VAE: its size, its rate, padding, frames left over, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flowtts.recipes.tortoise.config import VQVAEConfig
from flowtts.recipes.tortoise.vqvae import VQVAE
from flowtts.types import VOICEBOX_MEL, Batch

TINY = VQVAEConfig(mel=replace(VOICEBOX_MEL, n_mels=6), hidden=16, blocks=2, codes=24, code_width=8, revive_after=10)


def tiny(**changes: object) -> VQVAE:
    """Its codebook is what it makes of some frames, so that codes differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = VQVAE(replace(TINY, **changes))  # type: ignore[arg-type]
        made(*features(400), torch.Generator().manual_seed(0))
    return made.eval()


def features(*frames: int) -> tuple[Tensor, Tensor]:
    """Noise everywhere, padding too."""
    made = torch.randn(len(frames), max(frames), 6, generator=torch.Generator().manual_seed(1))
    return made, torch.tensor(frames)


def batch(*frames: int) -> Batch:
    made, lengths = features(*frames)
    nothing = torch.zeros(len(frames), 1, dtype=torch.long)
    return Batch(made, lengths, nothing, nothing, nothing[:, 0], nothing[:, 0].bool())


def test_size_is_the_published() -> None:
    with torch.device("meta"):
        made = VQVAE(VQVAEConfig())
    assert sum(p.numel() for p in made.parameters()) == 51_567_184
    assert made.quantiser.codebook.numel() == 4_194_304
    assert sum(p.numel() for p in VQVAE(replace(TINY, update="gradient")).parameters()) == (
        sum(p.numel() for p in VQVAE(TINY).parameters()) + 24 * 8
    )
    with pytest.raises(ValueError, match="odd kernel"):
        replace(TINY, kernel=4)


@pytest.mark.parametrize(("layers", "rate"), [(2, 4), (3, 8)])
@torch.no_grad()
def test_a_code_stands_for_so_many_frames_and_those_left_over_do_not_count(layers: int, rate: int) -> None:
    net = tiny(layers=layers)
    x, frames = features(10 * rate, 7 * rate, 7 * rate - 1)
    codes = net.encode(x, frames)
    assert codes.shape == (3, 10) and net.lengths(frames).tolist() == [10, 7, 6]
    assert not codes[1, 7:].any() and not codes[2, 6:].any() and codes.dtype == torch.int64
    assert net.decode(codes, net.lengths(frames)).shape == (3, 10 * rate, 6)
    for rest in range(1, rate):
        longer = torch.cat([x[:1], torch.full((1, rest, 6), 100.0)], 1)
        assert torch.equal(net.encode(longer, frames[:1] + rest), codes[:1])


@torch.no_grad()
def test_padded_equals_alone() -> None:
    net = tiny()
    x, frames = features(40, 29, 4)
    codes, lengths = net.encode(x, frames), net.lengths(frames)
    assert len(codes.unique()) > 3
    made, both = net(x, frames)
    decoded = net.decode(codes, lengths)
    torch.testing.assert_close(made, decoded)
    for i, n in enumerate(frames.tolist()):
        count = n // 4
        alone, quantised = net(x[i : i + 1, :n], frames[i : i + 1])
        assert torch.equal(net.encode(x[i : i + 1, :n], frames[i : i + 1])[0], codes[i, :count])
        torch.testing.assert_close(alone[0], made[i, : 4 * count], atol=1e-5, rtol=0)
        torch.testing.assert_close(quantised.vectors[0], both.vectors[i, :count], atol=1e-5, rtol=0)
        assert not made[i, 4 * count :].any()


def test_padding_teaches_nothing() -> None:
    net, given = tiny(), batch(24, 14)
    wild = replace(given, features=torch.where(torch.arange(24)[None, :, None] < given.frames[:, None, None] // 4 * 4,
                                               given.features, 1e3))  # fmt: skip
    found = []
    for one in (given, wild):
        net.zero_grad()
        losses = net.loss(one, torch.Generator())
        losses["loss"].backward()
        found.append([losses["loss"].detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)])
    torch.testing.assert_close(found[0], found[1])


@torch.no_grad()
def test_the_loss_is_the_error_of_the_frames_and_the_commitment() -> None:
    net, given = tiny(), batch(24, 14)
    made, quantised = net(given.features, given.frames)
    total = sum(
        float((made[i, :n] - given.features[i, :n]).square().sum()) for i, n in enumerate((24, 12))
    ) / (36 * 6)  # fmt: skip
    found = net.loss(given, torch.Generator())
    assert set(found) == {"loss", "mse", "commitment", "perplexity", "used"}
    assert float(found["mse"]) == pytest.approx(total, rel=1e-5)
    assert float(found["loss"]) == pytest.approx(total + float(quantised.loss), rel=1e-5)
    ids = torch.cat([quantised.ids[0], quantised.ids[1, :3]])
    assert float(found["used"]) == pytest.approx(len(ids.unique()) / 24)
    assert 1 <= float(found["perplexity"]) <= len(ids.unique())


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_a_batch_is_learnt(update: str) -> None:
    net, rng = tiny(update=update).train(), torch.Generator().manual_seed(0)
    given = batch(24, 12)
    optimiser, losses = torch.optim.AdamW(net.parameters(), 6e-3, weight_decay=0.0), []
    for _ in range(50):
        optimiser.zero_grad()
        found = net.loss(given, rng)
        found["loss"].backward()
        optimiser.step()
        losses.append(float(found["mse"].detach()))
    assert sum(losses[-5:]) / 5 < 0.3 * losses[0], (losses[0], losses[-5:])
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
