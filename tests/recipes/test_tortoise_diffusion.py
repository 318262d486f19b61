"""Tortoise's diffusion decoder: sizes, masks, null condition, loss, and sampling at trained steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from flowtts.mask import lengths_to_mask
from flowtts.path import to_velocity
from flowtts.recipes.tortoise.bricks import AttentionBlock, GroupNorm, RelativeBias
from flowtts.recipes.tortoise.config import TORTOISE_MEL, DiffusionConfig
from flowtts.recipes.tortoise.diffusion import DecoderCondition, DiffusionDecoder, whole_steps
from flowtts.solve import guided
from flowtts.types import Sampling, UserError

TINY = DiffusionConfig(
    mel=replace(TORTOISE_MEL, n_mels=8), width=32, layers=2, heads=2, codes=17, latent_width=12, steps=60,
    raw_conditioning=False,
)  # fmt: skip


@dataclass(frozen=True)
class TinyBatch:
    features: Tensor
    frames: Tensor
    codes: Tensor | None
    latents: Tensor | None
    code_lengths: Tensor
    clips: Tensor
    clip_frames: Tensor


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decoder(**changes: object) -> DiffusionDecoder:
    """A tiny one; nothing in it is zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = DiffusionDecoder(replace(TINY, **changes)).eval()  # type: ignore[arg-type]
        for parameter in made.parameters():
            parameter.data = torch.randn_like(parameter) * 0.2
    return made


def batch(*, latents: bool = False) -> TinyBatch:
    source, frames = rng(1), torch.tensor([20, 13])
    features = torch.randn(2, 20, 8, generator=source).clamp(-1, 1) * lengths_to_mask(frames)[..., None]
    return TinyBatch(
        features, frames,
        None if latents else torch.randint(16, (2, 9), generator=source),
        torch.randn(2, 9, 12, generator=source) if latents else None,
        torch.tensor([9, 6]), torch.randn(2, 2, 30, 8, generator=source), torch.tensor([[30, 17], [12, 0]]),
    )  # fmt: skip


def condition(model: DiffusionDecoder, given: TinyBatch) -> DecoderCondition:
    source = given.codes if given.latents is None else given.latents
    assert source is not None
    return model.condition(source, given.code_lengths, model.conditioning(given.clips, given.clip_frames), given.frames)


def test_published_size() -> None:
    with torch.device("meta"):
        model = DiffusionDecoder(DiffusionConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 292_334_380


def test_masked_norm_is_torchs_of_the_real_frames() -> None:
    norm, x = GroupNorm(32), torch.randn(2, 32, 9, generator=rng())
    frames = torch.tensor([9, 5])
    found = norm(x, lengths_to_mask(frames))
    for i, n in enumerate(frames.tolist()):
        torch.testing.assert_close(found[i, :, :n], F.group_norm(x[i : i + 1, :, :n], 16)[0])
    assert bool(norm(x, torch.zeros(2, 9, dtype=torch.bool)).isfinite().all())
    with pytest.raises(ValueError, match="multiple of 16"):
        GroupNorm(34)


def test_relative_bias_depends_on_the_distance_alone_and_on_its_direction() -> None:
    bias = RelativeBias(3, scale=2.0)
    bias.values.weight.data = torch.arange(32.0)[:, None].expand(32, 3)
    found = bias(150)[0, 0].detach() / 2
    for apart in (-149, -64, -8, -7, 0, 7, 8, 63, 149):
        assert len(found.diagonal(apart).unique()) == 1
    assert [float(found[0, i]) for i in (0, 1, 7, 8, 149)] == [0, 17, 23, 24, 31]
    assert [float(found[i, 0]) for i in (1, 7, 8, 149)] == [1, 7, 8, 15]
    assert bool((found[0, 1:].diff() >= 0).all())


def test_attention_takes_biases_that_are_at_hand() -> None:
    block, x = AttentionBlock(32, 2, relative=True), torch.randn(2, 32, 9, generator=rng())
    torch.nn.init.normal_(block.out.weight)
    for mask in (None, lengths_to_mask(torch.tensor([9, 5]))):
        assert torch.equal(block(x, mask), block(x, mask, block.biases(9, mask, x.dtype)))


@pytest.mark.parametrize("latents", [False, True])
def test_padded_equals_alone(latents: bool) -> None:
    model, given = decoder(), batch(latents=latents)
    assert given.codes is not None or given.latents is not None
    alone = TinyBatch(
        given.features[1:, :13], given.frames[1:],
        None if given.codes is None else given.codes[1:, :6], None if given.latents is None else given.latents[1:, :6],
        given.code_lengths[1:], given.clips[1:, :1, :12], given.clip_frames[1:, :1],
    )  # fmt: skip
    x, t = torch.randn(2, 20, 8, generator=rng(2)), torch.tensor([0.2, 0.7])
    with torch.no_grad():
        together, single = condition(model, given), condition(model, alone)
        torch.testing.assert_close(together.aligned[1:, :13], single.aligned, rtol=1e-4, atol=1e-5)
        found, wanted = model(x, t, together)[1:, :13], model(x[1:, :13], t[1:], single)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        plain = model.conditioning(alone.clips)
        torch.testing.assert_close(plain, model.conditioning(alone.clips, alone.clip_frames))
    how = Sampling(solver="ddim", grid="uniform", steps=4, guidance=2.0, temperature=1.0)
    many = model.sample(together, how, [rng(5), rng(6)]).x
    torch.testing.assert_close(many[1:, :13], model.sample(single, how, [rng(6)]).x, rtol=1e-3, atol=1e-4)
    assert float(many[1, 13:].abs().max()) == 0


@pytest.mark.parametrize(("codes", "frames"), [(9, 20), (6, 13), (43, 200), (7, 14), (5, 5)])
def test_codes_are_stretched_as_torch_stretches(codes: int, frames: int) -> None:
    model = decoder()
    source, voice = torch.randn(1, codes, 12, generator=rng()), torch.zeros(1, 64)
    with torch.no_grad():
        short = model.aligned(source, torch.tensor([codes]), voice, torch.tensor([codes]))
        found = model.aligned(source, torch.tensor([codes]), voice, torch.tensor([frames]), frames + 3)
    wanted = F.interpolate(short.transpose(1, 2), size=frames, mode="nearest").transpose(1, 2)
    assert torch.equal(found[:, :frames], wanted)


def test_raw_conditioning_undoes_the_normalisation() -> None:
    raw, plain, clips = decoder(raw_conditioning=True), decoder(), batch().clips
    mel = TINY.mel
    torch.testing.assert_close(raw.conditioning(clips), plain.conditioning(clips * mel.std + mel.mean))


@pytest.mark.parametrize("latents", [False, True])
def test_without_condition_neither_codes_nor_voice_count(latents: bool) -> None:
    model, given = decoder(), batch(latents=latents)
    x = torch.randn(2, 20, 8, generator=rng(2))
    clips = given.clips.clone().requires_grad_()
    cond = condition(model, replace(given, clips=clips))
    cond = replace(cond, keep=torch.tensor([True, False]))
    source = (model.latent_in if latents else model.codes).weight
    for item, counts in ((0, True), (1, False)):
        loss = model(x, torch.full((2,), 0.5), cond)[item].square().sum()
        for gradient in torch.autograd.grad(loss, (clips, source), retain_graph=True):
            assert bool((gradient != 0).any()) == counts
    assert not cond.null().keep.any()


def test_guidance_one_is_the_conditional_network_and_two_is_on_the_noise() -> None:
    model, t = decoder(), torch.tensor(0.4, dtype=torch.float64)
    x, cond = torch.randn(2, 20, 8, generator=rng(2)), condition(decoder(), batch())
    with torch.inference_mode():
        assert torch.equal(guided(model, cond, 1.0)(t, x), model.prepare(cond)(t, x))
        made, null = (model(x, t.expand(2).float(), c)[..., :8] for c in (cond, cond.null()))
        mixed = to_velocity(model.schedule, "noise", null + 2 * (made - null), x, t)
        torch.testing.assert_close(guided(model, cond, 2.0)(t, x), mixed, rtol=1e-3, atol=1e-4)


def test_prepared_is_the_network_and_knows_its_variance() -> None:
    model, x = decoder(), torch.randn(2, 20, 8, generator=rng(2))
    cond = condition(model, batch())
    with torch.no_grad():
        ready = model.prepare(cond)
        for time in (0.25, 0.25, 0.9):
            t = torch.tensor(time, dtype=torch.float64)
            output = model(x, torch.full((2,), time), cond)
            wanted = to_velocity(model.schedule, "noise", output[..., :8], x, t)
            torch.testing.assert_close(ready(t, x), wanted, rtol=1e-4, atol=1e-4)
            share = ready.share(t)
            assert share is not None
            torch.testing.assert_close(share, (output[..., 8:] + 1) / 2, rtol=1e-4, atol=1e-4)
            field = guided(model, cond, 3.0)
            field(t, x)
            conditional = field.share(t)
            assert conditional is not None
            torch.testing.assert_close(conditional, share, rtol=1e-4, atol=1e-4)


def test_times_are_heard_as_whole_steps() -> None:
    model = decoder(steps=4000)
    step = torch.arange(4000)
    for dtype in (torch.float32, torch.float64):
        t = 1 - (step.to(dtype) + 1) / 4000
        assert torch.equal(whole_steps(model.schedule.timestep(t)), step.to(dtype))
    assert float(whole_steps(torch.tensor(2.25))) == 2.25


SOLVERS = [
    "ddim", "ddpm", "dpm++2m", "heun", "midpoint", "dopri5:1e-2", "diffusers-unipc", "diffusers-dpm", "diffusers-ddim",
]  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_samples(solver: str) -> None:
    if solver.startswith("diffusers"):
        pytest.importorskip("diffusers")
    model = decoder()
    for parameter in (model.out.weight, model.out.bias):
        assert parameter is not None
        parameter.data *= 0.1
    cond = condition(model, batch())
    made = model.sample(cond, Sampling(solver=solver, grid="uniform", steps=6, guidance=2.0, temperature=1.0), rng())
    assert made.x.shape == (2, 20, 8) and bool(made.x.isfinite().all()) and float(made.x.abs().max()) <= 1 + 1e-5
    if solver in ("ddim", "ddpm", "dpm++2m"):
        assert (made.nfe, made.network_calls) == (6, 12)


def test_sampling_refuses_impossible_steps() -> None:
    model = decoder()
    cond = condition(model, batch())
    for steps in (1, 61):
        with pytest.raises(UserError, match="2 to 60 steps"):
            model.sample(cond, Sampling(solver="ddim", steps=steps), rng())
    with pytest.raises(UserError, match="no rng"):
        model.sample(cond, Sampling(solver="ddim", steps=3), None)


def test_layers_are_dropped_by_the_rng_while_training() -> None:
    model, given = decoder(layer_drop=0.5).train(), batch()
    first, same, other = (float(model.loss(given, rng(seed))["loss"].detach()) for seed in (3, 3, 4))
    assert first == same != other
    dropped = [model._dropped(rng(seed)) for seed in range(20)]
    assert {len(d) for d in dropped} == {5} and not any(d[0] or d[-1] for d in dropped)
    assert all(any(d[i] for d in dropped) for i in (1, 2, 3))
    assert not any(model.eval()._dropped(rng()))


@pytest.mark.parametrize("latents", [False, True])
def test_loss_is_finite_in_bfloat16_and_names_its_parts(latents: bool) -> None:
    model = decoder().train()
    with torch.autocast("cpu", torch.bfloat16):
        found = model.loss(batch(latents=latents), rng())
    assert set(found) == {"loss", "mse", "vlb", "mel"}
    assert all(value.dtype == torch.float32 and bool(value.isfinite()) for value in found.values())
    torch.testing.assert_close(found["loss"], found["mse"] + found["vlb"] + found["mel"])
    found["loss"].backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_between_processes_every_parameter_has_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, together = (decoder(layer_drop=0.5).train() for _ in range(2))
    alone.loss(batch(), rng())["loss"].backward()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    together.loss(batch(), rng())["loss"].backward()
    assert any(parameter.grad is None for parameter in alone.parameters())
    for one, other in zip(alone.parameters(), together.parameters(), strict=True):
        assert other.grad is not None
        assert torch.equal(other.grad, torch.zeros_like(one) if one.grad is None else one.grad)


def test_padding_teaches_nothing() -> None:
    model, given = decoder(), batch()
    wild = replace(given, features=torch.where(lengths_to_mask(given.frames)[..., None], given.features, 1e3))
    torch.testing.assert_close(model.loss(wild, rng()), model.loss(given, rng()))


def test_an_utterance_without_condition_does_not_train_the_mel_head() -> None:
    assert float(decoder(drop_condition=1.0).loss(batch(), rng())["mel"].detach()) == 0


def test_a_tiny_batch_is_learnt() -> None:
    torch.manual_seed(0)
    model, given, source = DiffusionDecoder(replace(TINY, layer_drop=0.0, drop_condition=0.0)), batch(), rng()
    optimiser, losses = torch.optim.AdamW(model.parameters(), 6e-3), []
    for _ in range(60):
        optimiser.zero_grad()
        found = model.loss(given, source)
        found["loss"].backward()
        optimiser.step()
        losses.append((float(found["mse"].detach()), float(found["mel"].detach())))
    first, last = torch.tensor(losses[:10]).mean(0), torch.tensor(losses[-15:]).mean(0)
    assert bool((last < first / 2).all()), (first, last)


def test_shallow_sampling_starts_at_the_noised_guess() -> None:
    # Of two steps, the first is at the shallow step itself: its input is what sampling starts from.
    model, given = decoder(shallow=24, clip=0.0), batch()
    cond = condition(model, given)
    seen: list[Tensor] = []
    model.enter.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    prepared = model.prepare

    def watched(condition: DecoderCondition) -> object:
        field = prepared(condition)

        class Watching:
            def __call__(self, t: Tensor, x: Tensor) -> Tensor:
                seen.append(x.clone())
                assert float(model.schedule.timestep(t)) <= 23 + 1e-6
                return field(t, x)

        return Watching()

    model.prepare = watched  # type: ignore[method-assign, assignment]
    made = model.sample(cond, Sampling("ddim", "uniform", 2, 1.0, 1.0), [rng(5), rng(6)])
    alpha, sigma, _, _ = model.schedule(torch.tensor(1 - 24 / 60, dtype=torch.float64))
    noise = model._noise(cond.mask, [rng(5), rng(6)])
    wanted = (float(alpha) * model._guess(cond) + float(sigma) * noise) * cond.mask[..., None]
    torch.testing.assert_close(seen[0], wanted.detach())
    assert made.nfe == 2 and bool((made.x[~cond.mask] == 0).all())
    with pytest.raises(UserError, match="2 to 24 steps"):
        model.sample(cond, Sampling("ddim", "uniform", 25, 1.0, 1.0), rng())


def test_shallow_training_knows_no_noisier_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = decoder(shallow=5), []
    noisy = type(model.range).noisy

    def watched(self: object, x1: Tensor, x0: Tensor, step: Tensor) -> Tensor:
        seen.extend(step.tolist())
        return noisy(self, x1, x0, step)  # type: ignore[arg-type]

    monkeypatch.setattr(type(model.range), "noisy", watched)
    for seed in range(40):
        model.loss(batch(), rng(seed))
    assert set(seen) == {0, 1, 2, 3, 4}


def test_predicted_data_stay_within_their_range() -> None:
    model, given = decoder(clip=0.5), batch()
    made = model.sample(condition(model, given), Sampling("ddim", "uniform", 4, 1.0, 1.0), rng())
    assert float(made.x.abs().max()) <= 0.5 + 1e-5
