"""Repetition by durations, its inverse, rounding to a total, and masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowtts.align import collapse, repeat, round_to_total
from flowtts.mask import lengths_to_mask, masked_mean, random_span


def test_ghost_silences_of_the_paper() -> None:
    # arXiv 2306.15687: z = (SIL A B B SIL C D D D E E F SIL SIL), the silence between D and E has no frame.
    names = ["SIL", "A", "B", "SIL", "C", "SIL", "D", "E", "F", "SIL"]
    table = {name: i for i, name in enumerate(sorted(set(names)))}
    y = torch.tensor([[table[name] for name in names]])
    durations = torch.tensor([[1, 1, 2, 1, 1, 0, 3, 2, 1, 2]])
    z = ["SIL", "A", "B", "B", "SIL", "C", "D", "D", "D", "E", "E", "F", "SIL", "SIL"]
    assert repeat(y, durations)[0].tolist() == [table[name] for name in z]


def test_repeat_pads_with_zero_and_carries_channels() -> None:
    values = torch.tensor([[4, 5, 0], [6, 7, 8]])
    durations = torch.tensor([[2, 1, 0], [1, 0, 3]])
    assert repeat(values, durations).tolist() == [[4, 4, 5, 0], [6, 8, 8, 8]]
    assert repeat(values, durations, 6)[1].tolist() == [6, 8, 8, 8, 0, 0]
    wide = repeat(values[..., None].float().expand(-1, -1, 2), durations)
    assert wide[..., 1].tolist() == [[4, 4, 5, 0], [6, 8, 8, 8]]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(lambda d: sum(d) > 0))
def test_repeat_is_undone_by_counting(durations: list[int]) -> None:
    values = torch.arange(1, len(durations) + 1)
    frames = repeat(values[None], torch.tensor([durations]))[0]
    assert torch.bincount(frames, minlength=len(durations) + 1)[1:].tolist() == durations
    runs, counts = collapse(frames)
    assert counts.tolist() == [d for d in durations if d] and runs.tolist() == [
        i + 1 for i, d in enumerate(durations) if d
    ]


@given(st.lists(st.floats(0, 50), min_size=1, max_size=40).filter(lambda d: sum(d) > 1), st.integers(1, 500))
def test_rounding_keeps_the_total_and_the_order(durations: list[float], total: int) -> None:
    made = round_to_total(torch.tensor(durations, dtype=torch.float64), total)
    assert int(made.sum()) == total and bool((made >= 0).all())
    scaled = torch.tensor(durations, dtype=torch.float64) * total / sum(durations)
    assert (made - scaled).abs().max() <= 1 + 1e-6
    assert all(int(m) == 0 for m, d in zip(made, durations, strict=True) if d == 0)


def test_rounding_refuses_nothing_to_share() -> None:
    with pytest.raises(ValueError, match="positive"):
        round_to_total(torch.zeros(3), 5)


def test_masks() -> None:
    assert lengths_to_mask(torch.tensor([1, 3])).tolist() == [[True, False, False], [True, True, True]]
    values = torch.tensor([[1.0, 100.0], [2.0, 3.0]])
    assert float(masked_mean(values, torch.tensor([[True, False], [True, True]]))) == 2.0
    assert float(masked_mean(values, torch.zeros(2, 2, dtype=torch.bool))) == 0.0


def test_random_span_stays_inside_and_is_contiguous() -> None:
    lengths = torch.tensor([1, 2, 50, 100] * 50)
    start, end = random_span(lengths, 0.1, 1.0, torch.Generator().manual_seed(0))
    assert (start >= 0).all() and (end <= lengths).all() and (end > start).all()
    share = (end - start)[lengths == 100].float() / 100
    assert share.min() >= 0.1 and share.max() > 0.8
