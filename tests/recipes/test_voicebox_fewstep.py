"""Few-step students: their targets against closed forms, their beginning at the teacher, and that they learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_voicebox import TINY_MEL, condition, make_batch
from torch import Tensor

from flowtts.mask import masked_mean
from flowtts.nn import TransformerConfig
from flowtts.recipes.voicebox import AudioConfig, AudioModel
from flowtts.recipes.voicebox.fewstep import FewStepConfig, FewStepModel
from flowtts.solve import guided, solve
from flowtts.types import Batch, Condition, Sampling

BODY = TransformerConfig(layers=2, heads=2, width=32, ffn=64, position_kernel=5, position_groups=4, dropout=0.0)
CONFIG = AudioConfig(body=BODY, mel=TINY_MEL, symbols=20, text_width=8, frames_per_token=2)
AT = torch.tensor(0.25, dtype=torch.float64)


def teacher() -> AudioModel:
    torch.manual_seed(0)
    return AudioModel(CONFIG).eval()


def student(**how: object) -> FewStepModel:
    return FewStepModel(replace(CONFIG, average=True), teacher(), replace(FewStepConfig(), **how))  # type: ignore[arg-type]


def test_a_student_begins_as_its_teacher_whatever_the_step() -> None:
    batch = make_batch([20, 13])
    cond, x = condition(batch), torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(1))
    model = student()
    with torch.no_grad():
        wanted = teacher()(x, torch.full((2,), 0.25), cond)
        for s in (0.25, 0.5, 1.0):
            assert torch.equal(model(x, torch.full((2,), 0.25), cond, torch.full((2,), s)), wanted)


def test_the_prepared_model_knows_the_end_of_the_step() -> None:
    batch = make_batch([20, 13])
    cond, x = condition(batch), torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(1))
    model = student()
    assert model.stride is not None
    torch.nn.init.normal_(model.stride.weight, std=0.1)
    s = torch.tensor(0.75, dtype=torch.float64)
    with torch.no_grad():
        whole = model(x, torch.full((2,), 0.25), cond, torch.full((2,), 0.75)) * cond.mask[..., None]
        prepared = model.prepare(cond).average(AT, s, x) * cond.mask[..., None]
        instant = model.prepare(cond)(AT, x) * cond.mask[..., None]
    torch.testing.assert_close(prepared, whole, atol=2e-6, rtol=0)
    assert float((instant - whole).abs().max()) > 1e-3


def test_the_teacher_is_neither_trained_nor_saved() -> None:
    model = student()
    assert {name for name, _ in model.named_parameters()} == {*teacher().state_dict(), "stride.weight", "stride.bias"}
    model.loss(make_batch([20, 12]), torch.Generator().manual_seed(0))["loss"].backward()
    assert all(parameter.grad is None for parameter in model.teacher(torch.device("cpu")).parameters())
    assert model.project.weight.grad is not None and bool(model.project.weight.grad.abs().sum() > 0)


@pytest.mark.parametrize("method", ["trajectory", "meanflow", "reflow"])
def test_the_loss_is_a_function_of_the_generator(method: str) -> None:
    model, batch = student(method=method), make_batch([20, 12])
    losses = [model.loss(batch, torch.Generator().manual_seed(seed))["loss"].item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("method", ["trajectory", "meanflow", "reflow"])
def test_what_lies_on_padding_does_not_matter(method: str) -> None:
    model, batch = student(method=method), make_batch([20, 12])
    dirty = replace(batch, features=batch.features.clone())
    dirty.features[1, 12:] = 99.0
    clean, spoiled = (model.loss(b, torch.Generator().manual_seed(0))["loss"] for b in (batch, dirty))
    assert float(clean) == pytest.approx(float(spoiled), rel=1e-5)


def test_pairs_are_dyadic_and_begin_where_the_trajectory_does() -> None:
    model = student(steps=8)
    rng = torch.Generator().manual_seed(0)
    begins = [model._begin(rng) for _ in range(400)]
    assert 0.3 < begins.count(0) / 400 < 0.7 and max(begins) <= 7 and min(begins) == 0
    seen = set()
    for begin in begins:
        first, last = model._pair(begin, rng)
        stride = last - first
        assert begin <= first <= last <= 8
        assert stride in (0, 1, 2, 4, 8) and (stride == 0 or first % stride == 0)
        seen.add((first, last))
    assert {(0, 8), (0, 4), (4, 8), (2, 4), (6, 8), (7, 8)} <= seen


def test_a_students_own_state_is_where_its_steps_lead() -> None:
    model, batch = student(steps=8), make_batch([20, 13])
    cond = condition(batch)
    assert model.stride is not None
    torch.nn.init.normal_(model.stride.weight, std=0.1)
    x0 = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(1)) * cond.mask[..., None]
    with torch.no_grad():
        own = model._own(cond, x0, 6)
        stepped = solve(guided(model, cond, 1.0), x0, Sampling("flowmap", steps=3), span=(0.0, 0.75)).x
    torch.testing.assert_close(own * cond.mask[..., None], stepped * cond.mask[..., None], atol=1e-5, rtol=0)


class Swinging(FewStepModel):
    """A student of the exact mean velocity of x' = x cos t, so that every identity must hold for it."""

    def forward(self, x: Tensor, t: Tensor, cond: Condition, s: Tensor | None = None) -> Tensor:
        del cond
        end = t if s is None else s
        apart = (end - t).clamp(min=1e-6)
        mean = torch.expm1(torch.sin(end) - torch.sin(t)) / apart
        return x * torch.where(end - t > 1e-6, mean, torch.cos(t))[:, None, None]


@pytest.mark.parametrize(("difference", "tolerance"), [(0.0, 1e-3), (0.005, 2e-3)])
def test_the_mean_flow_identity_holds_for_the_exact_mean_velocity(difference: float, tolerance: float) -> None:
    model = Swinging(replace(CONFIG, average=True), teacher(), FewStepConfig(difference=difference))
    cond = condition(make_batch([20, 20, 20]))
    x = torch.randn(3, 20, 8, generator=torch.Generator().manual_seed(1))
    t, s = torch.tensor([0.1, 0.3, 0.5]), torch.tensor([0.9, 0.5, 1.0])
    v = x * torch.cos(t)[:, None, None]
    change = model._change(cond, x, t, s, v)
    target = v + (s - t)[:, None, None] * change
    torch.testing.assert_close(target, model(x, t, cond, s), atol=tolerance, rtol=tolerance)


class OneQuestion(FewStepModel):
    """Always asked the same, to be overfitted."""

    def question(self, batch: Batch, rng: torch.Generator) -> tuple[Condition, Tensor, Tensor]:
        del rng
        return super().question(batch, torch.Generator().manual_seed(5))


def distance(model: FewStepModel, batch: Batch, steps: int) -> float:
    cond, unknown, x0 = model.question(batch, torch.Generator())
    wanted = solve(guided(model.teacher(x0.device), cond, model.how.guidance), x0, Sampling("midpoint", steps=8)).x
    made = solve(guided(model, cond, 1.0), x0, Sampling("flowmap", steps=steps)).x
    return float(masked_mean((made - wanted).abs(), unknown))


@pytest.mark.parametrize(("method", "share"), [("trajectory", 0.4), ("reflow", 0.8)])
def test_a_student_of_one_question_ends_where_its_teacher_does(method: str, share: float) -> None:
    how = FewStepConfig(method=method, guidance=3.0, pairs=4)  # type: ignore[arg-type]
    model, batch = OneQuestion(replace(CONFIG, average=True), teacher(), how), make_batch([20, 16])
    with torch.no_grad():
        before = distance(model, batch, 2)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(150):
        optimiser.zero_grad()
        model.loss(batch, rng)["loss"].backward()
        optimiser.step()
    with torch.no_grad():
        assert distance(model, batch, 2) < share * before


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        FewStepConfig(steps=6)
    with pytest.raises(ValueError, match="pairs"):
        FewStepConfig(pairs=0)
    with pytest.raises(ValueError, match="temperature_low"):
        FewStepConfig(temperature_low=0.9, temperature_high=0.8)
