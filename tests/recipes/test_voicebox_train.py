"""``flowtts train``: from a prepared corpus to checkpoints that speak."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lhotse")
pytest.importorskip("accelerate")

import torch

from flowtts import checkpoint
from flowtts.data.prepare import prepare
from flowtts.recipes.voicebox import load
from flowtts.recipes.voicebox.distil import FewStepRun
from flowtts.recipes.voicebox.train import CONFIGS, RUNS, train
from flowtts.registry import trainer
from flowtts.text import FrontEnd
from flowtts.types import Audio, Sampling, UserError
from flowtts.voice import resolve

TINY = [
    "model.text_width=16", "model.body.layers=2", "model.body.width=32", "model.body.ffn=64", "model.body.heads=2",
    "train.precision=float32", "train.minutes=null", "train.steps=3", "train.warmup=1", "train.tensorboard=false",
    "train.threads=1", "data.cache=null",
]  # fmt: skip


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["audio\ttext\tspeaker"]
    for voice in ("rms", "slt"):
        path, text = resolve(voice, None)
        lines.append(f"{path}\t{text}\t{voice}")
    (folder / "rows.tsv").write_text("\n".join(lines) + "\n")
    return prepare("table", folder / "rows.tsv", folder / "out", progress=False).cuts


def test_every_config_is_whole() -> None:
    from flowtts.config import load as load_config

    names = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    assert names == ["base", "duration", "duration-flow", "fewstep", "small"]
    for name in names:
        cls = RUNS["voicebox-duration" if name.startswith("duration") else "voicebox"][0]
        load_config(FewStepRun if name == "fewstep" else cls, CONFIGS / f"{name}.yaml")


def test_trains_both_models_and_they_speak(manifest: Path, tmp_path: Path) -> None:
    heard: list[int] = []

    def vocode(features: torch.Tensor) -> Audio:
        heard.append(len(features))
        return Audio(torch.zeros(len(features) * 160).numpy(), 16_000)

    audio = trainer("voicebox")(
        "voicebox", [manifest], tmp_path / "a", overrides=[*TINY, "train.sample_every=2"], vocode=vocode
    )
    assert audio.finished and audio.step == 3
    assert (
        heard and list((tmp_path / "a" / "samples").glob("*.png")) and list((tmp_path / "a" / "samples").glob("*.flac"))
    )
    losses = [
        row["loss"] for row in map(json.loads, (tmp_path / "a" / "log.jsonl").read_text().splitlines()) if "loss" in row
    ]
    assert losses and all(loss > 0 for loss in losses)
    timed = train("voicebox-duration", [manifest], tmp_path / "d", overrides=TINY)
    timed.folder.rename(audio.folder / "duration")
    recipe = load(audio.folder)
    phones = FrontEnd().analyse("Hello there.").phones
    rng = torch.Generator().manual_seed(0)
    durations = recipe.durations(phones, None, rng).round().long().clamp(min=1)
    made = recipe.say(phones, durations, None, Sampling(solver="euler", steps=1), rng)
    assert made.features.shape == (int(durations.sum()), 80) and torch.isfinite(made.features).all()


def test_fine_tuning_starts_from_a_checkpoint(manifest: Path, tmp_path: Path) -> None:
    first = train("voicebox-duration", [manifest], tmp_path / "a", overrides=TINY)
    still = [*TINY, f"init={first.folder}", "train.learning_rate=1e-12"]
    second = train("voicebox-duration", [manifest], tmp_path / "b", overrides=still)
    before, after = (checkpoint.load(run.folder).state for run in (first, second))
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
    with pytest.raises(UserError, match="kind"):
        train("voicebox", [manifest], tmp_path / "c", overrides=[*TINY, f"init={first.folder}"])


@pytest.mark.parametrize("method", ["trajectory", "meanflow", "reflow"])
def test_a_student_is_trained_saved_and_speaks_in_few_calls(manifest: Path, tmp_path: Path, method: str) -> None:
    taught = train("voicebox", [manifest], tmp_path / "a", overrides=TINY)
    plain = [option for option in TINY if not option.startswith("model.")]
    learnt = trainer("voicebox-fewstep")(
        "voicebox-fewstep", [manifest], tmp_path / "s",
        overrides=[*plain, f"teacher={taught.folder}", f"how.method={method}", "how.steps=4", "how.pairs=2",
                   "train.sample_every=2", "data.max_frames_per_batch=1500", "data.max_frames=300",
                   "data.speeds=[1.0]"],
    )  # fmt: skip
    assert learnt.finished and learnt.step == 3
    rows = [json.loads(line) for line in (tmp_path / "s" / "log.jsonl").read_text().splitlines()]
    assert any("distance_4" in row for row in rows)
    train("voicebox-duration", [manifest], tmp_path / "d", overrides=TINY).folder.rename(learnt.folder / "duration")
    recipe = load(learnt.folder)
    assert recipe.sampling == Sampling("euler" if method == "reflow" else "flowmap", "uniform", 4, 1.0, 0.75)
    phones = FrontEnd().analyse("Hello there.").phones
    durations = torch.full((len(phones),), 3)
    made = recipe.say(phones, durations, None, recipe.sampling, torch.Generator().manual_seed(0))
    assert (made.nfe, made.network_calls) == (4, 4) and torch.isfinite(made.features).all()
    with pytest.raises(UserError, match="built in"):
        recipe.say(phones, durations, None, Sampling("flowmap", steps=4, guidance=2.0), torch.Generator())
    with pytest.raises(UserError, match="few-step"):
        trainer("voicebox-fewstep")(
            "voicebox-fewstep", [manifest], tmp_path / "t", overrides=[*plain, f"teacher={learnt.folder}"]
        )


def test_mistakes_are_one_line(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="learning_rate"):
        train("voicebox", [manifest], tmp_path / "x", overrides=["train.learning_rat=1"])
    with pytest.raises(UserError):
        train("voicebox", [tmp_path / "nothing"], tmp_path / "x", overrides=TINY)
    with pytest.raises(UserError, match="no recipe"):
        trainer("voicebocks")
