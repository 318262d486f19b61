"""Classifier-free guidance: values, cost, and what the network is shown."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flowtts.solve.guidance import GuidedField, GuidedMap, Network, alpha_of, guided, scale_of
from flowtts.solve.integrate import solve
from flowtts.solve.strength import SHAPES, Guidance
from flowtts.types import Condition, Sampling, UserError

B, T, C = 3, 5, 4


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def condition(batch: int = B) -> Condition:
    known = torch.arange(T).expand(batch, T) < 2
    return Condition(
        text=torch.arange(batch * T).reshape(batch, T),
        prompt=randn(batch, T, C) * known[..., None],
        known=known,
        mask=torch.arange(T).expand(batch, T) < torch.tensor([T, T - 1, T - 2])[:batch, None],
        keep=torch.ones(batch, dtype=torch.bool),
    )


class Net:
    """Depends on everything it is given, and remembers it."""

    def __init__(self, uses_condition: bool = True) -> None:
        self.uses_condition = uses_condition
        self.calls: list[tuple[Tensor, Tensor, Condition]] = []

    def __call__(self, x: Tensor, t: Tensor, cond: Condition) -> Tensor:
        self.calls.append((x, t, cond))
        keep = cond.keep[:, None, None] & self.uses_condition
        told = torch.sin(cond.text.float())[..., None] + cond.prompt + cond.known[..., None]
        return torch.tanh(x * (1 + t[:, None, None])) * cond.mask[..., None] + torch.where(keep, told, 0.0)

    def without_text(self, cond: Condition) -> Condition:
        return replace(cond, text=torch.zeros_like(cond.text))


class Prepared:
    """A network with its condition, which gives its results away; k branches of x at a time."""

    def __init__(self, cond: Condition) -> None:
        self.cond = cond

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        assert t.shape == () and t.dtype == torch.float64
        times = len(self.cond.keep) // len(x)
        return Net()(x.repeat(times, 1, 1), t.to(x.dtype).expand(times * len(x)), self.cond)


class Preparable(Net):
    """A network that counts how often it is prepared, and for what."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[list[bool]] = []

    def prepare(self, cond: Condition) -> Prepared:
        self.prepared.append(cond.keep.tolist())
        return Prepared(cond)


X, AT = randn(B, T, C), torch.tensor(0.3, dtype=torch.float64)
TIMES = AT.float().expand(B)
COND = Net()(X, TIMES, condition())
VOICE = Net()(X, TIMES, Net().without_text(condition()))
NULL = Net()(X, TIMES, condition().null())


def test_scale_one_is_the_conditional_network_bit_for_bit_in_one_call() -> None:
    network = Net()
    field = guided(network, condition(), 1.0)
    assert torch.equal(field(AT, X), COND)
    assert field.calls(0.3) == 1
    ((x, t, cond),) = network.calls
    assert x.shape == (B, T, C) and t.shape == (B,) and cond.keep.all()


def test_scale_zero_is_the_unconditional_network_bit_for_bit_in_one_call() -> None:
    network = Net()
    field = guided(network, condition(), 0.0)
    assert torch.equal(field(AT, X), NULL)
    assert field.calls(0.3) == 1
    ((x, _, cond),) = network.calls
    assert x.shape == (B, T, C) and not cond.keep.any()


def test_both_branches_run_as_one_batch_whose_condition_is_built_once() -> None:
    network = Net()
    field = guided(network, condition(), 1.7)
    field(AT, X), field(AT, X)
    assert field.calls(0.3) == 2 and len(network.calls) == 2
    (x, t, first), (_, _, second) = network.calls
    assert first is second
    assert torch.equal(x, torch.cat((X, X))) and torch.equal(t, AT.float().expand(2 * B))
    assert first.keep.tolist() == [True] * B + [False] * B
    for half in (slice(0, B), slice(B, None)):
        for name in ("text", "prompt", "known", "mask"):
            assert torch.equal(getattr(first, name)[half], getattr(condition(), name))


@pytest.mark.parametrize("scale", [2.0, 1.7, 0.5, -1.0, 6.0])
def test_value(scale: float) -> None:
    assert (COND - NULL).abs().max() > 0.5
    torch.testing.assert_close(guided(Net(), condition(), scale)(AT, X), NULL + scale * (COND - NULL))


def test_linear_in_scale() -> None:
    at = {g: guided(Net(), condition(), g)(AT, X) for g in (-1.0, 0.0, 0.5, 1.0, 2.0, 3.0)}
    torch.testing.assert_close(at[3.0] - at[2.0], at[1.0] - at[0.0])
    torch.testing.assert_close(at[2.0] + at[-1.0], at[1.0] + at[0.0])
    torch.testing.assert_close(2 * at[0.5], at[1.0] + at[0.0])


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0, 2.5])
def test_scale_is_one_plus_alpha(alpha: float) -> None:
    voicebox = (1 + alpha) * COND - alpha * NULL
    torch.testing.assert_close(guided(Net(), condition(), scale_of(alpha))(AT, X), voicebox)
    f5 = COND + (COND - NULL) * alpha
    torch.testing.assert_close(voicebox, f5)
    assert alpha_of(scale_of(alpha)) == pytest.approx(alpha)


@pytest.mark.parametrize("scale", [0.3, 1.7, 5.0])
def test_nothing_changes_where_the_branches_agree(scale: float) -> None:
    deaf = Net(uses_condition=False)
    assert torch.equal(guided(deaf, condition(), scale)(AT, X), deaf(X, TIMES, condition()))


@pytest.mark.parametrize(("scale", "calls"), [(0.0, 16), (1.0, 16), (1.7, 32)])
def test_solve_reports_evaluations_and_network_calls(scale: float, calls: int) -> None:
    solution = solve(guided(Net(), condition(), scale), X, Sampling(solver="midpoint", steps=8))
    assert (solution.nfe, solution.network_calls) == (16, calls)


def test_adaptive_solvers_report_both_too() -> None:
    network = Net()
    solution = solve(guided(network, condition(), 1.7), X, Sampling(solver="dopri5:1e-3"))
    assert solution.nfe == len(network.calls) and solution.network_calls == 2 * solution.nfe


def test_items_do_not_see_their_batch() -> None:
    how, whole = Sampling(solver="heun", steps=4), condition()
    together = solve(guided(Net(), whole, 2.0), X, how).x
    for i in range(B):
        names = ("text", "prompt", "known", "mask", "keep")
        one = Condition(*(getattr(whole, name)[i : i + 1] for name in names))
        alone = solve(guided(Net(), one, 2.0), X[i : i + 1], how).x
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(scale: float) -> None:
    with pytest.raises(UserError, match="finite"):
        guided(Net(), condition(), scale)


def at(
    guidance: Guidance | float | str, t: float = 0.3, network: Net | None = None, weak: Network | None = None
) -> Tensor:
    field = guided(network or Net(), condition(), guidance, weak)
    return field(torch.tensor(t, dtype=torch.float64), X)


def branches(t: float) -> tuple[Tensor, Tensor]:
    """The conditional and the null velocity at t."""
    times = torch.tensor(t).expand(B)
    return Net()(X, times, condition()), Net()(X, times, condition().null())


# --- spelling


SPELLINGS = [
    "1.3", "0", "2,interval=0.1:0.9", "2,schedule=linear,rescale=0.7", "1.5,text=3,voice=1", "2.25,star,zero=0.04",
    "1.7,text=0.1,interval=0.25:1,schedule=cosine,rescale=1,star,zero=0.125,weak=early",
    "0.1,voice=0.30000000000000004",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_round_trip(spelling: str) -> None:
    parsed = Guidance.parse(spelling)
    assert str(parsed) == spelling
    assert Guidance.parse(str(parsed)) == parsed == Guidance.parse(parsed.spelled)
    assert Guidance.parse(f" {spelling.replace(',', ' , ')} ") == parsed


def test_spelling_means_what_it_says() -> None:
    assert Guidance.parse("2,interval=0.1:0.9,rescale=0.7,schedule=linear") == Guidance(
        2.0, interval=(0.1, 0.9), rescale=0.7, schedule="linear"
    )
    assert Guidance.parse(1.3) == Guidance.parse("1.3") == Guidance(1.3)
    assert Guidance.parse("2").spelled == 2.0 and Guidance.parse("2,star").spelled == "2,star"


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("", "'' is not a number"),
        ("fast", "'fast' is not a number"),
        ("star", "'star' is not a number"),
        ("2,", "unknown guidance part ''"),
        ("2,intervall=0:1", "did you mean 'interval'"),
        ("2,3", "unknown guidance part '3'"),
        ("2,star=1", "write star"),
        ("2,rescale", "write rescale=VALUE"),
        ("2,rescale=0.5,rescale=0.7", "rescale is given twice"),
        ("2,rescale=1.1", "rescale is from 0 to 1"),
        ("2,rescale=nan", "rescale is from 0 to 1"),
        ("2,interval=0.5", "'' is not a number"),
        ("2,interval=0.9:0.1", "0.9:0.1"),
        ("2,interval=-1:1", "-1:1"),
        ("2,interval=0:nan", "0:nan"),
        ("2,schedule=liner", "did you mean 'linear'"),
        ("2,zero=1", "less than 1"),
        ("2,zero=-0.1", "not -0.1"),
        ("2,text=inf", "finite"),
        ("2,weak=", "name of a model"),
        ("nan", "finite"),
    ],
)
def test_nonsense_is_refused_in_one_line(spelling: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        guided(Net(), condition(), spelling)
    assert "\n" not in str(caught.value)


# --- when


def test_outside_the_interval_only_the_conditional_network_runs() -> None:
    network = Net()
    field = guided(network, condition(), "2,interval=0.25:0.75")
    for t, guides in ((0.0, False), (0.249, False), (0.25, True), (0.75, True), (0.751, False), (1.0, False)):
        network.calls.clear()
        cond, null = branches(t)
        made = field(torch.tensor(t, dtype=torch.float64), X)
        assert field.calls(t) == 1 + guides and [len(call[0]) for call in network.calls] == [B * (1 + guides)]
        torch.testing.assert_close(made, 2 * cond - null) if guides else torch.testing.assert_close(made, cond)
        assert guides or torch.equal(made, cond)


def test_schedules_are_their_closed_forms_and_mean_the_same_scale() -> None:
    closed = {
        "constant": lambda t: 1.0, "linear": lambda t: 2 * t, "cosine": lambda t: 1 - math.cos(math.pi * t),
        "falling": lambda t: 2 - 2 * t, "hill": lambda t: 2 - 4 * abs(t - 0.5), "valley": lambda t: 4 * abs(t - 0.5),
    }  # fmt: skip
    assert set(closed) == set(SHAPES)
    for name, shape in closed.items():
        midpoints = [(i + 0.5) / 1000 for i in range(1000)]
        assert sum(map(SHAPES[name], midpoints)) / 1000 == pytest.approx(1, abs=1e-9)
        for t in (0.0, 0.3, 0.5, 0.9, 1.0):
            cond, null = branches(t)
            g = 1 + shape(t) * 0.7
            assert Guidance(1.7, schedule=name).at(t) == pytest.approx((g, g))
            torch.testing.assert_close(at(f"1.7,schedule={name}", t), null + g * (cond - null))
    assert guided(Net(), condition(), "1.7,schedule=linear").calls(0.0) == 1


@pytest.mark.parametrize("t", [0.0, 0.049])
def test_zero_init_stands_still_and_costs_nothing(t: float) -> None:
    network = Net()
    field = guided(network, condition(), "2,zero=0.05")
    assert torch.equal(field(torch.tensor(t, dtype=torch.float64), X), torch.zeros_like(X))
    assert not network.calls and field.calls(t) == 0 and field.calls(0.05) == 2


def test_zero_init_skips_the_first_steps_of_a_solver() -> None:
    network = Net()
    field = guided(network, condition(), "2,zero=0.25")
    x = solve(field, X, Sampling(solver="euler", steps=8)).x
    assert len(network.calls) == 6
    rest, plain = X, guided(Net(), condition(), 2.0)
    for i in range(2, 8):
        rest = rest + plain(torch.tensor(i / 8, dtype=torch.float64), rest) / 8
    torch.testing.assert_close(x, rest)


# --- how


def test_text_and_voice_are_guided_apart_in_one_batch_of_three() -> None:
    network = Net()
    field = guided(network, condition(), "1,text=3,voice=1.5")
    made = field(AT, X)
    torch.testing.assert_close(made, NULL + 1.5 * (VOICE - NULL) + 3 * (COND - VOICE))
    ((x, _, cond),) = network.calls
    assert len(x) == 3 * B and field.calls(0.3) == 3
    assert cond.keep.tolist() == [True] * 2 * B + [False] * B
    assert not cond.text[B : 2 * B].any() and torch.equal(cond.prompt[B : 2 * B], cond.prompt[:B])


@pytest.mark.parametrize(
    ("spelling", "calls", "wanted"),
    [
        ("1,text=2,voice=2", 2, 2 * COND - NULL),
        ("2,text=3,voice=1", 2, 3 * COND - 2 * VOICE),
        ("1,text=0,voice=2", 2, 2 * VOICE - NULL),
        ("1,text=0", 1, VOICE),
        ("5,text=0,voice=0", 1, NULL),
        ("5,text=1,voice=1", 1, COND),
    ],
)
def test_branches_that_do_not_count_are_not_run(spelling: str, calls: int, wanted: Tensor) -> None:
    field = guided(Net(), condition(), spelling)
    assert field.calls(0.3) == calls
    torch.testing.assert_close(field(AT, X), wanted)


def test_equal_branches_cancel_exactly_in_three_ways_too() -> None:
    deaf = Net(uses_condition=False)
    assert torch.equal(at("1,text=3,voice=1.7", network=deaf), deaf(X, TIMES, condition()))


def test_a_network_that_cannot_drop_its_text_alone_refuses_to() -> None:
    with pytest.raises(UserError, match="cannot tell text from voice"):
        guided(lambda x, t, cond: x, condition(), "2,text=3")


@pytest.mark.parametrize("phi", [0.3, 0.7, 1.0])
def test_rescale_takes_the_deviation_of_real_frames_back(phi: float) -> None:
    made, plain = at(f"3,rescale={phi}"), at(3.0)
    for i in range(B):
        real = condition().mask[i]
        wanted, found = COND[i][real].std(correction=0), plain[i][real].std(correction=0)
        torch.testing.assert_close(made[i], plain[i] * (phi * wanted / found + 1 - phi))
        assert phi < 1 or made[i][real].std(correction=0) == pytest.approx(float(wanted), rel=1e-5)
    assert not torch.allclose(made, plain)


def test_star_projects_the_null_velocity_of_every_item() -> None:
    made = at("3,star")
    for i in range(B):
        real = condition().mask[i]
        full, null = COND[i][real], NULL[i][real]
        scale = (full * null).sum() / (null * null).sum()
        torch.testing.assert_close(made[i], scale * NULL[i] + 3 * (COND[i] - scale * NULL[i]))
    assert torch.equal(at("1,star"), COND) and torch.equal(at("0,star"), NULL)


def test_star_and_rescale_survive_a_null_velocity_of_nothing() -> None:
    nothing = guided(lambda x, t, cond: torch.zeros_like(x), condition(), "3,star,rescale=1")
    assert torch.equal(nothing(AT, X), torch.zeros_like(X))


@pytest.mark.parametrize("how", ["3,rescale=0.7", "3,star", "3,star,rescale=1", "1,text=3,voice=2,star,rescale=0.5"])
def test_refinements_see_neither_padding_nor_company(how: str) -> None:
    whole, real = condition(), condition().mask

    class Leaky(Net):
        """Puts anything on padding."""

        junk = 0.0

        def __call__(self, x: Tensor, t: Tensor, cond: Condition) -> Tensor:
            return torch.where(cond.mask[..., None], super().__call__(x, t, cond), self.junk)

    network = Leaky()
    clean = guided(network, whole, how)(AT, X)
    for junk in (1e4, float("nan")):
        network.junk = junk
        assert torch.equal(guided(network, whole, how)(AT, X)[real], clean[real])
    for i, frames in enumerate(real.sum(1).tolist()):
        names = ("text", "prompt", "known", "mask")
        one = Condition(*(getattr(whole, name)[i : i + 1, :frames] for name in names), keep=whole.keep[i : i + 1])
        alone = guided(Net(), one, how)(AT, X[i : i + 1, :frames])
        torch.testing.assert_close(alone[0], clean[i, :frames], rtol=1e-5, atol=1e-5)


def test_a_weaker_model_takes_the_place_of_the_null_condition() -> None:
    strong, seen = Net(), []

    def weak(x: Tensor, t: Tensor, cond: Condition) -> Tensor:
        seen.append(cond)
        return 0.5 * x

    field = guided(strong, condition(), 2.5, weak)
    torch.testing.assert_close(field(AT, X), 0.5 * X + 2.5 * (COND - 0.5 * X))
    assert field.calls(0.3) == 2 and len(strong.calls) == len(seen) == 1
    assert seen[0].keep.all() and len(strong.calls[0][0]) == B
    assert torch.equal(guided(strong, condition(), 1.0, weak)(AT, X), COND) and len(seen) == 1
    assert torch.equal(guided(strong, condition(), 0.0, weak)(AT, X), 0.5 * X) and len(strong.calls) == 2


def test_a_weaker_model_must_be_there_and_does_not_separate() -> None:
    with pytest.raises(UserError, match="leave out weak=small"):
        guided(Net(), condition(), "2,weak=small")
    with pytest.raises(UserError, match="separately"):
        guided(Net(), condition(), "2,text=3", Net())


# --- prepared networks


HOWS = [
    "0", "1", "1.7", "3,star,rescale=0.7", "1,text=3,voice=1.5", "1,text=2.5,voice=0.5,star,rescale=1",
    "2,text=3,voice=1",
]  # fmt: skip


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("learning", [False, True])
def test_prepared_networks_give_what_plain_ones_do(how: str, learning: bool) -> None:
    with torch.set_grad_enabled(learning):
        assert torch.equal(at(how, network=Preparable()), at(how))


def test_a_network_is_prepared_once_for_what_is_needed() -> None:
    network = Preparable()
    field = guided(network, condition(), "2,interval=0.25:0.75")
    both, alone = [True] * B + [False] * B, [True] * B
    assert network.prepared == [both]
    for t in (0.0, 0.3, 0.5, 0.9, 1.0):
        field(torch.tensor(t, dtype=torch.float64), X)
    assert network.prepared == [both, alone]
    plain = Preparable()
    guided(plain, condition(), 1.0)(AT, X)
    assert plain.prepared == [alone]


def test_results_of_plain_networks_are_not_written_into() -> None:
    kept = randn(2 * B, T, C)
    before = kept.clone()
    with torch.no_grad():
        guided(lambda x, t, cond: kept, condition(), "3,star,rescale=0.7")(AT, X)
    assert torch.equal(kept, before)


@pytest.mark.parametrize("how", HOWS)
def test_guided_fields_are_differentiable(how: str) -> None:
    x = X.double().requires_grad_()
    cond = replace(condition(), prompt=condition().prompt.double())
    assert torch.autograd.gradcheck(lambda x: guided(Net(), cond, how)(AT, x), (x,))


def test_few_step_models_keep_their_average() -> None:
    class Map(Prepared):
        def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
            return self(t, x) * s

    class Mapping(Net):
        def prepare(self, cond: Condition) -> Map:
            return Map(cond)

    plain, two = guided(Mapping(), condition(), 1.0), guided(Mapping(), condition(), 2.0)
    assert isinstance(plain, GuidedMap) and isinstance(two, GuidedMap)
    later = torch.tensor(0.5, dtype=torch.float64)
    torch.testing.assert_close(plain.average(AT, later, X), 0.5 * COND)
    torch.testing.assert_close(two.average(AT, later, X), 0.5 * (2 * COND - NULL))
    assert type(guided(Preparable(), condition(), 1.0)) is GuidedField
