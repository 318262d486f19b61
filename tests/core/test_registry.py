"""Names to things: every name the toolkit knows can be loaded, and a wrong one says what there is."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from tiny_tortoise import tiny_tortoise
from torch import nn

from flowtts import checkpoint, registry
from flowtts.nn import TransformerConfig
from flowtts.text.symbols import SYMBOLS
from flowtts.types import VOCOS_MEL, VOICEBOX_MEL, CodeSpec, Metric, Recipe, UserError, Vocoder

BODY = TransformerConfig(layers=2, heads=2, width=16, ffn=32, position_kernel=3)


def write_voicebox(folder: Path) -> Path:
    """An untrained Voicebox of a few thousand weights, with its duration model inside."""
    voicebox = import_module("flowtts.recipes.voicebox")
    audio = voicebox.AudioConfig(body=BODY, symbols=len(SYMBOLS), text_width=8)
    duration = voicebox.DurationConfig(body=BODY, symbols=len(SYMBOLS), text_width=8)
    models: list[tuple[Path, str, nn.Module, object]] = [
        (folder, "voicebox", voicebox.AudioModel(audio), audio),
        (folder / "duration", "voicebox-duration", voicebox.DurationModel(duration), duration),
    ]
    for place, kind, model, config in models:
        checkpoint.save(place, kind=kind, config=config, state=model.state_dict(), vocabulary=SYMBOLS)
    return folder


def write_vocos(folder: Path) -> Path:
    vocos = import_module("flowtts.vocoders.vocos")
    config = vocos.VocosConfig(dim=8, intermediate=8, layers=1)
    state = vocos.VocosNetwork(config).state_dict()
    return checkpoint.save(folder, kind="vocos", config=config, state=state)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's checkpoints, as small as they can be."""
    root = tmp_path_factory.mktemp("checkpoints")
    with torch.random.fork_rng():
        write_voicebox(root / "voicebox-small")
        write_vocos(root / "vocos-16k")
    tiny_tortoise(tmp_path_factory.mktemp("made") / "tiny").rename(root / "tortoise-small")
    return root


@pytest.fixture(autouse=True)
def shipped(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHIPPED", package)


def test_every_recipe_and_vocoder_loads_by_name() -> None:
    for name in registry.recipes():
        recipe = registry.load_recipe(name)
        assert isinstance(recipe, Recipe) and recipe.name == name and tuple(recipe.symbols) == SYMBOLS
    # UnivNet's weights are converted; its own tests load them.
    assert {"griffin-lim", "univnet", "vocos"} == set(registry.vocoders())
    for name in ("griffin-lim", "vocos"):
        vocoder = registry.load_vocoder(name, VOICEBOX_MEL)
        assert isinstance(vocoder, Vocoder) and vocoder.name == name and vocoder.spec == VOICEBOX_MEL


def test_checkpoints_load_by_their_name_their_folder_or_their_run(package: Path, tmp_path: Path) -> None:
    assert registry.load_recipe("voicebox-small").name == "voicebox"
    assert registry.load_recipe(package / "voicebox-small").name == "voicebox"
    write_voicebox(tmp_path / "run" / "checkpoints" / "step-00000001")
    assert registry.load_recipe(tmp_path / "run").name == "voicebox"
    assert registry.load_vocoder(package / "vocos-16k").spec == VOICEBOX_MEL


def test_griffin_lim_reads_what_it_is_given() -> None:
    assert registry.load_vocoder("griffin-lim", VOCOS_MEL).spec == VOCOS_MEL
    with pytest.raises(UserError, match="codec"):
        registry.load_vocoder("griffin-lim", CodeSpec(24_000, 75.0, 8, 1024))


def test_a_vocoder_of_other_features_is_refused_and_says_which() -> None:
    with pytest.raises(UserError) as caught:
        registry.load_vocoder("vocos", VOCOS_MEL)
    message = str(caught.value)
    assert "its n_mels is 80, the model's 100" in message and "its hop_length is 160, the model's 256" in message
    assert "win_length is 640" in message and "std is 2.2615" in message and "n_fft" not in message
    with pytest.raises(UserError, match="reads mels and the model makes codes"):
        registry.load_vocoder("vocos", CodeSpec(24_000, 75.0, 8, 1024))


def test_wrong_names_and_kinds(package: Path, tmp_path: Path) -> None:
    for name, said in (
        ("voicebx", "did you mean 'voicebox'"),
        ("voicebox-smal", "did you mean 'voicebox-small'"),
        ("zzz", "there are .*voicebox"),
        (tmp_path / "nothing", "nothing"),
        (tmp_path, "has no config.yaml"),
        ("vocos-16k", "kind vocos: no recipe"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            registry.load_recipe(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="did you mean 'vocos'"):
        registry.load_vocoder("voco")
    with pytest.raises(UserError, match="kind voicebox, not vocos"):
        registry.load_vocoder(package / "voicebox-small")
    with pytest.raises(UserError, match="did you mean 'voicebox'"):
        registry.trainer("voiceboks")
    with pytest.raises(UserError, match="did you mean 'tortoise'"):
        registry.converter("tortois")


def test_a_missing_shipped_checkpoint_is_not_the_users_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    for load, name in (
        (registry.load_recipe, "voicebox"), (registry.load_recipe, "tortoise"), (registry.load_vocoder, "vocos"),
        (registry.load_judge, "clvp"),
    ):  # fmt: skip
        with pytest.raises(UserError, match="belongs to flowtts and is not installed"):
            load(name)


def test_metrics_are_made_without_their_models() -> None:
    names = registry.metrics()
    assert {"wer", "cer", "wer-closed", "sim-o", "rtf"} <= set(names)
    metric = registry.load_metric("rtf", took={"a": 1.0})
    assert isinstance(metric, Metric) and metric.name == "rtf" and not metric.higher_is_better
    with pytest.raises(UserError, match="did you mean 'wer-closed'"):
        registry.load_metric("wer-close")


def test_judges_load_by_name() -> None:
    for name in registry.JUDGES:
        judge = registry.load_judge(name)
        assert callable(judge) and judge.hash


def test_converters_are_functions() -> None:
    for name in registry.CONVERTERS:
        assert callable(registry.converter(name))


def test_trainers_are_functions() -> None:
    for name in registry.TRAINERS:
        assert callable(registry.trainer(name))


def test_importing_the_registry_imports_no_sibling() -> None:
    """The core stands alone: siblings come when they are named."""
    code = "import sys, flowtts.registry; print([m for m in sys.modules if m.startswith(('flowtts.recipes', "
    code += "'flowtts.vocoders', 'flowtts.eval', 'vocos', 'accelerate', 'transformers'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
