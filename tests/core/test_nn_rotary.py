"""Rotary positions: complex numbers by hand, distances alone, both layouts."""

from __future__ import annotations

import pytest
import torch

from flowtts.nn.rotary import Pairs, rotary

BOTH = pytest.mark.parametrize("pairs", ["half", "interleaved"])


@BOTH
def test_channels_turn_as_complex_numbers(rng: torch.Generator, pairs: Pairs) -> None:
    x, positions = torch.randn(1, 1, 5, 10, generator=rng), torch.tensor([0, 1, 2, 7, 300])
    found = rotary(positions, 8, pairs)(x)
    first, second = (slice(0, 4), slice(4, 8)) if pairs == "half" else (slice(0, 8, 2), slice(1, 8, 2))
    speed = 10_000.0 ** -(torch.arange(4, dtype=torch.float64) / 4)
    turned = torch.complex(x[..., first], x[..., second]) * torch.exp(1j * positions[:, None] * speed)
    torch.testing.assert_close(found[..., first], turned.real.float(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[..., second], turned.imag.float(), atol=1e-4, rtol=0)
    assert torch.equal(found[..., 8:], x[..., 8:]), "channels beyond the width stay"
    assert torch.equal(found[..., 0, :], x[..., 0, :]), "position 0 stays"


@BOTH
def test_products_depend_on_the_distance_alone(rng: torch.Generator, pairs: Pairs) -> None:
    q, k = (torch.randn(1, 2, 1, 16, generator=rng, dtype=torch.float64).expand(1, 2, 20, 16) for _ in range(2))
    near, far = rotary(torch.arange(20), 12, pairs), rotary(torch.arange(20) + 37, 12, pairs)
    products = near(q) @ near(k).transpose(2, 3)
    torch.testing.assert_close(far(q) @ far(k).transpose(2, 3), products, atol=1e-4, rtol=0)
    for distance in range(-19, 20):
        along = products.diagonal(distance, 2, 3)
        torch.testing.assert_close(along, along[..., :1].expand_as(along), atol=1e-4, rtol=0)
    assert (products[0, 0, 0, 1:] - products[0, 0, 0, 0]).abs().min() > 1e-3, "distances differ"
    torch.testing.assert_close(near(q).norm(dim=-1), q.norm(dim=-1), atol=1e-5, rtol=0)


def test_layouts_are_permutations_of_each_other(rng: torch.Generator) -> None:
    x = torch.randn(2, 3, 6, 8, generator=rng)
    shuffle = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    half = rotary(torch.arange(6), 8, "half")(x[..., shuffle])
    interleaved = rotary(torch.arange(6), 8, "interleaved")(x)
    torch.testing.assert_close(interleaved[..., shuffle], half)


def test_items_may_have_their_own_positions(rng: torch.Generator) -> None:
    x, positions = torch.randn(2, 3, 4, 8, generator=rng), torch.tensor([[0, 1, 2, 3], [9, 8, 1, 0]])
    found = rotary(positions, 8)(x)
    for item in range(2):
        assert torch.equal(found[item], rotary(positions[item], 8)(x[item : item + 1])[0])


def test_half_precision_is_rounded_once(rng: torch.Generator) -> None:
    x, turn = torch.randn(1, 1, 9, 8, generator=rng).bfloat16(), rotary(torch.arange(9) + 500, 8)
    assert torch.equal(turn(x), turn(x.float()).bfloat16())


def test_odd_widths_and_unknown_layouts_are_refused() -> None:
    with pytest.raises(ValueError, match="even"):
        rotary(torch.arange(3), 7)
    with pytest.raises(ValueError, match="quarter"):
        rotary(torch.arange(3), 8, "quarter")  # type: ignore[arg-type]
