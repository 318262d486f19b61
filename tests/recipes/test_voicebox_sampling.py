"""Voicebox as it is sampled: the prepared network, batches, engines, fitted grids, a weaker model to guide with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from tiny_voicebox import TINY_MEL, condition, make_batch, tiny
from torch import Tensor

from flowtts.nn import TransformerConfig
from flowtts.recipes.voicebox import AudioConfig, AudioModel, DurationConfig, DurationModel, Voicebox
from flowtts.recipes.voicebox.recipe import Infilling
from flowtts.solve import FittedGrid, guided, solve
from flowtts.types import Condition, Phone, Sampling, UserError

SYMBOLS = tuple(f"p{index}" for index in range(20))
AT = torch.tensor(0.3, dtype=torch.float64)


def recipe(**changes: object) -> Voicebox:
    audio = tiny(frames_per_token=2, **changes)
    body = TransformerConfig(layers=2, heads=2, width=32, ffn=64, position_kernel=5, position_groups=4, dropout=0.0)
    torch.manual_seed(1)
    return Voicebox(audio, DurationModel(DurationConfig(body=body, symbols=20, text_width=8)), SYMBOLS)


def job(frames: int, seed: int) -> Infilling:
    rng = torch.Generator().manual_seed(seed)
    phones = tuple(Phone(SYMBOLS[1 + index % 19], 0, 0, 0) for index in range(frames // 3))
    durations = torch.full((len(phones),), 3)
    durations[-1] += frames - int(durations.sum())
    known = torch.arange(frames) < frames // 3
    features = torch.randn(frames, TINY_MEL.channels, generator=rng)
    return Infilling(phones, durations, features, known, torch.Generator().manual_seed(seed))


def again(jobs: Sequence[Infilling]) -> list[Infilling]:
    """The same jobs with fresh generators."""
    return [replace(j, rng=torch.Generator().manual_seed(j.rng.initial_seed())) for j in jobs]


@pytest.mark.parametrize("stack", [1, 2])
@pytest.mark.parametrize("frames", [[20, 20], [21, 13]])
def test_the_prepared_network_is_the_network(stack: int, frames: list[int]) -> None:
    model, batch = tiny(frames_per_token=stack), make_batch(frames)
    cond = condition(batch)
    x = torch.randn(batch.features.shape, generator=torch.Generator().manual_seed(0))
    null = cond.null()
    both = Condition(*(torch.cat((getattr(cond, f.name), getattr(null, f.name))) for f in fields(Condition)))
    with torch.no_grad():
        at = torch.full((2,), float(AT))
        wanted = torch.cat((model(x, at, cond), model(x, at, null))) * both.mask[..., None]
        torch.testing.assert_close(model.prepare(both)(AT, x) * both.mask[..., None], wanted, atol=2e-6, rtol=0)


def test_what_does_not_depend_on_x_is_computed_once() -> None:
    model, cond = tiny(), condition(make_batch([20, 13]))
    seen: list[str] = []
    model.embed.register_forward_hook(lambda *_: seen.append("text"))
    model.project.register_forward_hook(lambda *_: seen.append("project"))
    x0 = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = solve(guided(model, cond, 2.0), x0, Sampling("midpoint", steps=4))
    assert found.nfe == 8 and seen == ["text", "project"]


def test_a_batch_of_different_lengths_is_what_each_is_alone() -> None:
    model, jobs = recipe(), [job(frames, seed) for seed, frames in enumerate([30, 21, 45, 44, 9])]
    sampling = Sampling("midpoint", steps=2, guidance=2.0)
    together = model.infill_many(again(jobs), sampling)
    for one, generated in zip(again(jobs), together, strict=True):
        alone = model.infill(one.phones, one.durations, one.features, one.known, sampling, one.rng)
        torch.testing.assert_close(generated.features, alone.features, atol=1e-5, rtol=0)
        assert torch.equal(generated.features[one.known], one.features[one.known])
        assert (generated.nfe, generated.network_calls) == (alone.nfe, alone.network_calls) == (4, 8)


@pytest.mark.parametrize("solver", ["ddpm", "sde-dpm++2m", "euler-maruyama"])
def test_a_stochastic_solver_draws_from_the_seed_of_its_item(solver: str) -> None:
    model, jobs = recipe(), [job(30, 0), job(28, 1)]
    sampling = Sampling(solver, steps=4, guidance=1.0)
    together = model.infill_many(again(jobs), sampling)
    alone = [model.infill_many(again([one]), sampling)[0] for one in jobs]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a.features, b.features, atol=1e-4, rtol=0)
    other = model.infill_many([replace(jobs[0], rng=torch.Generator().manual_seed(9))], sampling)[0]
    assert not torch.allclose(other.features, alone[0].features)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(("engine", "tolerance"), [("bf16", 0.03), ("bf16-autocast", 0.03), ("int8", 0.05)])
def test_engines_agree_and_leave_the_weights_alone(engine: str, tolerance: float, average: bool) -> None:
    plain = recipe(average=average)
    before = {name: value.clone() for name, value in plain.audio.state_dict().items()}
    fast = Voicebox(plain.audio, plain.duration, SYMBOLS, engine)
    sampling = Sampling("flowmap", steps=4, guidance=1.0) if average else Sampling("midpoint", steps=2, guidance=2.0)
    try:
        (made,), (wanted,) = (model.infill_many(again([job(30, 0)]), sampling) for model in (fast, plain))
    except UserError as refusal:  # a build of PyTorch without int8
        pytest.skip(str(refusal))
    unknown = ~job(30, 0).known
    far = (made.features - wanted.features)[unknown].norm() / wanted.features[unknown].norm()
    assert 0 < float(far) < tolerance
    assert (fast.engine, plain.engine) == (engine, "eager")
    assert all(torch.equal(value, before[name]) for name, value in plain.audio.state_dict().items())


def test_a_grid_fitted_to_the_model_lies_in_its_folder(tmp_path: Path) -> None:
    model = recipe()
    sampling = Sampling("euler", "fitted", 4, 1.0)
    with pytest.raises(UserError, match="fitted"):
        model.infill_many([job(30, 0)], sampling)
    knots = tuple((torch.linspace(0, 1, 9, dtype=torch.float64) ** 2).tolist())
    FittedGrid(knots, "euler", 1, 1).save(tmp_path / "grid.json")
    at_home = Voicebox(model.audio, model.duration, SYMBOLS, folder=tmp_path)
    fitted = at_home.infill_many(again([job(30, 0)]), sampling)[0].features
    by_path = model.infill_many(again([job(30, 0)]), replace(sampling, grid=str(tmp_path / "grid.json")))[0].features
    uniform = model.infill_many(again([job(30, 0)]), replace(sampling, grid="uniform"))[0].features
    assert torch.equal(fitted, by_path) and not torch.allclose(fitted, uniform, atol=1e-4)


def test_a_weaker_model_takes_the_place_of_no_condition() -> None:
    model = recipe()
    torch.manual_seed(7)
    weak = AudioModel(model.audio.config).eval()
    asked: list[str] = []

    def weaker(name: str) -> AudioModel:
        asked.append(name)
        return weak

    guiding = Voicebox(model.audio, model.duration, SYMBOLS, weaker=weaker)
    sampling = Sampling("euler", steps=1, guidance="2,weak=small")
    made = guiding.infill_many(again([job(30, 0)]), sampling)[0]
    guiding.infill_many(again([job(30, 0)]), sampling)
    assert asked == ["small"] and made.network_calls == 2

    def step(network: AudioModel) -> Tensor:
        one = Voicebox(network, model.duration, SYMBOLS)
        return one.infill_many(again([job(30, 0)]), Sampling("euler", steps=1, guidance=1.0))[0].features

    wanted = step(weak) + 2 * (step(model.audio) - step(weak))
    unknown = ~job(30, 0).known
    torch.testing.assert_close(made.features[unknown], wanted[unknown], atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="without a way to find"):
        model.infill_many([job(30, 0)], sampling)


def test_the_field_is_what_sampling_follows() -> None:
    model, one = recipe(), job(30, 0)
    noise = torch.randn(30, 8, generator=torch.Generator().manual_seed(3))[None]
    field = model.field(one.phones, one.durations, one.features, one.known, 2.0)
    with torch.no_grad():
        followed = solve(field, noise, Sampling("midpoint", steps=2)).x[0]
    rng = torch.Generator().manual_seed(3)
    made = model.infill(
        one.phones, one.durations, one.features, one.known, Sampling("midpoint", "uniform", 2, 2.0, 1.0), rng
    )
    torch.testing.assert_close(made.features[~one.known], followed[~one.known], atol=1e-6, rtol=0)


def test_the_recommended_sampling_is_the_configs() -> None:
    said = Sampling("heun", "sway", 3, 2.0, 0.5)
    assert recipe(sampling=said).sampling == said
    assert AudioConfig().sampling == Sampling()
