"""What every solver owes: its cost, the same result in any company, no side effects, one loop without allocations."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Sequence

import pytest
import torch
from solving import Gaussian, noise, rng
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flowtts.path import CondOT, Cosine
from flowtts.solve import SOLVERS, TABLEAUX, FlowMap, Rng, Solution, solve
from flowtts.solve.adaptive import Adaptive
from flowtts.solve.schedulers import DIFFUSERS, Scheduled
from flowtts.types import Sampling, UserError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' use of numpy

OWN = [name for name in SOLVERS if name not in DIFFUSERS]
INSTALLED = OWN + (list(DIFFUSERS) if importlib.util.find_spec("diffusers") else [])
STOCHASTIC = ["ddpm", "ddim:0.5", "sde-dpm++1", "sde-dpm++2m", "euler-maruyama"]
FORWARD_ONLY = [*STOCHASTIC, *(name for name in INSTALLED if name in DIFFUSERS)]
STEPPING = [name for name in OWN if not isinstance(SOLVERS[name], Adaptive)]


def run(
    solver: str, x0: Tensor, steps: int = 6, draw: Rng | int = 7, span: tuple[float, float] = (0.0, 1.0)
) -> Solution:
    seeded = rng(draw) if isinstance(draw, int) else draw
    if isinstance(SOLVERS.get(solver), Adaptive):
        solver += ":1e-3"
    return solve(Gaussian(), x0, Sampling(solver=solver, grid="sway:-0.5", steps=steps), span, rng=seeded)


@pytest.mark.parametrize("solver", INSTALLED)
def test_evaluations_are_counted_and_as_many_as_promised(solver: str) -> None:
    seen: list[float] = []

    @dataclasses.dataclass(frozen=True)
    class Counted(Gaussian):
        def calls(self, t: float) -> int:
            return 2 if t > 0.5 else 1

        def __call__(self, t: Tensor, x: Tensor) -> Tensor:
            assert t.shape == () and t.dtype == torch.float64 and t.device.type == "cpu"
            seen.append(float(t))
            return super().__call__(t, x)

        def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
            assert t.shape == s.shape == () and s.dtype == torch.float64 and float(s) > float(t)
            seen.append(float(t))
            return super().average(t, s, x)

    with torch.inference_mode():
        solution = solve(Counted(), noise(2, 3, 4), Sampling(solver=solver, steps=5), rng=rng())
    special = {"ab2": 6, "ab3": 6, "diffusers-pndm": 6, **{f"diffusers-{n}": 9 for n in
               ("flow-heun", "heun", "kdpm2", "kdpm2-a")}}  # fmt: skip
    assert solution.nfe == len(seen)
    assert solution.network_calls == sum(2 if t > 0.5 else 1 for t in seen)
    assert min(seen) >= 0 and max(seen) <= 1
    if not isinstance(SOLVERS[solver], Adaptive):
        stages = len(TABLEAUX[solver].b) if solver in TABLEAUX else 1
        assert solution.nfe == special.get(solver, 5 * stages)


@pytest.mark.parametrize("solver", [*INSTALLED, "ddim:0.5"])
def test_an_item_is_the_same_alone_and_among_junk(solver: str) -> None:
    if solver.endswith("-batch"):
        pytest.skip("shares its steps among the items, and says so")
    x0 = noise(3, 7, 3, dtype=torch.float32)
    junk = torch.cat((x0[:1] * 40, x0, x0[1:2] - 9))
    for dtype in (torch.float32, torch.float64):
        with torch.inference_mode():
            together = run(solver, x0.to(dtype), draw=[rng(i) for i in range(3)]).x
            among = run(solver, junk.to(dtype), draw=[rng(i) for i in (8, 0, 1, 2, 9)]).x
            alone = torch.cat([run(solver, item[None].to(dtype), draw=[rng(i)]).x for i, item in enumerate(x0)])
        assert torch.equal(together, alone)
        assert torch.equal(among[1:4], alone)


@pytest.mark.parametrize("solver", [name for name in OWN if not isinstance(SOLVERS[name], Adaptive)])
def test_padding_does_not_change_an_item(solver: str) -> None:
    """Nor does it change its noise, if the item has a generator of its own."""
    x0 = noise(2, 7, 3, dtype=torch.float32)
    padded = torch.cat((x0, noise(2, 4, 3, dtype=torch.float32)), dim=1)
    with torch.inference_mode():
        short, long = (run(solver, x, draw=[rng(0), rng(1)]).x for x in (x0, padded))
    assert torch.equal(short, long[:, :7])


@pytest.mark.parametrize("solver", INSTALLED)
def test_deterministic_without_side_effects_and_equal_under_autograd(solver: str) -> None:
    x0 = noise(2, 7, 3, dtype=torch.float32)
    before = x0.clone()
    with torch.inference_mode():
        first, second = (run(solver, x0).x.clone() for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(x0, before)
    assert torch.equal(run(solver, x0).x, first)
    if isinstance(SOLVERS[solver], Scheduled) and not SOLVERS[solver].noisy:
        assert torch.equal(run(solver, x0, draw=8).x, first)


@pytest.mark.parametrize("solver", [*STOCHASTIC, *(name for name in INSTALLED if "-a" in name or "ddpm" in name)])
def test_noise_comes_from_the_given_generator_alone(solver: str) -> None:
    x0 = noise(2, 7, 3, dtype=torch.float32)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = run(solver, x0).x
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(run(solver, x0, draw=8).x, first)
    with pytest.raises(UserError, match=f"'{re.escape(solver.split(':')[0])}' draws noise but was given no rng"):
        run(solver, x0, draw=None)
    with pytest.raises(ValueError, match="1 generators for a batch of 2"):
        run(solver, x0, draw=[rng()])


@pytest.mark.parametrize("solver", [name for name in OWN if name not in STOCHASTIC])
def test_there_and_back(solver: str) -> None:
    how = solver if not isinstance(SOLVERS[solver], Adaptive) else f"{solver}:1e-5"
    x0 = noise(2, 5, 2)
    with torch.inference_mode():
        x1 = run(how, x0, 64).x
        back = run(how, x1, 64, span=(1.0, 0.0)).x
    assert (x1 - x0).abs().max() > 1
    assert (back - x0).abs().max() < (0.3 if solver in ("euler", "dpm++1", "dpm++2m", "ddim") else 5e-3)


@pytest.mark.parametrize("solver", FORWARD_ONLY)
def test_solvers_that_cannot_go_backwards_say_so(solver: str) -> None:
    with pytest.raises(UserError, match="cannot run from data to noise: invert with a deterministic solver"):
        run(solver, noise(1, 3, 2), span=(1.0, 0.0))


@pytest.mark.parametrize("solver", INSTALLED)
def test_a_field_of_another_shape_is_refused(solver: str) -> None:
    class Wrong:
        def __call__(self, t: Tensor, x: Tensor) -> Tensor:
            return x[..., :1]

        def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
            return x[..., :1]

    with pytest.raises(ValueError, match=r"returned \(1, 3, 1\) for x of \(1, 3, 4\)"):
        solve(Wrong(), noise(1, 3, 4), Sampling(solver=solver, steps=3), rng=rng())


@pytest.mark.parametrize("solver", OWN)
def test_a_field_may_return_one_buffer_again_and_again_or_its_argument(solver: str) -> None:
    x0 = noise(1, 5, 3)
    buffer = torch.empty_like(x0)

    class Static(Gaussian):
        def __call__(self, t: Tensor, x: Tensor) -> Tensor:
            return buffer.copy_(super().__call__(t, x))

        def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
            return buffer.copy_(super().average(t, s, x))

    class Itself(Gaussian):
        def __call__(self, t: Tensor, x: Tensor) -> Tensor:
            return x

        def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
            return x

    class Copy(Itself):
        def __call__(self, t: Tensor, x: Tensor) -> Tensor:
            return x.clone()

        def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
            return x.clone()

    how = Sampling(solver=solver, steps=5)
    with torch.inference_mode():
        for one, other in ((Static(), Gaussian()), (Itself(), Copy())):
            got, wanted = (solve(field, x0, how, rng=rng()).x for field in (one, other))
            assert torch.equal(got, wanted)


class _Allocations(TorchDispatchMode):
    """Counts operators that make a tensor as large as the state."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.made = size, 0

    def __torch_dispatch__(
        self, func: object, types: object, args: Sequence[object] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        assert isinstance(func, torch._ops.OpOverload)
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.numel() >= self.size and not func._schema.is_mutable and not func.is_view:
            self.made += 1
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("solver", STEPPING)
def test_the_loop_allocates_nothing(solver: str, dtype: torch.dtype) -> None:
    x0 = noise(1, 200, 40, dtype=dtype)
    velocity = torch.zeros_like(x0)

    class Still:
        def __call__(self, t: Tensor, x: Tensor) -> Tensor:
            return velocity

        def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
            return velocity

    made = []
    for steps in (4, 16):
        with torch.inference_mode(), _Allocations(x0.numel()) as counter:
            solve(Still(), x0, Sampling(solver=solver, steps=steps), rng=rng())
        made.append(counter.made)
    assert made[0] == made[1] < 10


@pytest.mark.parametrize("solver", [name for name in STEPPING if name not in STOCHASTIC])
def test_the_loop_never_reads_a_value_back(solver: str) -> None:
    """Tensors without values can be stepped along: nothing waits for the device, so a CUDA graph can hold it all."""

    class Scaled:
        def __call__(self, t: Tensor, x: Tensor) -> Tensor:
            return x * float(t)

        def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
            return x * float(s)

    with torch.inference_mode():
        end = solve(Scaled(), torch.empty(2, 5, 3, device="meta"), Sampling(solver=solver, steps=5)).x
    assert end.device.type == "meta" and end.shape == (2, 5, 3)


def test_a_flow_map_is_exact_in_one_step_and_others_are_refused() -> None:
    x0 = noise(2, 5, 1)
    assert isinstance(Gaussian(), FlowMap)
    for steps in (1, 4):
        torch.testing.assert_close(run("flowmap", x0, steps).x, Gaussian().flow(x0))
    with pytest.raises(UserError, match="'flowmap' needs a network that was distilled"):
        solve(lambda t, x: x, x0, Sampling(solver="flowmap"))


@pytest.mark.parametrize("spelling", ["rk4:3", "ab2:1", "dpm++2m:1", "ddpm:0", "flowmap:1", "diffusers-unipc:2"])
def test_a_parameter_where_there_is_none_is_refused(spelling: str) -> None:
    with pytest.raises(UserError, match="takes no parameter"):
        run(spelling, noise(1, 2, 1))


@pytest.mark.parametrize(("spelling", "message"), [("ddim:1.5", "eta from 0"), ("sde-dpm++2m:-1", "eta from 0"),
                                                   ("euler-maruyama:nan", "churn from 0")])  # fmt: skip
def test_a_parameter_out_of_range_is_refused(spelling: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(spelling, noise(1, 2, 1))


@pytest.mark.parametrize("schedule", [CondOT(), CondOT(0.0), Cosine()])
@pytest.mark.parametrize("solver", [name for name in STEPPING if name not in ("heun", "rk3", "rk4")])
def test_singular_ends_are_survived(solver: str, schedule: CondOT | Cosine) -> None:
    """Paths that start without data and end without noise: lambda runs from minus infinity to infinity."""
    field = Gaussian(schedule)
    with torch.inference_mode():
        x = solve(field, field.start(1, 2000, 1), Sampling(solver=solver, steps=48), schedule=schedule, rng=rng()).x
    assert float(x.mean()) == pytest.approx(1.3, abs=0.06)
    assert float(x.std()) == pytest.approx(0.4, abs=0.06)
