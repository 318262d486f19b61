import math
from dataclasses import replace

import pytest
import torch
from tiny_tortoise import AR_TINY
from torch import nn

from flowtts.nn.causal import CausalBlock, CausalConfig
from flowtts.recipes.tortoise.autoregressive import AutoregressiveModel
from flowtts.recipes.tortoise.data import CodeBatch
from flowtts.recipes.tortoise.guide import attention_loss, inputs_of, start_alike, start_on_time


def batch(spoken: torch.Tensor | None) -> CodeBatch:
    rng = torch.Generator().manual_seed(0)
    return CodeBatch(
        text=torch.randint(1, 200, (2, 6), generator=rng),
        text_lengths=torch.tensor([6, 4]),
        codes=torch.randint(0, 64, (2, 9), generator=rng),
        code_lengths=torch.tensor([9, 7]),
        clips=torch.randn(2, 1, 20, 80, generator=rng),
        clip_frames=torch.full((2, 1), 20),
        features=torch.zeros(2, 0, 80),
        frames=torch.zeros(2, dtype=torch.long),
        spoken=spoken,
    )


SPOKEN = torch.tensor([[-1, 0, 0, 1, 2, 3, 4, 5, -1], [0, 1, 1, 2, 3, 3, -1, -1, -1]])


def test_positions_of_a_symbol_and_its_codes_are_alike() -> None:
    text, codes = nn.Embedding(40, 64), nn.Embedding(90, 64)
    start_on_time(text, codes, 2.0)
    alike = text.weight[:40] @ codes.weight[:80].T
    assert torch.equal(alike.argmax(1), 2 * torch.arange(40))
    assert math.isclose(float(codes.weight.detach().std()), 0.02, rel_tol=0.1)


def test_a_head_without_preference_loses_the_logarithm_of_what_it_sees() -> None:
    block = CausalBlock(CausalConfig(layers=1, heads=4, width=32, ffn=64, dropout=0.0))
    nn.init.zeros_(block.qkv.weight)
    nn.init.zeros_(block.qkv.bias)
    lengths = torch.tensor([3])
    loss, looked = attention_loss(block, torch.randn(1, 20, 32), lengths, torch.tensor([[-1, 0, 2]]))
    # Codes 1 and 2 are predicted at the places 7 and 8, which see 8 and 9 places.
    assert torch.isclose(loss, torch.tensor((math.log(8) + math.log(9)) / 2))
    assert torch.isclose(looked, torch.tensor((1 / 8 + 1 / 9) / 2))


def test_a_head_that_looks_at_the_right_symbol_loses_nothing() -> None:
    block = CausalBlock(CausalConfig(layers=1, heads=2, width=16, ffn=16, dropout=0.0))
    width, lengths, spoken = 16, torch.tensor([2]), torch.tensor([[0, 1]])
    places = torch.eye(8)[None] * 40
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        # Keys are the places themselves; the states that predict code 0 and code 1 stand at 5 and 6.
        for head, ahead in ((0, 0), (1, 1)):
            rows = slice(head * 8, head * 8 + 8)
            block.qkv.weight[width:][rows, :8] = torch.eye(8)
            for code, symbol in enumerate(spoken[0].tolist()):
                block.qkv.weight[rows][2 + symbol + ahead, 5 + code] = 1.0
    block.norm_attention = nn.Identity()  # type: ignore[assignment]
    x = torch.cat([places, torch.zeros(1, 8, 8)], dim=-1)
    loss, looked = attention_loss(block, x, lengths, spoken)
    assert float(loss) < 1e-6 and float(looked) > 0.999


def test_what_says_nothing_counts_for_nothing() -> None:
    block = CausalBlock(CausalConfig(layers=1, heads=2, width=16, ffn=16, dropout=0.0))
    x, lengths = torch.randn(1, 12, 16), torch.tensor([3])
    some, _ = attention_loss(block, x, lengths, torch.tensor([[0, 1, -1, -1]]))
    fewer, _ = attention_loss(block, x, lengths, torch.tensor([[0, 1]]))
    assert torch.isclose(some, fewer)


def test_inputs_are_seen_only_inside() -> None:
    layer = nn.Linear(3, 3)
    with inputs_of(layer) as seen:
        layer(torch.ones(1, 3))
    layer(torch.zeros(1, 3))
    assert len(seen) == 1 and torch.equal(seen[0], torch.ones(1, 3))
    with inputs_of(None) as nothing:
        layer(torch.ones(1, 3))
    assert nothing == []


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_guide_is_a_part_of_the_loss_where_it_is_wanted_and_known(weight: float) -> None:
    torch.manual_seed(0)
    model = AutoregressiveModel(replace(AR_TINY, guide_weight=weight, codes_per_symbol=2.0)).eval()
    plain = model.loss(batch(None), torch.Generator())
    guided = model.loss(batch(SPOKEN), torch.Generator())
    assert ("guide" in guided) == (weight > 0) and "guide" not in plain
    extra = weight * guided["guide"] if weight else torch.zeros(())
    assert torch.isclose(guided["loss"], plain["loss"] + extra)


def test_the_guide_can_be_learnt() -> None:
    torch.manual_seed(0)
    model = AutoregressiveModel(replace(AR_TINY, guide_weight=1.0, codes_per_symbol=2.0))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        found = model.loss(batch(SPOKEN), torch.Generator())
        optimiser.zero_grad()
        found["loss"].backward()
        optimiser.step()
    assert float(found["attention"].detach()) > 0.9


def test_codes_that_sound_alike_begin_alike() -> None:
    codebook = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    table = nn.Embedding(52, 32).weight
    others = table[50:].clone()
    before = float(table.detach().std())
    start_alike([table], codebook, 0)
    apart, wanted = ((x[:, None] - x).norm(dim=-1) for x in (table[:50].detach(), codebook))
    assert torch.allclose(apart / apart.mean(), wanted / wanted.mean(), atol=1e-4)
    assert torch.equal(table[50:], others)
    assert math.isclose(float(table[:50].detach().std()), before, rel_tol=0.05)
