"""Training of codecs: what learns from what, resuming, what is written, teachers, second stages, refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flowtts.audio.io import read, write
from flowtts.compat import require
from flowtts.config import dump
from flowtts.nn.sliding import SlidingConfig
from flowtts.registry import load_codec
from flowtts.train import Diverged
from flowtts.train_config import TrainConfig
from flowtts.train_process import Processes
from flowtts.types import Audio, UserError
from flowtts.vocoders import codec, encodec, mimi
from flowtts.vocoders.clips import Clips, Source
from flowtts.vocoders.codec.network import CodecConfig, CodecNetwork
from flowtts.vocoders.codec_train.config import (
    PRESETS,
    CropConfig,
    EncodecRun,
    JudgeConfig,
    LossConfig,
    MimiRun,
    Run,
    SmallRun,
)
from flowtts.vocoders.codec_train.data import Crops, measure, sources
from flowtts.vocoders.codec_train.forms import Copying, make
from flowtts.vocoders.codec_train.judges import Panel
from flowtts.vocoders.codec_train.losses import judges_loss
from flowtts.vocoders.codec_train.teacher import Teacher
from flowtts.vocoders.codec_train.train import fit_run, train
from flowtts.vocoders.codec_train.trainer import Trainer
from flowtts.vocoders.encodec import EncodecConfig
from flowtts.vocoders.mimi import MimiConfig
from flowtts.vocoders.seanet import SeanetConfig

RATE = 8000
SEANET = SeanetConfig(width=8, filters=4, strides=(4, 5))
TRAIN = TrainConfig(
    steps=4, learning_rate=3e-3, warmup=0, schedule="constant", betas=(0.5, 0.9), clip=None, ema=0.5, cpu=True,
    log_every=2, save_minutes=60.0, tensorboard=False, prefetch=0,
)  # fmt: skip
LOSSES = LossConfig(mel_windows=(64, 256), mel_bands=8, windows=(64, 256))
JUDGES = JudgeConfig(spectra=(128, 64), spectra_filters=2)
CROPS = CropConfig(seconds=0.1, batch=2, gain_db=0.0)
ENCODEC = EncodecRun(CROPS, LOSSES, JUDGES, TRAIN, model=EncodecConfig(SEANET, RATE, 3, 16, revive_below=0.01))
SMALL = SmallRun(
    CROPS, LOSSES, JUDGES, TRAIN,
    model=CodecConfig(
        RATE, 80, n_fft=160, dim=8, intermediate=8, encoder_layers=1, decoder_layers=1, width=4, codebooks=2, codes=8
    ),
)  # fmt: skip
MIMI = MimiRun(
    CROPS, replace(LOSSES, waveform=0.0, mel=0.0), JUDGES, TRAIN,
    model=MimiConfig(
        replace(SEANET, width=16, pad="constant", norm="none", lstm=0), SlidingConfig(1, 2, 16, 16, 8), RATE,
        groups=16, space=8, codebooks=3, codes=8,
    ),
)  # fmt: skip
RUNS = {"codec": SMALL, "encodec": ENCODEC, "mimi": MIMI}


def _tones(seconds: float = 1.0) -> Audio:
    time = np.arange(int(seconds * RATE)) / RATE
    sound = 0.3 * np.sin(2 * math.pi * 200 * time) + 0.2 * np.sin(2 * math.pi * 730 * time)
    return Audio(sound.astype(np.float32), RATE)


def _crops(run: Run, samples: int = 800) -> Crops:
    held = (_tones().samples * 32767).astype(np.int16)
    clips = Clips(held, np.array([0, len(held)]), np.array([1.0]))
    return Crops(clips, run.crops.batch, samples, 0.0, 0)


def _trainer(run: Run) -> Trainer:
    return Trainer(run, Processes.join(cpu=True))


def _list(folder: Path) -> Path:
    write(folder / "a.wav", _tones())
    (folder / "list.txt").write_text("a.wav\n")
    return folder / "list.txt"


def _same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(x, theirs[name]) for name, x in ours.items())


def _moved(before: Sequence[Tensor], module: nn.Module) -> list[bool]:
    return [not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True)]


def _weights(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


@pytest.mark.parametrize(("kind", "share"), [("codec", 0.65), ("encodec", 0.75)])
def test_overfits_one_batch_of_two_tones(kind: str, share: float) -> None:
    """The distance of mels falls to a share of what it was, with quantiser dropout and without discriminators."""
    run = replace(RUNS[kind], losses=replace(LOSSES, adversarial=0.0, matching=0.0))
    run = replace(run, train=replace(TRAIN, steps=30, learning_rate=1e-2, betas=(0.8, 0.99)))
    trainer, batch = _trainer(run), _crops(run)[0]
    assert trainer.panel is None
    losses = [trainer.update([batch], step / 30, 0.0)["mel"] for step in range(30)]
    assert np.mean(losses[-5:]) < share * np.mean(losses[:5])


def test_losses_reach_the_codec_and_verdicts_the_judges_and_neither_the_other() -> None:
    """Whether the judges learn in a step makes no difference to what the codec learns in it, and they do not always."""
    learnt: list[nn.Module] = []
    for chance in (1e-9, 1.0):
        trainer = _trainer(replace(ENCODEC, judges=replace(JUDGES, chance=chance)))
        assert trainer.panel is not None
        codec_before, judges_before = _weights(trainer.network), _weights(trainer.panel)
        values = trainer.update([_crops(ENCODEC)[0]], 0.0, 0.0)
        assert {"adversarial", "matching", "judges", "mel", "waveform", "commitment"} <= values.keys()
        moved = _moved(judges_before, trainer.panel)
        # At first every verdict is inside the hinges, and their slopes on the last offsets cancel.
        assert sum(moved) > 0.8 * len(moved) if chance == 1 else not any(moved)
        assert sum(_moved(codec_before, trainer.network)) > len(codec_before) // 2
        learnt.append(trainer.network)
    assert _same(*learnt)


def test_judges_have_the_gradient_of_their_own_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    run = replace(ENCODEC, judges=replace(JUDGES, chance=1.0), losses=replace(LOSSES, adversarial=1e6, matching=1e6))
    trainer, real = _trainer(run), _crops(run)[0]
    assert trainer.panel is not None and trainer.judging is not None
    kept: list[Tensor] = []
    trainer.copying.register_forward_hook(lambda _, given, made: kept.append(made.samples.detach()))
    monkeypatch.setattr(trainer.judging, "zero_grad", lambda set_to_none: None)
    before = {name: x.clone() for name, x in trainer.panel.state_dict().items()}
    trainer.update([real], 0.0, 0.0)
    other = Panel(run.judges)
    other.load_state_dict(before)
    judges_loss(*other(real, kept[0]), other.shares).backward()  # type: ignore[no-untyped-call]
    for ours, theirs in zip(trainer.panel.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_codecs_gradient_is_the_balanced_one() -> None:
    """The gradient of one weight by hand, from the losses themselves and the averages of the balancer."""
    run = replace(ENCODEC, losses=replace(LOSSES, adversarial=0.0, matching=0.0, commitment=0.0))
    trainer, real = _trainer(run), _crops(run)[0]
    place = torch.Generator().manual_seed(0)
    made = trainer.copying(real, place).samples
    found = {name: torch.autograd.grad(x, made, retain_graph=True)[0] for name, x in trainer.losses(made, real).items()}
    wanted = sum(
        {"waveform": 0.1, "mel": 1.0}[name] / 1.1 * grad / grad.norm(dim=1).mean() for name, grad in found.items()
    )
    assert isinstance(wanted, Tensor)
    torch.testing.assert_close(trainer.balancer(trainer.losses(made, real), trainer._weights(), made), wanted)


def test_discriminators_join_late_hear_fewer_crops_and_are_heard_little_by_little() -> None:
    judges = replace(JUDGES, begin=0.5, ramp=4, chance=1.0)
    run = replace(ENCODEC, judges=judges, crops=replace(CROPS, batch=3, adversarial_batch=1))
    trainer, batch = _trainer(run), _crops(run)[0]
    heard: list[int] = []
    trainer.copying.register_forward_pre_hook(lambda _, given: heard.append(len(given[0])))
    logs = [trainer.update([batch], step / 4, 0.0) for step in range(4)]
    assert ["judges" in log for log in logs] == [False, False, True, True] and heard == [3, 3, 1, 1]
    assert trainer.taught == 2 and trainer._weights()["matching"] == pytest.approx(3 / 4 * 3.0)


def test_discriminators_learn_in_their_share_of_the_steps() -> None:
    run = replace(ENCODEC, judges=replace(JUDGES, spectra=(64,), spectra_filters=1, chance=0.25))
    trainer, batch = _trainer(run), _crops(run, 160)[0][:1]
    for _ in range(40):
        trainer.update([batch], 0.0, 0.0)
    assert 3 <= trainer.taught <= 18 and trainer.steps == trainer.heard == 40


def test_accumulated_batches_are_one_larger_batch() -> None:
    """Without quantisation, which learns from each."""
    losses = replace(LOSSES, adversarial=0.0, matching=0.0, balanced=False, mel=0.0, waveform=1.0)
    run = replace(SMALL, losses=losses, model=replace(SMALL.model, plain=1.0))
    batch = _crops(run)[0]
    whole, parts = _trainer(run), _trainer(run)
    whole.update([batch], 0.0, 0.0)
    parts.update([batch[:1], batch[1:]], 0.0, 0.0)
    for a, b in zip(whole.network.decoder.parameters(), parts.network.decoder.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_averages_follow_the_weights() -> None:
    trainer, batch = _trainer(ENCODEC), _crops(ENCODEC)[0]
    assert trainer.ema is not None
    name = next(n for n, p in trainer.network.named_parameters() if n.startswith("decoder") and p.ndim == 1)
    expected = trainer.network.get_parameter(name).detach().clone()
    for step in range(1, 4):
        trainer.update([batch], 0.0, 0.0)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * trainer.network.get_parameter(name).detach()
    torch.testing.assert_close(trainer.average.get_parameter(name), expected)
    book = "quantiser.levels.0.quantiser.codebook"
    assert torch.equal(trainer.average.get_buffer(book), trainer.network.get_buffer(book))


@pytest.mark.parametrize("kind", ["codec", "encodec", "mimi"])
def test_a_resumed_run_equals_an_unbroken_one_and_makes_a_codec(kind: str, tmp_path: Path) -> None:
    listed, run = _list(tmp_path), RUNS[kind]
    whole = fit_run(run, [listed], tmp_path / "whole", resume=False)
    half = replace(run, train=replace(TRAIN, steps=2))
    assert fit_run(half, [listed], tmp_path / "half", resume=False).step == 2
    rest = fit_run(run, [listed], tmp_path / "half", resume=True)
    assert rest.finished and rest.step == whole.step == 4
    made, again = load_codec(tmp_path / "whole"), load_codec(rest.folder)
    assert made.hash == again.hash and made.name == kind
    rows = [json.loads(line) for line in (tmp_path / "half" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4] and all(math.isfinite(row["judges"]) for row in rows)
    x = torch.from_numpy(_tones(0.3).samples)[None]
    codes = made.encode(x)
    assert codes.shape[-1] == made.spec.codebooks and made.decode(codes).shape[-1] >= x.shape[-1]
    mean, std = made.statistics()
    assert bool((mean != 0).any()) == (kind == "codec") and bool((std > 0).all())


def test_statistics_are_those_of_the_latents() -> None:
    network, crops = make(SMALL, None).eval(), _crops(SMALL)
    found = measure(network.latents, (crops[i] for i in range(3)))
    assert found is not None
    made = torch.cat([network.latents(crops[i][:, None]).flatten(0, 1) for i in range(3)]).detach()
    torch.testing.assert_close(found[0], made.mean(0))
    torch.testing.assert_close(found[1], made.std(0, correction=0))
    flat = measure(lambda x: torch.ones(len(x), 3, 2), [crops[0]])
    assert flat is not None and torch.equal(flat[1], torch.ones(2)) and measure(network.latents, []) is None


def test_samples_and_held_out_recordings(tmp_path: Path) -> None:
    listed = _list(tmp_path)
    run = replace(SMALL, train=replace(TRAIN, sample_every=2), crops=replace(CROPS, valid=(str(listed),)))
    fit_run(run, [listed], tmp_path / "run", resume=False)
    assert sorted(p.name for p in (tmp_path / "run" / "samples").iterdir()) == [
        "0000002.flac", "0000004.flac", "recorded.flac",
    ]  # fmt: skip
    assert read(tmp_path / "run" / "samples" / "0000004.flac").samples.shape == (1600,)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len([row for row in rows if row.get("valid_mel", 0) > 0 and row["valid_waveform"] > 0]) == 2


def test_a_second_stage_moves_the_decoder_alone(tmp_path: Path) -> None:
    listed = _list(tmp_path)
    first = fit_run(SMALL, [listed], tmp_path / "first", resume=False)
    losses = replace(LOSSES, waveform=0.0, mel=0.0)
    second = replace(SMALL, init=str(first.folder), decoder_only=True, losses=losses)
    run = fit_run(second, [listed], tmp_path / "second", resume=False)
    before, after = codec.load_network(first.folder).state_dict(), codec.load_network(run.folder).state_dict()
    same = {name.split(".")[0] for name, x in before.items() if torch.equal(x, after[name])}
    other = {name.split(".")[0] for name, x in before.items() if not torch.equal(x, after[name])}
    assert other == {"decoder"} and {"encoder", "quantiser", "mean", "std"} <= same


def test_second_stages_hear_all_depths_and_latents() -> None:
    network = make(replace(SMALL, model=replace(SMALL.model, dropout=1.0, plain=0.0)), None)
    copying, batch = Copying(network, decoder_only=True), torch.randn(64, 160)
    ids = copying(batch, torch.Generator().manual_seed(0)).ids
    assert 10 < int((ids[:, 0, 1] < 0).sum()) < 54 and not (ids[..., 0] < 0).any()
    plain = make(replace(SMALL, model=replace(SMALL.model, plain=1.0)), None)
    made = Copying(plain, decoder_only=True)(batch, torch.Generator()).samples
    torch.testing.assert_close(made, plain.from_latents(plain.latents(batch[:, None]))[:, 0])


def test_codes_of_what_is_shipped_live_on(tmp_path: Path) -> None:
    """A checkpoint without the codebooks' averages gets such as leave its codes where they are."""
    network = make(SMALL, None)
    codec.save(network, tmp_path / "codec")  # type: ignore[arg-type]
    begun = make(replace(SMALL, init=str(tmp_path / "codec")), None)
    assert isinstance(begun, CodecNetwork) and isinstance(network, CodecNetwork)
    for ours, theirs in zip(begun.quantiser.levels, network.quantiser.levels, strict=True):
        book: Any = ours.quantiser
        torch.testing.assert_close(book.codebook, theirs.quantiser.codebook, atol=1e-3, rtol=1e-2)
        torch.testing.assert_close(book.sums / book.counts[:, None], book.codebook)
        assert bool(book.started) and bool((book.counts >= 1).all())


@pytest.mark.parametrize("kind", ["encodec", "mimi"])
def test_folders_of_ours_give_the_network_back(kind: str, tmp_path: Path) -> None:
    run, module = RUNS[kind], {"encodec": encodec, "mimi": mimi}[kind]
    network: Any = make(run, None)
    module.save(network, tmp_path / "codec")
    found = module.load_network(tmp_path / "codec")
    assert _same(found, network) and found.config == network.config and not found.training
    with pytest.raises(UserError, match="of kind"):
        codec.load_network(tmp_path / "codec")
    with pytest.raises(UserError, match="no model or folder"):
        module.load(tmp_path / "nothing")


def _wavlm(folder: Path) -> Path:
    try:
        package = require("transformers", "hf")
    except UserError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    config = package.WavLMConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8, 8),
        conv_kernel=(10, 4, 4), conv_stride=(5, 4, 4), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        num_buckets=8, max_bucket_distance=16,
    )  # fmt: skip
    package.WavLMModel(config).save_pretrained(folder)
    return folder


def test_a_teachers_features_are_pooled_to_the_codecs_frames(tmp_path: Path) -> None:
    """80 samples at 16 kHz a frame: pooled 4 to 1 about their middle, or as they are."""
    folder = _wavlm(tmp_path / "wavlm")
    x = torch.randn(2, 3200, generator=torch.Generator().manual_seed(0))
    plain = Teacher(folder, 16_000, 80)
    assert plain.width == 12 and plain.ratio == 1
    fine = plain(x, 40)
    assert fine.shape == (2, 40, 12)
    coarse = Teacher(folder, 16_000, 320)(x, 10)
    expected = torch.stack([fine[:, 4 * i - 2 : 4 * i + 6].mean(1) for i in range(1, 9)], 1)
    torch.testing.assert_close(coarse[:, 1:-1], expected, atol=1e-5, rtol=1e-4)
    assert Teacher(folder, 8000, 40)(x[:, :1600], 40).shape == (2, 40, 12)
    assert Teacher(folder, 8000, 100)(x[:, :1600], 16).shape == (2, 16, 12)
    middle = Teacher(folder, 16_000, 80, layer=1)(x, 40)
    assert not torch.allclose(middle, fine)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": true}')
    loud = Teacher(folder, 16_000, 80)
    torch.testing.assert_close(loud(10 * x, 40), loud(x, 40), atol=1e-3, rtol=1e-3)


def test_a_teacher_is_learnt_from(tmp_path: Path) -> None:
    folder = _wavlm(tmp_path / "wavlm")
    losses = replace(MIMI.losses, distillation=1.0, adversarial=0.01, matching=0.01)
    run = replace(MIMI, teacher=str(folder), losses=losses, train=replace(TRAIN, learning_rate=1e-2))
    trainer, batch = _trainer(run), _crops(run)[0]
    logs = [trainer.update([batch], 0.0, 0.0)["distillation"] for _ in range(25)]
    assert logs[-1] < 0.7 * logs[0]
    assert trainer.network.config.teacher == 12  # type: ignore[union-attr]
    assert all(not p.requires_grad for p in trainer.teacher.model.parameters())  # type: ignore[union-attr]


def test_teachers_are_models_of_speech(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="of the kind bert: a teacher is one of wavlm"):
        Teacher(tmp_path, 16_000, 320)
    with pytest.raises(UserError, match="there is no layer 3"):
        Teacher(_wavlm(tmp_path / "wavlm"), 16_000, 320, layer=3)
    (tmp_path / "wavlm" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no whole model"):
        Teacher(tmp_path / "wavlm", 16_000, 320)


def test_a_broken_sound_ends_the_run_and_is_kept(tmp_path: Path) -> None:
    run = replace(SMALL, losses=replace(LOSSES, waveform=1e38, balanced=False), train=replace(TRAIN, clip=None))
    with pytest.raises(Diverged, match=r"at step 0: listen to the batch in .*step-00000000-rank-0"):
        fit_run(run, [_list(tmp_path)], tmp_path / "run", resume=False)
    assert len(list((tmp_path / "run" / "failed").iterdir())) == 1


def test_lists_and_manifests(tmp_path: Path) -> None:
    package = require("lhotse", "train")
    listed = _list(tmp_path)
    recording = package.Recording.from_file(tmp_path / "a.wav")
    cuts = [package.MonoCut(str(n), 0.3 * n, 0.3, 0, recording=recording) for n in range(2)]
    (tmp_path / "manifest").mkdir()
    package.CutSet.from_cuts(cuts).to_file(tmp_path / "manifest" / "cuts.jsonl.gz")
    one = Source(tmp_path / "a.wav")
    assert sources([listed, tmp_path / "manifest"]) == [one, one]
    assert sources([tmp_path / "manifest" / "cuts.jsonl.gz"]) == [one]
    with pytest.raises(UserError, match="no such manifest"):
        sources([tmp_path])
    with pytest.raises(UserError, match="no such list"):
        sources([tmp_path / "none.txt"])


def test_presets_are_the_papers() -> None:
    assert {type(run) for run in PRESETS.values()} == {SmallRun, EncodecRun, MimiRun}
    found: Any = PRESETS["soundstream"]
    assert found.judges.groups == {"waves": 3, "stft": 1} and found.model == encodec.SOUNDSTREAM
    assert PRESETS["encodec"].judges.chance == 2 / 3 and PRESETS["encodec"].losses.matching == 3
    assert not PRESETS["mimi"].losses.unjudged and PRESETS["mimi"].losses.judged


def test_refusals(tmp_path: Path) -> None:
    listed, out = _list(tmp_path), tmp_path / "run"
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(dump(SMALL))
    train("codec", [listed], out, source=tiny)
    cases: list[tuple[str, list[str], str]] = [
        ("x", ["losses.mell=1"], 'unknown key "losses.mell"; did you mean "losses.mel"'),
        ("x", ["judges.spectra=[]"], "adversarial losses want discriminators"),
        ("x", ["judges.begin=0.5", "losses.mel=0", "losses.waveform=0"], "nothing to learn before"),
        ("x", ["decoder_only=true"], "set init=FOLDER"),
        ("x", ["judges.spectra=[1024]"], "crops of 800 samples are shorter than 1024"),
        ("x", ["init_vocoder=vocos-16k"], "other sizes"),
        ("x", [f"init={listed.parent}"], "not a checkpoint"),
        ("run", [], "holds a run already"),
    ]
    for folder, overrides, words in cases:
        with pytest.raises(UserError, match=words.replace("[", r"\[")):
            train("codec", [listed], tmp_path / folder, source=tiny, overrides=overrides)
    for overrides, words in ((["model.dim=16"], "another model"), (["judges.spectra=[64]"], "another judges")):
        with pytest.raises(UserError, match=words):
            train("codec", [listed], out, source=tiny, overrides=overrides, resume=True)
    with pytest.raises(UserError, match="no such list"):
        train("codec", [tmp_path / "none"], tmp_path / "x", source=tiny)
    assert train("codec", [listed], out, source=tiny, overrides=["train.steps=5"], resume=True).step == 5
    (out / "train_state.pt").unlink()
    with pytest.raises(UserError, match=r"has no train_state\.pt"):
        train("codec", [listed], out, source=tiny, resume=True)
    stereo = replace(ENCODEC, model=replace(ENCODEC.model, normalise=True))
    with pytest.raises(UserError, match="only codecs of mono sound"):
        make(stereo, None)
