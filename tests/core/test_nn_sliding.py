"""The transformer that sees a bounded past: what it sees, and pieces that equal the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowtts.nn.sliding import SlidingConfig, SlidingTransformer

CONFIG = SlidingConfig(layers=2, heads=2, width=8, ffn=16, context=4, scale=0.7)


def made(config: SlidingConfig = CONFIG) -> SlidingTransformer:
    torch.manual_seed(0)
    return SlidingTransformer(config).eval().requires_grad_(False)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sizes", [[1] * 20, [3, 9, 1, 7], [20], [2, 18]])
def test_pieces_are_the_whole_and_the_past_stays_short(sizes: list[int]) -> None:
    network, x = made(), noise(2, 20, 8)
    past, out = None, []
    for piece in x.split(sizes, 1):
        part, past = network.stream(piece, past)
        out.append(part)
        assert all(kept.shape[2] <= CONFIG.context - 1 for kept in (*past.keys, *past.values))
    assert past is not None and past.length == 20
    torch.testing.assert_close(torch.cat(out, 1), network(x), atol=1e-6, rtol=1e-5)


def test_a_position_sees_its_context_and_no_more() -> None:
    network, x = made(SlidingConfig(layers=1, heads=2, width=8, ffn=16, context=4, scale=1.0)), noise(1, 20, 8)
    other = x.clone()
    other[:, 9, 0] += 1  # not all channels alike, which normalisation would undo
    changed = (network(x) - network(other)).abs().amax((0, 2)) > 0
    assert changed.nonzero().flatten().tolist() == [9, 10, 11, 12]


def test_only_distances_count() -> None:
    network, x = made(), noise(1, 12, 8)
    past = None
    _, past = network.stream(noise(1, 30, 8), past)
    far, _ = network.stream(x, past)
    # Two blocks of context 4 reach 6 positions back; from there on the beginning is forgotten.
    torch.testing.assert_close(far[:, 6:], network(x)[:, 6:], atol=1e-5, rtol=1e-4)
    assert (far[:, :3] - network(x)[:, :3]).abs().max() > 1e-3


def test_a_scale_of_zero_leaves_everything_as_it_is() -> None:
    x = noise(1, 5, 8)
    assert torch.equal(made(SlidingConfig(layers=2, heads=2, width=8, ffn=16, scale=0.0))(x), x)


def test_sizes() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in SlidingTransformer(SlidingConfig()).parameters())
    # Eight times 4 D^2 of attention, 8 D^2 of feed-forward, two norms and two scales.
    assert count == 8 * (12 * 512**2 + 6 * 512) == 25_190_400
    for wrong, said in (({"heads": 3}, "even multiple"), ({"width": 8, "heads": 8}, "even"), ({"context": 0}, "1 or")):
        with pytest.raises(ValueError, match=said):
            SlidingConfig(**wrong)
