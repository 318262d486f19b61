"""The audio model of Voicebox: the checks of its paper (arXiv 2306.15687), sizes, leaks, padding, overfitting."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_voicebox import condition, make_batch, tiny
from torch import Tensor

from flowtts.nn import Transformer, TransformerConfig, alibi_bias
from flowtts.recipes.voicebox import AudioConfig, AudioModel
from flowtts.solve import guided, solve
from flowtts.types import Condition, Sampling


def count(config: AudioConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in AudioModel(config).parameters())


def test_base_size_is_the_papers() -> None:
    # papers: 330M stated; 332.95M computed for K = 100, H = 1024.
    assert count(AudioConfig()) == pytest.approx(332.95e6, rel=1e-3)


def test_ablation_size_is_the_papers() -> None:
    body = TransformerConfig(layers=12, heads=8, width=1024, ffn=2048)
    assert count(AudioConfig(body=body)) == pytest.approx(118.9e6, rel=0.01)


def test_alibi_is_symmetric_and_blind_to_the_time_token() -> None:
    bias = alibi_bias(7, 4, extra=1)
    assert bias.shape == (4, 8, 8)
    assert torch.equal(bias, bias.transpose(1, 2))
    assert not bias.diagonal(dim1=1, dim2=2).any()
    assert not bias[:, -1].any() and not bias[:, :, -1].any()
    slopes = -bias[:, 0, 1]
    assert torch.allclose(slopes, torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]))


def test_output_has_the_length_of_the_input() -> None:
    batch = make_batch([23, 17])
    for stack in (1, 2, 3):
        net = tiny(frames_per_token=stack)
        assert net(batch.features, torch.tensor([0.1, 0.9]), condition(batch)).shape == batch.features.shape


def test_velocity_depends_on_time() -> None:
    batch, net = make_batch([20]), tiny()
    early, late = (net(batch.features, torch.tensor([t]), condition(batch)) for t in (0.1, 0.9))
    assert (early - late).abs().max() > 1e-3


@pytest.mark.parametrize("stack", [1, 2])
@pytest.mark.parametrize("kernel", [0, 3])
def test_padded_equals_alone(stack: int, kernel: int) -> None:
    body = TransformerConfig(
        layers=4, heads=2, width=32, ffn=64, position_kernel=5, position_groups=4, dropout=0.0, block_kernel=kernel
    )
    net = tiny(frames_per_token=stack, body=body)
    both = make_batch([31, 16])
    t = torch.tensor([0.3, 0.6])
    cond = condition(both)
    padded = net(both.features, t, cond)
    alone = Condition(
        *(x[1:, :16] if x.ndim > 1 else x[1:] for x in (cond.text, cond.prompt, cond.known, cond.mask, cond.keep))
    )
    assert torch.allclose(padded[1, :16], net(both.features[1:, :16], t[1:], alone)[0], atol=1e-5)


def test_null_condition_hides_text_and_prompt() -> None:
    batch, net = make_batch([20]), tiny()
    cond = condition(batch).null()
    other = replace(cond, text=torch.randint(1, 20, cond.text.shape), prompt=torch.randn_like(cond.prompt))
    t = torch.tensor([0.5])
    assert torch.equal(net(batch.features, t, cond), net(batch.features, t, other))


def test_loss_reads_masked_frames_only(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = tiny(drop_context=0.0), make_batch([40, 28])
    seen: dict[str, Tensor] = {}

    def forward(x: Tensor, t: Tensor, cond: Condition) -> Tensor:
        seen["output"], seen["known"], seen["mask"] = torch.zeros_like(x, requires_grad=True), cond.known, cond.mask
        return seen["output"]

    monkeypatch.setattr(net, "forward", forward)
    net.loss(batch, torch.Generator().manual_seed(1))["loss"].backward()
    gradient = seen["output"].grad
    assert gradient is not None
    generated = seen["mask"] & ~seen["known"]
    assert (gradient[generated].abs().sum(-1) > 0).all()
    assert not gradient[~generated].any()


def test_nothing_of_the_masked_frames_reaches_the_condition() -> None:
    net, batch = tiny(), make_batch([60, 45])
    cond, masked = net.condition(batch, torch.Generator().manual_seed(3))
    assert masked.any() and not cond.prompt[masked].any() and not cond.known[masked].any()
    disturbed = replace(
        batch, features=torch.where(masked[..., None], torch.full_like(batch.features, 9.0), batch.features)
    )
    again, _ = net.condition(disturbed, torch.Generator().manual_seed(3))
    assert torch.equal(again.prompt, cond.prompt)


def test_masks_follow_the_papers_rules() -> None:
    net, rng = tiny(), torch.Generator().manual_seed(0)
    batch = make_batch([500] * 50, phone=1)
    whole, kept, shares = 0, 0, []
    for _ in range(200):
        cond, masked = net.condition(batch, rng)
        share = masked.float().mean(1)
        whole += int((share == 1).sum())
        kept += int(cond.keep.sum())
        shares += share[share < 1].tolist()
    assert whole / 10_000 == pytest.approx(0.30, abs=0.02)
    assert 1 - kept / 10_000 == pytest.approx(0.20, abs=0.02)
    assert min(shares) >= 0.7 - 2 / 500 and max(shares) < 1
    assert sum(shares) / len(shares) == pytest.approx(0.85, abs=0.01)


def test_mask_edges_are_phone_boundaries_and_draws_are_per_utterance() -> None:
    net, batch = tiny(drop_context=0.0), make_batch([203] * 16, phone=7)
    cond, masked = net.condition(batch, torch.Generator().manual_seed(2))
    changes = (masked[:, 1:] != masked[:, :-1]).nonzero()[:, 1] + 1
    assert len(changes) and all(int(c) % 7 == 0 or int(c) == 203 for c in changes)
    assert len({tuple(row.tolist()) for row in masked}) > 4
    assert 0 < int(cond.keep.sum()) < 16


def test_unknown_text_is_dropped_and_its_context_kept() -> None:
    net, batch = tiny(drop_context=0.0), make_batch([50, 50])
    cond, _ = net.condition(replace(batch, transcribed=torch.tensor([True, False])), torch.Generator().manual_seed(1))
    assert cond.text[0].any() and not cond.text[1].any()
    assert cond.prompt[1].any()


def test_skips_pair_first_with_last() -> None:
    config = TransformerConfig(layers=4, heads=2, width=16, ffn=32, position_kernel=3, position_groups=2, dropout=0.0)
    body = Transformer(config).eval()
    order: list[tuple[int, Tensor]] = []
    for index, block in enumerate(body.blocks):
        block.register_forward_hook(lambda _m, _i, out, index=index: order.append((index, out)))
    taken: list[Tensor] = []
    for skip in body.skips:
        skip.register_forward_pre_hook(lambda _m, args: taken.append(args[0]))
    body(torch.randn(1, 5, 16), torch.ones(1, 5, dtype=torch.bool))
    outputs = dict(order)
    assert torch.equal(taken[0][..., 16:], outputs[1]) and torch.equal(taken[1][..., 16:], outputs[0])


def test_overfits_one_utterance() -> None:
    torch.manual_seed(0)
    net = tiny(drop_context=0.0, drop_condition=0.0).train()
    time = torch.linspace(0, 12, 48)[:, None]
    batch = make_batch([48])
    batch = replace(batch, features=torch.sin(time + torch.arange(8.0))[None])
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(250):
        optimiser.zero_grad()
        net.loss(batch, rng)["loss"].backward()
        optimiser.step()
    net.eval()
    cond = condition(batch)
    with torch.no_grad():
        made = solve(guided(net, cond, 1.0), torch.randn(batch.features.shape, generator=rng), Sampling(steps=16)).x
    unknown = ~cond.known[0]
    error = (made[0] - batch.features[0])[unknown].square().mean()
    to_mean = (batch.features[0] - batch.features[0].mean(0))[unknown].square().mean()
    assert error < 0.15 * to_mean
