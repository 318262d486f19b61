"""The codebook: what is nearest, how it learns by hand-computed numbers, whom it lets pass, and when it revives."""

from __future__ import annotations

import math
import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowtts.checkpoint import load_tensors, save_tensors
from flowtts.nn.quantise import Update, VectorQuantiser, usage

K, W = 6, 4


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quantiser(update: Update = "ema", *, decay: float = 0.9, revive_after: int = 0) -> VectorQuantiser:
    """One that has begun: codes, counts and sums are given."""
    made = VectorQuantiser(K, W, update, decay, commitment=0.25, revive_after=revive_after)
    made.codebook.data = torch.randn(K, W, generator=rng(5))
    made.started.fill_(True)
    if update == "ema":
        made.counts.copy_(torch.arange(1.0, K + 1))
        made.sums.copy_(made.codebook * made.counts[:, None])
    return made


def frames() -> tuple[Tensor, Tensor]:
    """(2, 5, W) of which the second item has two that are padding."""
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    return torch.randn(2, 5, W, generator=rng(6)), mask


def test_nearest_is_that_of_all_distances() -> None:
    made, x = quantiser(), torch.randn(3, 70, W, generator=rng(1))
    brute = (x[..., None, :] - made.codebook).square().sum(-1).argmin(-1)
    assert torch.equal(made.nearest(x), brute) and len(brute.unique()) == K
    assert torch.equal(made.nearest(x.double()), brute)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made.nearest(x), brute)


def test_vectors_are_codes_and_the_gradient_passes_through() -> None:
    made, (x, mask) = quantiser().eval(), frames()
    x.requires_grad_()
    found = made(x, mask)
    assert torch.equal(found.ids, made.nearest(x))
    torch.testing.assert_close(found.vectors, made.lookup(found.ids))
    weight = torch.randn(x.shape, generator=rng(2))
    (found.vectors * weight).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, weight)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_commitment_in_closed_form(update: Update) -> None:
    made, (x, mask) = quantiser(update), frames()
    x.requires_grad_()
    found = made.eval()(x, mask)
    apart = x.detach() - made.codebook.detach()[found.ids]
    count = int(mask.sum()) * W
    error = float((apart[mask] ** 2).sum()) / count
    assert float(found.loss.detach()) == pytest.approx(error * (0.25 if update == "ema" else 1.25), rel=1e-5)
    found.loss.backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 0.25 * 2 * apart * mask[..., None] / count)


def test_the_other_codebook_learns_by_gradient_towards_its_frames() -> None:
    made, (x, mask) = quantiser("gradient"), frames()
    assert [name for name, _ in made.named_parameters()] == ["codebook"]
    assert not list(quantiser("ema").parameters())
    before = made.codebook.detach().clone()
    found = made(x, mask, rng())
    found.loss.backward()
    wanted = torch.zeros(K, W)
    for vector, code in zip(x[mask], found.ids[mask].tolist(), strict=True):
        wanted[code] += 2 * (before[code] - vector) / (int(mask.sum()) * W)
    assert made.codebook.grad is not None
    torch.testing.assert_close(made.codebook.grad, wanted)
    assert torch.equal(made.codebook.detach(), before), "nothing but the optimiser changes it"


def test_moving_averages_are_those_computed_by_hand() -> None:
    made, (x, mask) = quantiser(decay=0.9), frames()
    counts, sums = made.counts.tolist(), made.sums.tolist()
    ids = made(x, mask, rng()).ids
    for code in range(K):
        mine = [vector for vector, chosen in zip(x[mask].tolist(), ids[mask].tolist(), strict=True) if chosen == code]
        counts[code] = 0.9 * counts[code] + 0.1 * len(mine)
        sums[code] = [0.9 * old + 0.1 * sum(v[w] for v in mine) for w, old in enumerate(sums[code])]
    total = sum(counts)
    smooth = [(count + 1e-5) / (total + K * 1e-5) * total for count in counts]
    assert made.counts.tolist() == pytest.approx(counts, rel=1e-5)
    wanted = torch.tensor([[value / n for value in row] for row, n in zip(sums, smooth, strict=True)])
    torch.testing.assert_close(made.codebook, wanted)


def test_nothing_is_learnt_in_evaluation() -> None:
    made, (x, mask) = quantiser(revive_after=1).eval(), frames()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made(x, mask, rng())
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_the_first_codebook_is_frames_of_the_first_batch() -> None:
    made, (x, mask) = VectorQuantiser(K, W, decay=1.0), frames()
    made.eval()(x, mask, rng())
    assert not made.started
    made.train()(x, mask, rng())
    assert made.started
    for code in made.codebook:
        assert (x[mask] - code).abs().amax(1).min() < 1e-6
    kept = made.codebook.clone()
    made(x + 1, mask, rng(1))
    torch.testing.assert_close(made.codebook, kept)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_a_dead_code_becomes_a_frame_after_exactly_so_many_batches(update: Update) -> None:
    made = quantiser(update, revive_after=3)
    with torch.no_grad():
        made.codebook[:] = 10 * torch.arange(1.0, K + 1)[:, None]
        if update == "ema":
            made.sums.copy_(made.codebook * made.counts[:, None])
    x = 10 + 0.1 * torch.randn(1, 8, W, generator=rng(3))  # code 0 is nearest to all
    mask = torch.ones(1, 8, dtype=torch.bool)
    for batch in (1, 2):
        before = made.codebook.detach().clone()
        made(x, mask, rng(batch))
        torch.testing.assert_close(made.codebook.detach()[1:], before[1:], rtol=1e-4, atol=0)
        assert made.idle.tolist() == [0, *[batch] * (K - 1)]
    made(x, mask, rng(3))
    assert made.idle.tolist() == [0] * K
    for code in made.codebook.detach()[1:]:
        assert (x[0] - code).abs().amax(1).min() < 1e-6
    if update == "ema":
        assert made.counts.tolist()[1:] == [1.0] * (K - 1)
        assert torch.equal(made.sums[1:], made.codebook[1:])


def test_codes_stay_dead_if_nobody_is_to_revive_them() -> None:
    made = quantiser(revive_after=0)
    x = made.codebook[:1].clone()[None]
    for _ in range(4):
        made(x, torch.ones(1, 1, dtype=torch.bool), rng())
    assert made.idle.tolist() == [0, *[4] * (K - 1)]


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_padding_neither_learns_nor_teaches(update: Update) -> None:
    x, mask = frames()
    wild = torch.where(mask[..., None], x, 1e3)
    first, second = quantiser(update, revive_after=1), quantiser(update, revive_after=1)
    a, b = first(x, mask, rng()), second(wild, mask, rng())
    assert torch.equal(a.loss, b.loss) and torch.equal(a.ids[mask], b.ids[mask])
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    fresh = VectorQuantiser(K, W, update)
    fresh(wild, mask, rng())
    assert float(fresh.codebook.detach().abs().max()) < 100


def test_the_generator_decides() -> None:
    x, mask = frames()

    def learnt(seed: int) -> Tensor:
        torch.manual_seed(0)
        made = VectorQuantiser(K, W, revive_after=1)
        for step in range(3):
            made(x + step, mask, rng(seed))
        return made.codebook

    assert torch.equal(learnt(1), learnt(1)) and not torch.equal(learnt(1), learnt(2))


def test_usage_in_closed_form() -> None:
    for counts, share, perplexity in (
        ([5, 5, 5, 5, 0, 0, 0, 0], 0.5, 4.0),
        ([0, 7, 0], 1 / 3, 1.0),
        ([1, 3], 1.0, math.exp(0.25 * math.log(4) + 0.75 * math.log(4 / 3))),
        ([0, 0], 0.0, 1.0),
    ):
        found = usage(torch.tensor(counts))
        assert (found.share, found.perplexity) == (pytest.approx(share), pytest.approx(perplexity))


def _rank(rank: int, folder: Path) -> None:
    """One of two processes: half of a batch each, and codes to begin with and to revive."""
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    made, (x, mask) = quantiser(), frames()
    made(x[rank : rank + 1], mask[rank : rank + 1], rng(rank))
    fresh = VectorQuantiser(K, W, revive_after=1)
    fresh(x[rank : rank + 1], mask[rank : rank + 1], rng(rank))
    held = {"codebook": made.codebook, "counts": made.counts, "fresh": fresh.codebook, "idle": fresh.idle}
    save_tensors(folder / f"{rank}.safetensors", held)
    torch.distributed.destroy_process_group()


def test_two_processes_learn_what_one_does_from_both_batches(tmp_path: Path) -> None:
    if "fork" not in multiprocessing.get_all_start_methods() or not torch.distributed.is_gloo_available():
        pytest.skip("needs processes that fork, and gloo")
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_rank, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    first, second = (load_tensors(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    alone, (x, mask) = quantiser(), frames()
    alone(x, mask, rng())
    torch.testing.assert_close(first["codebook"], alone.codebook)
    torch.testing.assert_close(first["counts"], alone.counts)
