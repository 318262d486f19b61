"""Tortoise as a whole, of random weights: decoding with a cache, takes, their judge, their sound, voices."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_tortoise import AR_TINY, CODES, tiny_tortoise
from torch import Tensor

from flowtts import checkpoint
from flowtts.audio.active import to_level
from flowtts.audio.mel import LogMel
from flowtts.decode import Decoding
from flowtts.latents import Latents
from flowtts.recipes.tortoise import load
from flowtts.recipes.tortoise.autoregressive import AutoregressiveModel
from flowtts.recipes.tortoise.continuation import Continuation
from flowtts.recipes.tortoise.judge import ClvpJudge
from flowtts.recipes.tortoise.parts import Parts, load_judging, load_parts
from flowtts.recipes.tortoise.recipe import PRESETS, PhoneText, Take, Tortoise
from flowtts.recipes.tortoise.voices import VOICES_KIND, VOICES_PART, GaussianVoices, load_gaussian
from flowtts.tasks import FreeRecipe, TimedRecipe
from flowtts.text import Analysis, FrontEnd
from flowtts.types import Audio, Recipe, UserError


def sound(seconds: float, seed: int = 0, rate: int = 16_000) -> Audio:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * rate)).astype(np.float32)
    return to_level(Audio(samples, rate))[0]


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tortoise(tmp_path_factory.mktemp("tortoise") / "tiny")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Tortoise:
    return load(folder)


@pytest.fixture(scope="module")
def voice(recipe: Tortoise) -> Latents:
    return recipe.voice([sound(2.0)])


@pytest.fixture(scope="module")
def hello() -> Analysis:
    return FrontEnd().analyse("Hello there, my friend.")


def stopping(folder: Path, bias: float, **changes: object) -> Tortoise:
    """A recipe that stops at once, or never; ``changes`` are of the autoregressive model's configuration."""
    parts = load_parts(folder)
    parts.ar.code_head.bias.data[parts.ar.config.stop_code] = bias
    parts.ar.config = replace(parts.ar.config, **changes)  # type: ignore[arg-type]
    return Tortoise(parts, PhoneText(parts.symbols))


def test_it_is_a_free_recipe(recipe: Tortoise) -> None:
    assert isinstance(recipe, Recipe) and isinstance(recipe, FreeRecipe) and not isinstance(recipe, TimedRecipe)
    assert recipe.name == "tortoise" and recipe.tasks == {"say", "sample"}


def test_presets_are_the_published_and_can_be_asked_for(recipe: Tortoise) -> None:
    found = {name: (preset.best_of, preset.steps) for name, preset in PRESETS.items()}
    assert found == {
        "ultra_fast": (16, 30), "fast": (96, 80), "standard": (256, 200), "high_quality": (256, 400)
    }  # fmt: skip
    assert recipe.presets is PRESETS


def test_phones_are_read_without_gaps(recipe: Tortoise, hello: Analysis) -> None:
    symbols = [recipe.symbols[i] for i in PhoneText(recipe.symbols)(hello).tolist()]
    assert symbols == [phone.symbol for phone in hello.phones if phone.symbol != "SIL"]
    assert "SIL," in symbols and symbols[-1] == "SIL."


# --- decoding --------------------------------------------------------------------------------------------------------


def noisy_ar() -> AutoregressiveModel:
    """Weights so large that everything that is seen changes the logits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AutoregressiveModel(AR_TINY).eval()
        for parameter in made.parameters():
            parameter.data += torch.randn_like(parameter) * (0.5 if parameter.ndim > 1 else 0.1)
    return made


@torch.no_grad()
def test_cached_logits_are_those_of_the_whole_sequence() -> None:
    model, rng, n = noisy_ar(), torch.Generator().manual_seed(1), 12
    voice, text = torch.randn(2, 32, generator=rng), torch.randint(1, 50, (2, 9), generator=rng)
    tokens = torch.randint(CODES, (6, n), generator=rng)
    lengths = torch.full((6,), 9), torch.full((6,), n)
    _, whole = model(voice.repeat_interleave(3, 0), text.repeat_interleave(3, 0), lengths[0], tokens, lengths[1])
    # What starts a sequence never comes within one.
    whole[..., AR_TINY.start_code] = -torch.inf
    cached = Continuation(model, voice, text)
    first = cached.prefill(3, n)
    assert torch.allclose(first, whole[::3, 0], atol=1e-4)
    rows = torch.arange(6)
    for step in range(n):
        if step == 5:
            # Rows that ended are left out, of each text another one, and the last takes the place of the first.
            kept = torch.tensor([[2, 1], [3, 5]])
            cached.keep(kept)
            rows = rows[kept.flatten()]
        logits = cached.step(tokens[rows, step])
        assert torch.allclose(logits, whole[rows, step + 1], atol=1e-4)
    finite = whole[..., :CODES]
    assert float(finite[::3, 0].std(0).mean()) > 0.1 and float(finite.std(1).mean()) > 0.1


def test_a_take_is_the_same_alone_and_in_company(recipe: Tortoise, voice: Latents, hello: Analysis) -> None:
    few, many = (recipe.draw(hello, voice, recipe.decoding, seeded(*range(count))) for count in (3, 8))
    assert len({tuple(take.codes.tolist()) for take in many}) == 8
    for number, take in enumerate(many):
        (alone,) = recipe.draw(hello, voice, recipe.decoding, seeded(number))
        for other in (alone, *few[number : number + 1]):
            assert torch.equal(take.codes, other.codes) and take.finished == other.finished
        assert take.frames == recipe.parts.decoder.config.frames(len(take.codes)) == 4 * len(take.codes)


def test_takes_depend_on_the_voice_the_text_and_the_decoding(recipe: Tortoise, voice: Latents, hello: Analysis) -> None:
    other = Latents({**voice.tensors, "ar": 20 * torch.randn(32, generator=seeded(1)[0])}, voice.model)
    usual = Decoding(temperature=1.0, top_p=1.0)

    def drawn(text: Analysis, of: Latents, decoding: Decoding) -> list[list[int]]:
        return [take.codes.tolist() for take in recipe.draw(text, of, decoding, seeded(1, 2, 3))]

    reference = drawn(hello, voice, usual)
    assert drawn(hello, voice, usual) == reference
    assert drawn(hello, other, usual) != reference
    assert drawn(FrontEnd().analyse("Something else was said."), voice, usual) != reference
    likeliest = drawn(hello, voice, Decoding(temperature=0.0))
    assert likeliest[0] == likeliest[1] == likeliest[2] != reference[0]


def test_takes_that_do_not_stop_are_cut(folder: Path, voice: Latents, hello: Analysis) -> None:
    for limit, wanted in ((500, 60), (60, 60), (7, 7)):
        takes = stopping(folder, -1e9).draw(hello, voice, Decoding(max_tokens=limit), seeded(1, 2, 3))
        assert [(len(take.codes), take.frames, take.finished) for take in takes] == 3 * [(wanted, 4 * wanted, False)]


def test_steps_are_shared_among_takes(folder: Path, voice: Latents, hello: Analysis) -> None:
    takes = stopping(folder, -1e9).draw(hello, voice, Decoding(), seeded(*range(7)))
    shares = [take.network_calls for take in takes]
    assert sum(shares) == 60 and max(shares) - min(shares) <= 1


def test_silence_is_put_behind_and_counts(folder: Path, voice: Latents, hello: Analysis) -> None:
    calm = stopping(folder, -1e9, calm_code=5, calm_tail=8)
    for take in calm.draw(hello, voice, Decoding(), seeded(1, 2)):
        # The table of positions has room for no more.
        assert len(take.codes) == 60 and take.codes[-8:].tolist() == 8 * [5] and take.frames == 240
        made = calm.render(hello, take, voice, calm.sampling, *seeded(1), 1.0)
        assert made.features.shape == (240, 80)


def test_a_take_that_says_nothing_can_still_be_heard(folder: Path, voice: Latents, hello: Analysis) -> None:
    mute = stopping(folder, 1e9)
    (take,) = mute.draw(hello, voice, Decoding(), seeded(1))
    assert take.finished and take.frames == 4
    assert mute.render(hello, take, voice, mute.sampling, *seeded(1), 1.0).features.shape == (4, 80)


def test_a_text_that_is_too_long_is_refused(recipe: Tortoise, voice: Latents) -> None:
    long = FrontEnd().analyse(" ".join(["seventy"] * 40))
    with pytest.raises(UserError, match="symbols, the model reads 160"):
        recipe.draw(long, voice, recipe.decoding, seeded(1))
    with pytest.raises(UserError, match="min_tokens"):
        recipe.draw(FrontEnd().analyse("Yes."), voice, Decoding(min_tokens=100), seeded(1))


# --- judging and rendering -------------------------------------------------------------------------------------------


def takes_of(*lengths: int) -> list[Take]:
    rng = torch.Generator().manual_seed(2)
    return [Take(torch.randint(CODES, (n,), generator=rng), 4 * n, True, 1) for n in lengths]


def test_scores_follow_their_takes(recipe: Tortoise, hello: Analysis) -> None:
    takes = takes_of(5, 17, 30, 9)
    scores = recipe.judge(hello, takes)
    assert scores.shape == (4,) and len(set(scores.tolist())) == 4
    order = [2, 0, 3, 1]
    assert torch.allclose(recipe.judge(hello, [takes[i] for i in order]), scores[order], atol=1e-5)
    for take, score in zip(takes, scores, strict=True):
        assert torch.allclose(recipe.judge(hello, [take])[0], score, atol=1e-5)
    assert not torch.allclose(recipe.judge(FrontEnd().analyse("Something else."), takes), scores, atol=1e-3)


def test_without_clvp_there_is_no_judge(folder: Path, hello: Analysis) -> None:
    whole = load_parts(folder)
    parts = Parts(whole.ar, whole.decoder, None, None, None, whole.symbols, whole.hash, whole.folder)
    with pytest.raises(UserError, match="has no CLVP: choose by --rank wer or sim"):
        Tortoise(parts, PhoneText(parts.symbols)).judge(hello, takes_of(3))


@pytest.mark.parametrize("pace", [1.0, 0.5, 1.3, 0.001])
def test_a_pace_changes_the_length_alone(recipe: Tortoise, voice: Latents, hello: Analysis, pace: float) -> None:
    (take,) = takes_of(11)
    made = recipe.render(hello, take, voice, recipe.sampling, *seeded(3), pace)
    assert made.features.shape == (max(1, round(44 * pace)), 80) and made.features.dtype == torch.float32
    assert made.durations.numel() == 0 and (made.nfe, made.network_calls) == (4, 5)


def test_sound_depends_on_the_seed_the_voice_the_codes_and_the_sampling(
    recipe: Tortoise, voice: Latents, hello: Analysis
) -> None:
    take, other = takes_of(8, 8)
    strange = Latents({name: x + 1 for name, x in voice.tensors.items()}, voice.model)
    sampling = recipe.sampling

    def features(take: Take = take, voice: Latents = voice, seed: int = 3, steps: int = 4) -> Tensor:
        return recipe.render(hello, take, voice, replace(sampling, steps=steps), *seeded(seed), 1.0).features

    reference = features()
    assert torch.equal(features(), reference) and torch.isfinite(reference).all()
    for changed in (features(take=other), features(voice=strange), features(seed=4), features(steps=5)):
        assert not torch.allclose(changed, reference, atol=1e-4)
    guided = recipe.render(hello, take, voice, replace(sampling, guidance=2.0), *seeded(3), 1.0)
    assert (guided.nfe, guided.network_calls) == (4, 9)


@pytest.mark.parametrize("steps", [1, 61])
def test_steps_that_the_decoder_cannot_take(recipe: Tortoise, voice: Latents, hello: Analysis, steps: int) -> None:
    (take,) = takes_of(3)
    with pytest.raises(UserError, match=f"takes 2 to 60 steps, not {steps}"):
        recipe.render(hello, take, voice, replace(recipe.sampling, steps=steps), *seeded(1), 1.0)


def test_engines_that_it_has_not(folder: Path) -> None:
    with pytest.raises(UserError, match="engine"):
        load(folder, engine="warp")
    with pytest.raises(UserError, match="int8"):
        load(folder, engine="int8")


# --- voices ----------------------------------------------------------------------------------------------------------


def test_a_voice_is_what_both_networks_make_of_the_clips(recipe: Tortoise) -> None:
    clips = [sound(1.0, seed) for seed in range(3)]
    whole, singles = recipe.voice(clips), [recipe.voice([clip]) for clip in clips]
    ar, decoder = recipe.parts.ar, recipe.parts.decoder
    features = torch.stack([LogMel(ar.config.mel)(torch.from_numpy(clip.samples)[None])[0] for clip in clips])[None]
    frames = torch.full((1, 3), 100)
    with torch.no_grad():
        direct = {"ar": ar.voice(features, frames)[0], "decoder": decoder.conditioning(features, frames)[0]}
    assert whole.tensors.keys() == direct.keys() and whole.model == recipe.hash
    for name, wanted in direct.items():
        assert torch.allclose(whole.tensors[name], wanted, atol=1e-5)
        mean = torch.stack([single.tensors[name] for single in singles]).mean(0)
        assert torch.allclose(mean, wanted, atol=1e-5)
        assert not torch.allclose(singles[0].tensors[name], wanted, atol=1e-3)


def test_long_clips_are_heard_in_pieces_and_short_rests_left_out(recipe: Tortoise) -> None:
    long = sound(3.3)
    cut = [Audio(long.samples[i * 16_000 : (i + 1) * 16_000], 16_000) for i in range(3)]
    heard, pieces = recipe.voice([long]), recipe.voice(cut)
    # Only the frames at the cuts differ, whose windows reach over them.
    assert torch.allclose(heard.tensors["ar"], pieces.tensors["ar"], atol=0.05)
    assert not torch.allclose(heard.tensors["ar"], recipe.voice(cut[:1]).tensors["ar"], atol=1e-4)
    longer = recipe.voice([Audio(long.samples[: 16_000 * 3 + 4000], 16_000)])
    assert torch.allclose(longer.tensors["ar"], heard.tensors["ar"], atol=0.01)


def test_nothing_to_hear_is_refused(recipe: Tortoise) -> None:
    with pytest.raises(UserError, match="nothing to hear"):
        recipe.voice([])


def latents(count: int, scale: float = 1.0, seed: int = 0) -> list[Latents]:
    """Voices of 3 and 4 numbers that vary together."""
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, 7, generator=rng, dtype=torch.float64) @ torch.randn(7, 7, generator=rng).double() + 2
    return [Latents({"ar": x[:3].float(), "decoder": scale * x[3:].float()}, "m") for x in drawn]


def stacked(voices: list[Latents]) -> Tensor:
    return torch.stack([torch.cat([voice.tensors["ar"], voice.tensors["decoder"]]) for voice in voices])


@pytest.mark.parametrize("count", [2, 5, 40])
def test_random_voices_have_the_mean_and_covariance_of_the_known(count: int) -> None:
    voices = latents(count)
    made = GaussianVoices.fit(voices)
    assert made.config.factors == min(7, count - 1)
    assert torch.allclose(made.mean, stacked(voices).mean(0), atol=1e-5)
    covariance = torch.cov(stacked(voices).T)
    assert torch.allclose(made.directions.T @ made.directions, covariance, atol=1e-4 * float(covariance.abs().max()))
    drawn = torch.cat(made(20_000, torch.Generator().manual_seed(1)), dim=1)
    scale = float(covariance.diagonal().max())
    assert torch.allclose(drawn.mean(0), made.mean, atol=0.05 * scale**0.5)
    assert torch.allclose(torch.cov(drawn.T), covariance, atol=0.05 * scale)


def test_few_factors_are_the_principal_ones_whatever_the_scale() -> None:
    voices, large = latents(40), latents(40, scale=1000.0)
    made, scaled = GaussianVoices.fit(voices, 2), GaussianVoices.fit(large, 2)
    x = stacked(voices)
    weight = torch.cat([(1 / part.std(0).norm()).expand(part.shape[1]) for part in (x[:, :3], x[:, 3:])])
    values, axes = torch.linalg.eigh(torch.cov((x * weight).T))
    wanted = (axes[:, -2:] * values[-2:]) @ axes[:, -2:].T / weight / weight[:, None]
    assert torch.allclose(made.directions.T @ made.directions, wanted, atol=1e-4)
    both = torch.cat([scaled.directions[:, :3], scaled.directions[:, 3:] / 1000], dim=1)
    assert torch.allclose(both.T @ both, wanted, atol=1e-4)


def test_random_voices_are_those_of_their_generator(folder: Path, recipe: Tortoise, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two"):
        GaussianVoices.fit(latents(1))
    same = GaussianVoices.fit([latents(1)[0]] * 3)
    assert torch.isfinite(same.directions).all() and float(same.directions.abs().max()) < 1e-6
    with pytest.raises(UserError, match="no random voices: give a voice with --voice"):
        recipe.random_voice(*seeded(1))
    copy = shutil.copytree(folder, tmp_path / "copy")
    fitted = GaussianVoices.fit([recipe.voice([sound(1.0, seed)]) for seed in range(4)])
    checkpoint.save(copy / VOICES_PART, kind=VOICES_KIND, config=fitted.config, state=fitted.state_dict())
    found = load(copy)
    a, b, c = (found.random_voice(*seeded(seed)) for seed in (1, 1, 2))
    assert a.hash == b.hash != c.hash and a.model == recipe.hash
    assert {name: x.shape for name, x in a.tensors.items()} == {"ar": (32,), "decoder": (64,)}
    with torch.no_grad():
        ar, decoder = fitted(1, *seeded(1))
    assert torch.allclose(a.tensors["ar"], ar[0]) and torch.allclose(a.tensors["decoder"], decoder[0])
    assert load_gaussian(folder) is None
    shutil.rmtree(copy / VOICES_PART)
    shutil.copytree(copy / "clvp", copy / VOICES_PART)
    with pytest.raises(UserError, match="kind tortoise-clvp, not tortoise-voices"):
        load(copy)


# --- the judge of any recipe's sound ---------------------------------------------------------------------------------


def test_sound_is_judged_by_its_codes(folder: Path, recipe: Tortoise, hello: Analysis) -> None:
    judge, audio, parts = ClvpJudge.load(folder), sound(2.0), recipe.parts
    assert parts.vqvae is not None and parts.clvp is not None
    features = LogMel(parts.vqvae.config.mel)(torch.from_numpy(audio.samples)[None])
    with torch.no_grad():
        codes = parts.vqvae.encode(features, torch.tensor([200]))
    assert codes.shape == (1, 50)
    score = judge(audio, [hello])
    assert score == pytest.approx(float(recipe.judge(hello, [Take(codes[0], 200, True, 1)])), abs=1e-4)
    assert judge(replace(audio, samples=0.01 * audio.samples), [hello]) == pytest.approx(score, abs=1e-4)
    assert judge(audio, [FrontEnd().analyse("Something else.")]) != pytest.approx(score, abs=1e-3)
    twice = FrontEnd().analyse("Hello there, my friend. Hello there, my friend.")
    assert judge(audio, [hello, hello]) == pytest.approx(judge(audio, [twice]), abs=1e-4)


def test_what_cannot_be_judged(folder: Path, hello: Analysis, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"0\.03 s of sound are too short"):
        ClvpJudge.load(folder)(sound(0.03), [hello])
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "clvp" / "vocabulary.txt").unlink()
    with pytest.raises(UserError, match="reads letters, not phones"):
        ClvpJudge.load(copy)
    shutil.rmtree(copy / "clvp")
    with pytest.raises(UserError, match="has no folder 'clvp'"):
        load_judging(copy)
