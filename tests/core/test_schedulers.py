"""The schedulers of diffusers: they agree with ours where they are the same method, and converge where not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from solving import Gaussian, order, rng

from flowtts.path import CondOT, Cosine, Schedule, VariancePreserving
from flowtts.solve import solve
from flowtts.solve.schedulers import DIFFUSERS
from flowtts.types import Sampling, UserError

pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its use of numpy

NOISY = [name for name, solver in DIFFUSERS.items() if solver.noisy]
SMOOTH = [name for name, solver in DIFFUSERS.items() if not solver.noisy]
INSIDE, TO_DATA = (0.02, 0.98), (0.0, 1.0)


def ends(field: Gaussian, solver: str, span: tuple[float, float], steps: int, grid: str = "uniform") -> torch.Tensor:
    x0 = field.start(2, 50, 1, t=span[0])
    how = Sampling(solver=solver, grid=grid, steps=steps)
    with torch.inference_mode():
        return solve(field, x0, how, span, schedule=field.schedule, rng=rng(3)).x


@pytest.mark.parametrize("grid", ["uniform", "sway", "cosine"])
def test_its_flow_euler_is_ours(grid: str) -> None:
    for schedule in (CondOT(0.0), CondOT()):
        theirs, ours = (ends(Gaussian(schedule), s, TO_DATA, 9, grid) for s in ("diffusers-flow-euler", "euler"))
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5 if schedule == CondOT(0.0) else 1e-4)


@pytest.mark.parametrize("steps", [1, 2, 8, 20])
@pytest.mark.parametrize("schedule", [VariancePreserving(), Cosine(), CondOT()])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("ddim", "ddim"), ("euler", "ddim"), ("edm-euler", "ddim"), ("dpm", "dpm++2m"), ("edm-dpm", "dpm++2m")],
)
def test_the_same_method_gives_the_same_result(theirs: str, ours: str, schedule: Schedule, steps: int) -> None:
    field = Gaussian(schedule)
    for grid in ("uniform", "sway"):
        one, other = (ends(field, s, INSIDE, steps, grid) for s in (f"diffusers-{theirs}", ours))
        torch.testing.assert_close(one, other, rtol=0, atol=5e-5)


@pytest.mark.parametrize(("theirs", "ours"), [("ddpm", "ddpm"), ("dpm-sde", "sde-dpm++2m")])
def test_the_same_noise_gives_the_same_sample(theirs: str, ours: str) -> None:
    # In float32, the precision in which they draw.
    field = Gaussian(VariancePreserving())
    x0, how = field.start(2, 50, 1, t=INSIDE[0]).float(), Sampling(solver=ours, steps=8)
    with torch.inference_mode():
        one, other = (
            solve(field, x0, replace(how, solver=s), INSIDE, schedule=field.schedule, rng=rng(3)).x
            for s in (f"diffusers-{theirs}", ours)
        )
    torch.testing.assert_close(one, other, rtol=0, atol=2e-4)


@pytest.mark.parametrize("solver", SMOOTH)
def test_deterministic_schedulers_converge(solver: str) -> None:
    # From data that is already there, so that no start is cut off at a largest noise level.
    field, steps = Gaussian(CondOT()), [8, 16, 32]
    errors = [field.error(solver, n, (0.02, 1.0)) for n in steps]
    assert errors[-1] < 0.1
    assert order(steps, errors) > 0.8


@pytest.mark.parametrize("solver", [*SMOOTH, *NOISY])
def test_a_flow_from_pure_noise_to_pure_data(solver: str) -> None:
    field = Gaussian(CondOT())
    x0 = field.start(2, 1000, 1)
    with torch.inference_mode():
        x = solve(field, x0, Sampling(solver=solver, grid="cosine", steps=48), rng=rng()).x
    assert float(x.mean()) == pytest.approx(1.3, abs=0.05)
    assert float(x.std()) == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize("solver", [*SMOOTH, *NOISY])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_stay_finite(solver: str, steps: int) -> None:
    field = Gaussian(CondOT())
    assert ends(field, solver, TO_DATA, steps).isfinite().all()


def test_without_diffusers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 'flowtts\[diffusers\]'"):
        ends(Gaussian(), "diffusers-unipc", TO_DATA, 4)
