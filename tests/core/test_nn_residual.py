"""Residual quantisation: what sums up, falls, passes and revives; and two branches that share an input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from flowtts.nn.quantise import Usage, VectorQuantiser, kmeans, passed, usage
from flowtts.nn.residual import Branch, ResidualQuantiser, SplitResidualQuantiser, bitrate, usages

D, K, N = 6, 5, 16
KINDS: list[dict[str, Any]] = [
    {},
    {"space": 3, "update": "gradient"},
    {"space": 3, "normalise": True, "update": "gradient"},
    {"space": 3, "normalise": True},
]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(batch: int = 4, length: int = 40, seed: int = 1) -> tuple[Tensor, Tensor]:
    """(B, T, D) of which the last item has some that are padding."""
    mask = torch.ones(batch, length, dtype=torch.bool)
    mask[-1, length - 7 :] = False
    return torch.randn(batch, length, D, generator=rng(seed)), mask


def quantiser(steps: int = 4, **options: Any) -> ResidualQuantiser:
    """One that has seen a few batches."""
    torch.manual_seed(0)
    made = ResidualQuantiser(D, K, N, **options)
    for step in range(steps):
        made(*frames(seed=step), rng(step))
    return made.eval()


@pytest.mark.parametrize("options", KINDS)
def test_code_vectors_sum_up_and_forward_encode_and_decode_agree(options: dict[str, Any]) -> None:
    made, (x, mask) = quantiser(**options), frames(seed=9)
    found = made(x, mask)
    ids = made.encode(x)
    assert ids.shape == (4, 40, K) and torch.equal(found.ids[mask], ids[mask])
    assert (found.ids[~mask] == -1).all() and not found.vectors[~mask].any()
    torch.testing.assert_close(made.decode(ids)[mask], found.vectors[mask])
    torch.testing.assert_close(made.decode(found.ids), found.vectors)
    by_hand = sum(level.lookup(ids[..., number]) for number, level in enumerate(made.levels))
    torch.testing.assert_close(made.decode(ids), by_hand)


@pytest.mark.parametrize("options", KINDS)
def test_fewer_codebooks_are_the_first_of_more(options: dict[str, Any]) -> None:
    made, (x, _) = quantiser(**options), frames(seed=9)
    ids = made.encode(x)
    for count in range(1, K + 1):
        assert torch.equal(made.encode(x, count), ids[..., :count])
    for wrong in (0, K + 1):
        with pytest.raises(ValueError, match="1 to 5 codebooks"):
            made.encode(x, wrong)


def test_what_is_left_over_falls_with_every_codebook() -> None:
    made, (x, _) = quantiser(steps=12, dropout=0.0), frames(seed=3)
    ids = made.encode(x)
    left = [float((x - made.decode(ids[..., :n])).square().mean()) for n in range(1, K + 1)]
    assert all(after < 0.9 * before for before, after in zip([float(x.square().mean()), *left], left, strict=False))


def test_nearest_of_normalised_codes_is_the_largest_cosine_whatever_their_length() -> None:
    made = VectorQuantiser(N, D, normalise=True).eval()
    made.codebook.copy_(torch.randn(N, D, generator=rng(1)) * torch.logspace(-2, 2, N)[:, None])
    x = torch.randn(3, 50, D, generator=rng(2))
    cosine = F.cosine_similarity(x[..., None, :], made.codebook, dim=-1)
    assert torch.equal(made.nearest(x), cosine.argmax(-1)) and torch.equal(made.nearest(7 * x), cosine.argmax(-1))
    found = made(x, torch.ones(3, 50, dtype=torch.bool))
    torch.testing.assert_close(found.vectors, F.normalize(made.codebook, dim=-1)[found.ids])
    # The distance of unit vectors is 2 - 2 cos.
    assert float(found.loss) == pytest.approx(0.25 * float((2 - 2 * cosine.amax(-1)).mean()) / D, rel=1e-4)


def test_straight_gradient_is_the_identity_however_many_codebooks() -> None:
    made, (x, mask) = quantiser(), frames(seed=5)
    x.requires_grad_()
    weight = torch.randn(x.shape, generator=rng(2))
    (made(x, mask).vectors * weight).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, weight)


def rotation(x: Tensor, q: Tensor) -> Tensor:
    """(|q| / |x|) R as a matrix, R the rotation in the plane of x and q that turns x to q (arXiv 2410.06424, eq. 3)."""
    e, c = x / x.norm(), q / q.norm()
    r = (e + c) / (e + c).norm()
    eye = torch.eye(len(x), dtype=x.dtype)
    turn = eye - 2 * torch.outer(r, r) + 2 * torch.outer(c, e)
    torch.testing.assert_close(turn @ turn.T, eye)
    assert float(torch.linalg.det(turn)) == pytest.approx(1)
    return turn * (q.norm() / x.norm())


def test_rotation_gradient_is_that_of_the_matrix() -> None:
    x = torch.randn(30, D, generator=rng(1), dtype=torch.double, requires_grad=True)
    q = torch.randn(30, D, generator=rng(2), dtype=torch.double)
    weight = torch.randn(30, D, generator=rng(3), dtype=torch.double)
    made = passed(x, q, "rotation")
    torch.testing.assert_close(made, q)
    (made * weight).sum().backward()
    matrices = [rotation(a.detach(), b) for a, b in zip(x, q, strict=True)]
    for a, b, matrix in zip(x.detach(), q, matrices, strict=True):
        torch.testing.assert_close(matrix @ a, b)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.stack([m.T @ w for m, w in zip(matrices, weight, strict=True)]))


def test_the_whole_quantiser_turns_gradients_as_its_sum_is_turned() -> None:
    made, (x, mask) = quantiser(gradient="rotation"), frames(seed=5)
    x.requires_grad_()
    weight = torch.randn(x.shape, generator=rng(2))
    found = made(x, mask)
    torch.testing.assert_close(found.vectors, made.decode(found.ids))
    (found.vectors * weight).sum().backward()
    assert x.grad is not None
    matrix = rotation(x.detach()[1, 2], found.vectors.detach()[1, 2])
    torch.testing.assert_close(x.grad[1, 2], matrix.T @ weight[1, 2], atol=1e-5, rtol=1e-4)


def test_projected_levels_turn_gradients_each_in_their_own_space() -> None:
    made, straight = (
        quantiser(steps=1, space=3, update="gradient", gradient=g, dropout=0.0) for g in ("rotation", "straight")
    )
    (x, mask), one = frames(seed=5), 0
    level, other = made.levels[0], straight.levels[0]
    hidden = level.into(x).detach().requires_grad_()
    found = level.quantiser(hidden, mask)
    weight = torch.randn(hidden.shape, generator=rng(2))
    (found.vectors * weight).sum().backward()
    matrix = rotation(hidden.detach()[one, 3], found.vectors.detach()[one, 3])
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad[one, 3], matrix.T @ weight[one, 3], atol=1e-5, rtol=1e-4)
    assert torch.equal(found.ids, other(x, mask, None)[1])


def test_kmeans_finds_separated_clusters() -> None:
    centres = 10 * torch.eye(N, D + N, dtype=torch.float)
    labels = torch.arange(N).repeat(20)
    points = centres[labels] + 0.05 * torch.randn(len(labels), D + N, generator=rng())
    found = kmeans(points, points[:N] + 0.5)
    means = torch.stack([points[labels == number].mean(0) for number in range(N)])
    torch.testing.assert_close(found, means)
    far = torch.full((1, D + N), 1e3)
    stays = kmeans(points, torch.cat([means, far]))
    assert torch.equal(stays[-1:], far), "a centre that nothing is near stays"


def test_a_codebook_that_starts_by_kmeans_is_nearer_than_frames() -> None:
    x, mask = frames(batch=8, length=100)
    errors = {}
    for start in ("kmeans", "frames"):
        made = VectorQuantiser(N, D, decay=1.0, start=start)
        made(x, mask, rng())
        errors[start] = float((x - made.lookup(made.nearest(x)))[mask].square().mean())
    assert errors["kmeans"] < 0.85 * errors["frames"]


def test_first_codes_are_different_frames() -> None:
    x = torch.randn(1, N, D, generator=rng())
    made = VectorQuantiser(N, D, decay=1.0)
    ids = made(x, torch.ones(1, N, dtype=torch.bool), rng(1)).ids
    assert sorted(ids[0].tolist()) == list(range(N))


@pytest.mark.parametrize("limit", [{"revive_below": 2.0}, {"revive_share": 2.0 / 2.6125}])
def test_codes_whose_average_count_falls_below_the_threshold_revive(limit: dict[str, Any]) -> None:
    made = VectorQuantiser(4, 2, decay=0.5, revive_after=0, **limit)
    made.codebook.copy_(torch.tensor([[1.0, 0], [0, 10], [-10, 0], [0, -10]]))
    made.started.fill_(True)
    made.counts.copy_(torch.tensor([4.0, 5.0, 3.9, 2.0]))
    made.sums.copy_(made.codebook * made.counts[:, None])
    x = torch.tensor([1.0, 0]).expand(1, 6, 2) + 0.01 * torch.randn(1, 6, 2, generator=rng())
    made(x, torch.ones(1, 6, dtype=torch.bool), rng(1))
    # Averages are now 5, 2.5, 1.95 and 1, 2.6125 on average: the last two are dead, and begin with what lets them live.
    assert made.counts.tolist() == pytest.approx([5.0, 2.5, 2.0, 2.0])
    for code, lives in zip(made.codebook, (True, True, False, False), strict=True):
        assert ((x[0] - code).abs().amax(1).min() > 1e-6) == lives
    torch.testing.assert_close(made.sums[2:], 2 * made.codebook[2:])
    with pytest.raises(ValueError, match="moving averages"):
        VectorQuantiser(4, 2, "gradient", revive_below=2.0)


def test_dead_codes_of_every_level_revive() -> None:
    made = ResidualQuantiser(D, 2, N, dropout=0.0, revive_below=1.0, decay=0.9)
    x, mask = frames(batch=8, length=100)
    made(x, mask, rng())
    for level in made.levels:
        level.quantiser.codebook[1:] = 1e3
        level.quantiser.counts[1:], level.quantiser.sums[1:] = 0.5, 500.0
    made(x, mask, rng(1))
    for step in range(8):
        made(x, mask, rng(step))
    for found in usages(made.eval()(x, mask).ids, N):
        assert found.share == 1 and found.perplexity > N / 2


def test_depths_of_quantiser_dropout() -> None:
    made = ResidualQuantiser(D, K, N, dropout=0.5)
    depths = made._depths(40_000, rng())
    shares = torch.bincount(depths, minlength=K + 1) / len(depths)
    wanted = torch.tensor([0.0, *[0.5 / K] * (K - 1), 0.5 + 0.5 / K])
    assert (shares - wanted).abs().max() < 0.01
    assert all(int(ResidualQuantiser(D, K, N, dropout=1.0)._depths(2, rng(s)).max()) == K for s in range(20))
    assert made.eval()._depths(3, rng()).tolist() == [K] * 3


def test_items_that_drop_codebooks_hold_the_sum_of_the_others_alone() -> None:
    made, (x, mask) = ResidualQuantiser(D, K, N, dropout=1.0, decay=1.0, revive_after=0), frames(batch=16)
    made(x, mask, rng())  # begins the codebooks
    found = made(x, mask, rng(3))
    depths = (found.ids[:, 0] >= 0).sum(-1)
    assert len(depths.unique()) > 2 and int(depths.max()) == K
    assert torch.equal(found.ids >= 0, (torch.arange(K) < depths[:, None])[:, None] & mask[..., None])
    torch.testing.assert_close(found.vectors, made.decode(found.ids))


def test_loss_is_the_mean_of_what_each_level_missed() -> None:
    made, (x, mask) = quantiser(commitment=0.5), frames(seed=8)
    ids, left, errors = made.encode(x), x, []
    for number in range(K):
        left = left - made.levels[number].lookup(ids[..., number])
        errors.append(0.5 * float(left[mask].square().mean()))
    assert float(made(x, mask).loss) == pytest.approx(sum(errors) / K, rel=1e-5)


def test_usage_and_entropy_in_closed_form() -> None:
    ids = torch.tensor([[0, 0], [1, 0], [2, -1], [3, 0], [0, 3], [1, 0], [2, 0], [3, -1]])
    first, second = usages(ids[None], 8)
    assert first == Usage(0.5, pytest.approx(4.0)) and first.bits == pytest.approx(2.0)
    entropy = -(5 / 6 * math.log2(5 / 6) + 1 / 6 * math.log2(1 / 6))
    assert second.share == 0.25 and second.bits == pytest.approx(entropy)
    assert usage(torch.full((1024,), 3)).bits == pytest.approx(10)


def test_bitrates_are_the_published_ones() -> None:
    assert bitrate(75, 8, 1024) == 6000  # SoundStream and EnCodec
    assert bitrate(12.5, 8, 2048) == 1100  # Mimi


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="dropout from 0 to 1"):
        ResidualQuantiser(D, dropout=1.5)
    with pytest.raises(ValueError, match="wants a space"):
        ResidualQuantiser(D, normalise=True)


# --- split quantisation ----------------------------------------------------------------------------------------------


def split(**options: Any) -> SplitResidualQuantiser:
    torch.manual_seed(0)
    parts = (ResidualQuantiser(4, count, N, dropout=0.0) for count in (1, K - 1))
    made = SplitResidualQuantiser(D, *parts, **options)
    for step in range(3):
        made(*frames(seed=step), rng(step))
    return made.eval()


def zeroed(branch: Branch) -> None:
    for level in branch.quantiser.levels:
        level.quantiser.codebook.zero_()
    assert isinstance(branch.into, torch.nn.Linear)
    torch.nn.init.zeros_(branch.into.weight)


def test_branches_read_the_same_input_and_neither_hears_the_other() -> None:
    x, _ = frames(seed=9)
    for name, kept in (("semantic", slice(1, None)), ("acoustic", slice(0, 1))):
        made = split()
        before = made.encode(x)
        zeroed(getattr(made, name))
        after = made.encode(x)
        assert torch.equal(after[..., kept], before[..., kept]) and not torch.equal(after, before)


def test_outputs_of_the_branches_are_summed_and_codes_are_nested() -> None:
    made, (x, mask) = split(), frames(seed=9)
    found, ids = made(x, mask), made.encode(x)
    assert ids.shape[-1] == made.codebooks == K and torch.equal(found.ids[mask], ids[mask])
    both = made.semantic.decode(ids[..., :1]) + made.acoustic.decode(ids[..., 1:])
    torch.testing.assert_close(made.decode(ids), both)
    torch.testing.assert_close(found.vectors[mask], both[mask])
    torch.testing.assert_close(made.decode(ids[..., :1]), made.semantic.decode(ids[..., :1]))
    assert torch.equal(made.encode(x, 3), ids[..., :3]) and torch.equal(made.encode(x, 1), ids[..., :1])
    with pytest.raises(ValueError, match="1 to 5 codebooks"):
        made.encode(x, 6)
    losses = [float(branch(x, mask, None).loss.detach()) for branch in (made.semantic, made.acoustic)]
    assert float(found.loss.detach()) == pytest.approx((losses[0] + (K - 1) * losses[1]) / K, rel=1e-5)


def test_distillation_is_one_less_the_cosine_and_teaches_the_semantic_branch_alone() -> None:
    made, (x, mask) = split(teacher=7), frames(seed=9)
    assert made.teacher is not None
    said = made.semantic(x, mask, None).vectors
    assert float(made(x, mask).distillation) == 0
    for factor, wanted in ((3.0, 0.0), (-0.5, 2.0)):
        found = made(x, mask, target=factor * made.teacher(said))
        assert float(found.distillation.detach()) == pytest.approx(wanted, abs=1e-5)
    target = torch.randn(4, 40, 7, generator=rng(3))
    found = made(x, mask, target=target)
    cosine = F.cosine_similarity(made.teacher(said)[mask], target[mask], dim=-1)
    assert float(found.distillation.detach()) == pytest.approx(1 - float(cosine.mean().detach()), rel=1e-5)
    found.distillation.backward()
    heard = {name for name, p in made.named_parameters() if p.grad is not None and p.grad.any()}
    assert heard == {"teacher.weight", "teacher.bias", "semantic.into.weight", "semantic.out.weight"}
    with pytest.raises(ValueError, match="no teacher"):
        split()(x, mask, target=target)


def test_a_share_of_the_items_passes_unquantised_in_training_alone() -> None:
    made, (x, mask) = split(plain=0.5), frames(batch=200)
    found = made.train()(x, mask, rng(1))
    plain = (found.vectors == x).flatten(1).all(1)
    assert 70 < int(plain.sum()) < 130
    assert not (made.eval()(x, mask, rng(1)).vectors == x).flatten(1).all(1).any()


def test_equal_widths_need_no_maps() -> None:
    made = SplitResidualQuantiser(D, ResidualQuantiser(D, 1, N), ResidualQuantiser(D, 1, N))
    assert not list(made.parameters())
