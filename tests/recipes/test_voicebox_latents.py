"""Voicebox on a codec's latents: the recipe and what it makes are independent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("lhotse")
pytest.importorskip("accelerate")

import tiny_codec
import torch
from tiny_voicebox import condition, make_batch, tiny
from typer.testing import CliRunner

import flowtts
from flowtts import checkpoint, registry
from flowtts.cli import app
from flowtts.data.dataset import Corpus
from flowtts.data.manifest import read_cuts
from flowtts.data.prepare import prepare
from flowtts.features import extractor, latent_spec
from flowtts.recipes.voicebox import AudioConfig, AudioModel, DurationModel, Voicebox
from flowtts.recipes.voicebox.carry import carry, fit
from flowtts.recipes.voicebox.config import DurationConfig
from flowtts.text.symbols import SYMBOLS
from flowtts.types import VOICEBOX_MEL, Item, LatentSpec, Phone, Sampling, UserError
from flowtts.voice import resolve

TINY = [
    "model.text_width=16", "model.body.layers=2", "model.body.width=32", "model.body.ffn=64", "model.body.heads=2",
    "train.precision=float32", "train.minutes=null", "train.steps=3", "train.warmup=1", "train.tensorboard=false",
    "train.threads=1", "data.cache=null", "model.frames_per_token=1", "train.sample_every=3", "data.speeds=[1.0]",
]  # fmt: skip
QUICK = Sampling(solver="euler", steps=2)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_codec.folder(tmp_path_factory.mktemp("codec"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["audio\ttext\tspeaker"]
    for voice in ("rms", "slt"):
        path, text = resolve(voice, None)
        lines.append(f"{path}\t{text}\t{voice}")
    (folder / "rows.tsv").write_text("\n".join(lines) + "\n")
    return prepare("table", folder / "rows.tsv", folder / "out", progress=False).cuts


def test_corpus_of_latents_has_the_durations_of_its_frames(manifest: Path, codec: Path) -> None:
    spec = latent_spec(registry.load_codec(codec), str(codec))
    cuts = list(read_cuts(manifest))
    mels, latents = Corpus(cuts, VOICEBOX_MEL), Corpus(cuts, spec)
    for i in range(2):
        mel, latent = mels[i], latents[i]
        assert torch.equal(mel.phones, latent.phones)
        assert latent.features.shape == (latents.frames(i), 8)
        assert int(latent.durations.sum()) == len(latent.features)
        # The same boundaries at half the rate: never a frame of 20 ms apart, but for phones that need one.
        ends = latent.durations.cumsum(0) * 2 - mel.durations.cumsum(0)
        assert ends.abs().max() <= 4


def test_trains_by_the_command_and_speaks_with_its_codec(
    manifest: Path, codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    done = CliRunner().invoke(
        app, ["train", "voicebox", "--features", str(codec), "--data", str(manifest), "--out", str(out), *TINY,
              "data.colour_db=0"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert list((out / "samples").glob("*.flac"))
    assert registry.vocoder_of(out) == str(codec)
    tts = flowtts.load(out, device="cpu", tag=False)
    assert isinstance(tts.spec, LatentSpec) and tts.vocoder.name == str(codec)
    speech = tts.say("Good morning.", seed=1, solver="euler", steps=2)
    frames = sum(speech.plan.chunks[0].frames)
    assert len(speech.audio.samples) == frames * 320
    # The shipped duration model counts frames of 10 ms: here they last twice as long.
    mel = flowtts.load("voicebox", device="cpu", tag=False).plan("Good morning.", seed=1)
    assert sum(mel.chunks[0].frames) / 2 == pytest.approx(frames, abs=3)
    edited = tts.edit(resolve("rms", None)[0], *_wordings(), seed=1, solver="euler", steps=2)
    assert edited.audio.seconds > 1
    with pytest.raises(UserError, match="does not fit"):
        flowtts.load(out, vocoder="vocos", device="cpu")


def _wordings() -> tuple[str, str]:
    text = resolve("rms", None)[1]
    assert text is not None
    first, _, rest = text.partition(" ")
    return text, f"{first} indeed {rest}"


def test_a_filter_of_mels_is_refused(manifest: Path, codec: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["train", "voicebox", "--features", str(codec), "--data", str(manifest), "--out", str(tmp_path / "x"),
              *TINY, "data.colour_db=2"],
    )  # fmt: skip
    assert isinstance(done.exception, UserError) and "colour_db" in str(done.exception)
    assert not (tmp_path / "x").exists()


def test_durations_are_told_and_asked_at_the_duration_models_rate() -> None:
    seen = []

    class Recorded(DurationModel):
        def predict(self, phones, known, given, sampling, rng):  # type: ignore[no-untyped-def]
            seen.append(given)
            return torch.arange(len(phones)).float()

    symbols = SYMBOLS[:20]
    audio = tiny(latent=LatentSpec("x", "h", 16_000, 320, 8))
    tiny_body = audio.config.body
    duration = Recorded(DurationConfig(body=tiny_body, symbols=20, text_width=8))
    made = Voicebox(audio, duration, symbols).fill_durations(
        [Phone(symbols[5], 0, 0, 1)] * 4, torch.tensor([True, False, False, True]), torch.tensor([3, 0, 0, 7]),
        torch.Generator(),
    )  # fmt: skip
    assert seen[0].tolist() == [6, 0, 0, 14]
    assert made.tolist() == [3.0, 0.5, 1.0, 7.0]


def test_regression_finds_a_linear_map() -> None:
    rng = torch.Generator().manual_seed(0)
    x, a = torch.randn(4000, 6, generator=rng), torch.randn(3, 6, generator=rng)
    torch.testing.assert_close(fit(x, x @ a.T), a, rtol=0, atol=0.03)


def test_carried_over_is_the_same_model_where_features_are_a_linear_map(
    manifest: Path, codec: Path, tmp_path: Path
) -> None:
    config = AudioConfig(
        body=tiny().config.body, symbols=len(SYMBOLS), text_width=8, frames_per_token=2, drop_context=0.25
    )
    torch.manual_seed(3)
    old = AudioModel(config).eval()
    source = checkpoint.save(
        tmp_path / "old", kind="voicebox", config=config, state=old.state_dict(), vocabulary=SYMBOLS
    )
    spec = latent_spec(registry.load_codec(codec), str(codec))
    made = carry(source, spec, [manifest], tmp_path / "new", 2)
    saved = checkpoint.load(made)
    from flowtts.config import load as load_config

    new_config = load_config(AudioConfig, saved.config)
    assert new_config.spec == spec and new_config.frames_per_token == 1 and new_config.drop_context == 0.25
    new = AudioModel(new_config).eval()
    checkpoint.load_state(new, saved.state, made)
    for name, weight in new.body.state_dict().items():
        assert torch.equal(weight, old.body.state_dict()[name])
    # Without sound, and with one phone through every token, both see the same text: their hidden tokens are equal.
    batch = make_batch([8], mel=replace(VOICEBOX_MEL, n_mels=8))
    cond = condition(batch)
    zeros = torch.zeros(1, 8, 8)
    quiet = replace(cond, prompt=zeros, text=cond.text * 0 + 5)
    seen = new.project(new._stacked(new._joined(zeros, quiet), quiet.mask))
    wide = replace(
        quiet, prompt=torch.zeros(1, 16, 80), text=torch.full((1, 16), 5), mask=torch.ones(1, 16, dtype=torch.bool)
    )
    told = old.project(old._stacked(old._joined(torch.zeros(1, 16, 80), wide), wide.mask))
    torch.testing.assert_close(seen, told, rtol=1e-4, atol=1e-5)


def test_carried_from_one_codec_to_another_and_back_is_the_same_model(
    manifest: Path, codec: Path, tmp_path: Path
) -> None:
    from flowtts.config import load as load_config

    spec = latent_spec(registry.load_codec(codec), str(codec))
    config = AudioConfig(body=tiny().config.body, symbols=len(SYMBOLS), text_width=8, latent=spec)
    torch.manual_seed(3)
    old = AudioModel(config).eval()
    source = checkpoint.save(
        tmp_path / "old", kind="voicebox", config=config, state=old.state_dict(), vocabulary=SYMBOLS
    )
    # The same codec elsewhere: its latents are the same, and the map between them is the identity.
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in codec.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    made = checkpoint.load(
        carry(source, latent_spec(registry.load_codec(copy), str(copy)), [manifest], tmp_path / "new")
    )
    assert load_config(AudioConfig, made.config).latent == spec
    assert made.config["latent"]["codec"] == str(copy)
    for name, weight in old.state_dict().items():
        torch.testing.assert_close(made.state[name], weight, rtol=0, atol=0.05)


def test_only_tokens_as_long_as_frames_are_carried_over(manifest: Path, codec: Path, tmp_path: Path) -> None:
    config = AudioConfig(body=tiny().config.body, symbols=len(SYMBOLS), text_width=8)
    source = checkpoint.save(
        tmp_path / "old", kind="voicebox", config=config, state=AudioModel(config).state_dict(), vocabulary=SYMBOLS
    )
    spec = latent_spec(registry.load_codec(codec), str(codec))
    with pytest.raises(UserError, match=r"tokens of 10 ms and .* frames of 20 ms"):
        carry(source, spec, [manifest], tmp_path / "new", 2)


def test_the_prompt_is_heard_as_latents(codec: Path) -> None:
    from flowtts.text import FrontEnd
    from flowtts.voice import prepare as prepare_voice

    spec = latent_spec(registry.load_codec(codec), str(codec))
    voice = prepare_voice("rms", None, spec, FrontEnd())
    assert voice.prompt.features.shape == (int(voice.prompt.durations.sum()), 8)
    assert len(voice.audio.samples) == len(voice.prompt.features) * 320
    assert torch.isfinite(extractor(spec)(torch.from_numpy(voice.audio.samples))).all()


def test_the_shipped_model_fits_the_shipped_codec_and_says_words() -> None:
    tts = flowtts.load("voicebox-latents", device="cpu", tag=False)
    assert tts.vocoder.name == "codec" and tts.spec == latent_spec(registry.load_codec("codec"), "codec")
    text = "The old bridge shook as the heavy train rolled by."
    speech = tts.say(text, voice="rms", seed=1)
    score = registry.load_metric("wer-closed")([Item(speech.audio, text)])
    assert score.value is not None and score.value <= 0.1
