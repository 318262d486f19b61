"""CLVP: its size, padding, order of candidates, hidden symbols, and that it learns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from flowtts.mask import lengths_to_mask
from flowtts.recipes.tortoise.clvp import CLVP, _hide
from flowtts.recipes.tortoise.config import CLVPConfig

TINY = CLVPConfig(width=32, latent=24, layers=2, heads=2, head_width=16, ffn=48, symbols=20, codes=40, dropout=0.0)


@dataclass(frozen=True)
class Spoken:
    text: Tensor
    text_lengths: Tensor
    codes: Tensor
    code_lengths: Tensor


def tiny(config: CLVPConfig = TINY) -> CLVP:
    torch.manual_seed(0)
    return CLVP(config)


def batch(items: int = 8) -> Spoken:
    """Different lengths; ids of padding (the last of each vocabulary) occur nowhere else."""
    rng = torch.Generator().manual_seed(1)
    text_lengths = torch.randint(3, 10, (items,), generator=rng)
    code_lengths = torch.randint(8, 30, (items,), generator=rng)
    text = torch.randint(0, 19, (items, int(text_lengths.max()) + 2), generator=rng)
    codes = torch.randint(0, 39, (items, int(code_lengths.max()) + 2), generator=rng)
    text = text.masked_fill(~lengths_to_mask(text_lengths, text.shape[1]), 19)
    codes = codes.masked_fill(~lengths_to_mask(code_lengths, codes.shape[1]), 39)
    return Spoken(text, text_lengths, codes, code_lengths)


def masks(spoken: Spoken) -> tuple[Tensor, Tensor]:
    return (
        lengths_to_mask(spoken.text_lengths, spoken.text.shape[1]),
        lengths_to_mask(spoken.code_lengths, spoken.codes.shape[1]),
    )


def test_size_is_the_published() -> None:
    with torch.device("meta"):
        made = CLVP(CLVPConfig())
    assert sum(p.numel() for p in made.parameters()) == 243_846_145
    assert CLVPConfig().rotary_width == 32
    assert tiny().temperature.item() == 1.0


@torch.no_grad()
def test_padded_equals_alone() -> None:
    net, spoken = tiny().eval(), batch()
    text_mask, code_mask = masks(spoken)
    together = net.score(spoken.text, text_mask, spoken.codes, code_mask)
    texts, speeches = net.encode_text(spoken.text, text_mask), net.encode_speech(spoken.codes, code_mask)
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(8))
    for i in range(8):
        text, codes = (
            spoken.text[i : i + 1, : spoken.text_lengths[i]],
            spoken.codes[i : i + 1, : spoken.code_lengths[i]],
        )
        alone = torch.ones_like(text, dtype=torch.bool), torch.ones_like(codes, dtype=torch.bool)
        torch.testing.assert_close(net.encode_text(text, alone[0])[0], texts[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(net.encode_speech(codes, alone[1])[0], speeches[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(net.score(text, alone[0], codes, alone[1])[0], together[i], atol=1e-5, rtol=0)


@torch.no_grad()
def test_encoder_is_the_published_one_written_out() -> None:
    """Half of the channels of queries, keys and values turn; RMS norms, GEGLU, a layer norm, the mean, unit length."""
    net = tiny(replace(TINY, head_width=64)).double().eval()
    ids = torch.randint(0, 20, (9,), generator=torch.Generator().manual_seed(2))
    w = {name.removeprefix("text."): value for name, value in net.state_dict().items() if name.startswith("text.")}
    angles = torch.arange(9)[:, None, None] / 10_000 ** (torch.arange(0, 32, 2) / 32)

    def turned(x: Tensor) -> Tensor:
        a, b, rest = x.split([16, 16, 32], dim=-1)
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin(), rest], dim=-1)

    def rms(x: Tensor, name: str) -> Tensor:
        return x / x.square().mean(-1, keepdim=True).sqrt() * w[name]

    x = w["embed.weight"][ids]
    for layer in (0, 2):
        a, f = f"branches.{layer}.", f"branches.{layer + 1}."
        hidden = rms(x, a + "norm.weight")
        q, k, v = (turned((hidden @ w[f"{a}{n}.weight"].T).view(9, 2, 64)) for n in ("query", "key", "value"))
        weights = (torch.einsum("ihd,jhd->hij", q, k) / 8).softmax(-1)
        x = x + torch.einsum("hij,jhd->ihd", weights, v).flatten(1) @ w[a + "out.weight"].T + w[a + "out.bias"]
        value, gate = (rms(x, f + "norm.weight") @ w[f + "inner.weight"].T + w[f + "inner.bias"]).split(48, dim=-1)
        gate = gate * (1 + torch.erf(gate / 2**0.5)) / 2
        x = x + (value * gate) @ w[f + "out.weight"].T + w[f + "out.bias"]
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    latent = w["latent.weight"] @ (x * w["norm.weight"] + w["norm.bias"]).mean(0)
    found = net.encode_text(ids[None], torch.ones(1, 9, dtype=torch.bool))[0]
    torch.testing.assert_close(found, latent / latent.norm(), atol=1e-6, rtol=0)


@torch.no_grad()
def test_candidates_are_scored_whatever_their_order_and_company() -> None:
    net, spoken = tiny().eval(), batch()
    text_mask, code_mask = masks(spoken)
    text, present = spoken.text[:1], text_mask[:1]
    scores = net.score(text, present, spoken.codes, code_mask)
    order = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4])
    moved = net.score(text, present, spoken.codes[order], code_mask[order])
    torch.testing.assert_close(moved, scores[order], atol=1e-5, rtol=0)
    repeated = net.score(text.expand(8, -1), present.expand(8, -1), spoken.codes, code_mask)
    torch.testing.assert_close(repeated, scores, atol=1e-5, rtol=0)
    assert scores.unique().numel() == 8 and (scores.abs() <= torch.e).all()
    net.temperature.fill_(2.0)
    torch.testing.assert_close(net.score(text, present, spoken.codes, code_mask), scores * torch.e)


@torch.no_grad()
def test_order_of_the_symbols_is_heard() -> None:
    net, spoken = tiny().eval(), batch()
    codes = spoken.codes[:, :8]
    present = torch.ones_like(codes, dtype=torch.bool)
    assert (net.encode_speech(codes, present) - net.encode_speech(codes.flip(1), present)).abs().max() > 1e-2


def test_no_gradient_comes_from_padding() -> None:
    net, spoken = tiny(), batch()
    net.loss(spoken, torch.Generator().manual_seed(0))["loss"].backward()
    for embed in (net.text.embed, net.speech.embed):
        assert embed.weight.grad is not None
        assert not embed.weight.grad[-1].any() and embed.weight.grad[:-1].any()
    grads = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    assert len(grads) == len(list(net.parameters())) and all(g.isfinite().all() for g in grads)


def test_padding_changes_no_gradient() -> None:
    net, spoken = tiny().eval(), batch()
    short = replace(
        spoken,
        text=spoken.text[:, : int(spoken.text_lengths.max())],
        codes=spoken.codes[:, : int(spoken.code_lengths.max())],
    )
    found = []
    for given in (spoken, short):
        net.zero_grad()
        net.loss(given, torch.Generator())["loss"].backward()
        found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)


def test_hidden_symbols_are_a_share_and_never_all() -> None:
    mask = lengths_to_mask(torch.tensor([5000, 3000, 1]))
    rng = torch.Generator().manual_seed(0)
    kept = _hide(mask, 0.2, rng)
    assert not (kept & ~mask).any()
    shares = kept.sum(1) / mask.sum(1)
    assert shares[:2].tolist() == pytest.approx([0.8, 0.8], abs=0.03) and shares[2] == 1
    assert torch.equal(_hide(mask, 0.0, rng), mask)
    single = torch.ones(500, 2, dtype=torch.bool)
    assert (_hide(single, 0.99, rng).sum(1) >= 1).all()


@torch.no_grad()
def test_symbols_are_hidden_while_training_alone_and_from_the_generator() -> None:
    net, spoken = tiny(replace(TINY, text_mask=0.5, speech_mask=0.5)), batch()
    losses = [net.loss(spoken, torch.Generator().manual_seed(seed))["loss"] for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    net.eval()
    judged = [net.loss(spoken, torch.Generator().manual_seed(seed))["loss"] for seed in (0, 1)]
    assert judged[0] == judged[1]


@torch.no_grad()
def test_a_sentence_spoken_twice_is_not_its_own_opposite() -> None:
    net, spoken = tiny().eval(), batch(3)
    twice = torch.tensor([0, 1, 2, 1])
    # Garbage on the padding must not tell equal texts apart.
    text = spoken.text[twice].clone()
    text[3, spoken.text_lengths[1] :] = 0
    lengths = spoken.text_lengths[twice]
    codes = spoken.codes[[0, 1, 2, 0]]
    found = net.loss(Spoken(text, lengths, codes, spoken.code_lengths[[0, 1, 2, 0]]), torch.Generator())["loss"]
    text_mask, code_mask = masks(spoken)
    logits = net.scale * net.encode_text(spoken.text, text_mask)[twice] @ net.encode_speech(spoken.codes, code_mask).T
    logits = logits[:, [0, 1, 2, 0]]
    logits[1, 3] = logits[3, 1] = -torch.inf
    wanted = -(logits.log_softmax(0).diagonal() + logits.log_softmax(1).diagonal()).mean() / 2
    torch.testing.assert_close(found, wanted)


def test_one_batch_is_learnt() -> None:
    net, spoken, rng = tiny(), batch(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(60):
        optimiser.zero_grad()
        net.loss(spoken, rng)["loss"].backward()
        optimiser.step()
    net.eval()
    with torch.no_grad():
        found = net.loss(spoken, rng)
    assert set(found) == {"loss", "accuracy_text", "accuracy_speech"}
    assert found["accuracy_text"] == found["accuracy_speech"] == 1 and found["loss"] < 0.5


@torch.no_grad()
def test_bfloat16_gives_float32_vectors_close_to_them() -> None:
    net, spoken = tiny().eval(), batch()
    text_mask, _ = masks(spoken)
    wanted = net.encode_text(spoken.text, text_mask)
    with torch.autocast("cpu", torch.bfloat16):
        inside = net.encode_text(spoken.text, text_mask)
    converted = net.bfloat16().encode_text(spoken.text, text_mask)
    for found in (inside, converted):
        assert found.dtype == torch.float32
        assert ((found * wanted).sum(-1) > 0.999).all()


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="even head_width"):
        replace(TINY, head_width=15)
    with pytest.raises(ValueError, match="shares"):
        replace(TINY, text_mask=1.0)
