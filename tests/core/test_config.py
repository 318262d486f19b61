"""Configurations: strictness, precedence, messages and exact round trips."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from flowtts import config
from flowtts.types import VOCOS_MEL, MelSpec, UserError


@dataclass(frozen=True)
class Layer:
    width: int = 8
    kind: Literal["conv", "attention"] = "conv"


@dataclass(frozen=True)
class Optimiser:
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["linear", "cosine"] = "linear"
    minutes: float | None = None


@dataclass(frozen=True)
class Model:
    name: str = "small"
    steps: int = 10
    flag: bool = False
    mel: MelSpec = VOCOS_MEL
    train: Optimiser = Optimiser()
    layers: tuple[Layer, ...] = (Layer(), Layer(16, "attention"))
    grid: tuple[tuple[int, ...], ...] = ((1, 2), ())
    extra: Optimiser | None = None
    weights: dict[str, float] = field(default_factory=lambda: {"a": 1.0})
    data: Path | None = None


@dataclass(frozen=True)
class Needy:
    here: str
    there: int = 0


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_no_source_gives_the_defaults() -> None:
    assert config.load(Model) == Model()


def test_files_state_differences_and_overrides_win(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {learning_rate: 3e-4, schedule: cosine}\nsteps: 7\n")
    loaded = config.load(Model, path, ["train.learning_rate=0.5", "name=x", "train.learning_rate=0.25"])
    expected = Optimiser(learning_rate=0.25, schedule="cosine")
    assert loaded == Model(name="x", steps=7, train=expected)


def test_nested_defaults_come_from_the_parents_default() -> None:
    """MelSpec's own n_mels is 80; the field's default is VOCOS_MEL, and only what is said changes."""
    loaded = config.load(Model, {"mel": {"mean": 1.5}})
    assert loaded.mel.n_mels == VOCOS_MEL.n_mels == 100 and loaded.mel.mean == 1.5


def test_base_replaces_the_defaults() -> None:
    base = Model(name="paper", train=Optimiser(learning_rate=1.0))
    loaded = config.load(Model, None, ["train.schedule=cosine"], base=base)
    assert loaded == Model(name="paper", train=Optimiser(learning_rate=1.0, schedule="cosine"))


def test_tuples_dicts_and_optionals() -> None:
    loaded = config.load(
        Model,
        {"layers": [{"kind": "attention"}], "grid": [[3], []], "weights": {"b": 2}, "extra": {"minutes": 3}},
        ["data=/tmp/x", "train.betas=[0.5, 1]"],
    )
    assert loaded.layers == (Layer(8, "attention"),) and loaded.grid == ((3,), ())
    assert loaded.weights == {"b": 2.0} and loaded.extra == Optimiser(minutes=3.0)
    assert loaded.data == Path("/tmp/x") and loaded.train.betas == (0.5, 1.0)
    assert config.load(Model, {"extra": {"minutes": 3}}, ["extra=null"]).extra is None


@pytest.mark.parametrize(
    "value",
    [
        Model(),
        Model(name="1e-4", data=Path("a b/c"), extra=Optimiser(minutes=0.1)),
        Model(name="${train.steps}"),
        Model(name="back\\slash \\\\${oc.env:HOME} ${"),
        Model(name="yes"),
        Model(name="null", layers=(), weights={}),
        Model(name=" 'quoted': \"text\"\n- ü # no comment\n"),
        Model(train=Optimiser(learning_rate=math.pi * 1e-17, betas=(math.inf, -math.inf))),
        Model(steps=2**62, weights={"x.y": 0.1 + 0.2}),
    ],
)
def test_round_trip_is_exact(tmp_path: Path, value: Model) -> None:
    assert config.load(Model, write(tmp_path, config.dump(value))) == value


def test_values_are_never_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    assert config.load(Model, {"name": "${oc.env:SECRET}"}).name == "${oc.env:SECRET}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stepps: 3", ['unknown key "stepps"', 'did you mean "steps"']),
        ("train: {lerning_rate: 3}", ['unknown key "train.lerning_rate"', '"train.learning_rate"']),
        ("learning_rate: 3", ['did you mean "train.learning_rate"']),
        ("layers: [{width: 1}, {wdth: 2}]", ['"layers[1].wdth"', '"layers[1].width"']),
        ("zzz: 3", ["known keys: name, steps"]),
        ("steps: many", ["steps", "many", "Integer"]),
        ("steps: 1.5", ["steps", "1.5", "Integer"]),
        ("flag: perhaps", ["flag", "perhaps", "bool"]),
        ("train: {learning_rate: fast}", ["train.learning_rate", "fast", "Float"]),
        ("train: 3", ["train must hold keys and values, not 3"]),
        ("train: null", ["train", "not Optional"]),
        ("steps: null", ["steps", "None"]),
        ("layers: 3", ["layers must be a list"]),
        ("train: {betas: [1]}", ["train.betas must have 2 elements, not 1"]),
        ("train: {schedule: cosin}", ["train.schedule must be one of linear, cosine", "did you mean cosine"]),
        ("layers: [{kind: lstm}]", ["layers[0].kind must be one of conv, attention"]),
        ("weights: {a: heavy}", ["weights.a", "heavy"]),
        ("mel: {std: 0}", ["mel: a mel needs a positive std"]),
        ("a: [1", ["not valid YAML at line"]),
        ("steps: 1\nsteps: 2", ["not valid YAML at line 2", "duplicate key steps"]),
        ("a: !!python/object:os.system 1", ["not valid YAML at line 1"]),
        ("- 1", ["keys and values, not a list"]),
    ],
)
def test_mistakes_are_one_line_naming_the_file(tmp_path: Path, text: str, said: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        config.load(Model, path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("steps", "write key=value"),
        ("=3", "write key=value"),
        ("train.lr=3", 'unknown key "train.lr"'),
        ("layers.0.width=3", "layers must be a list"),
        ("steps=[1", "override"),
        ("train.betas=[a, b]", "could not be converted to Float"),
        ("name=[1]", "string"),
    ],
)
def test_mistakes_in_overrides_quote_the_override(override: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load(Model, None, [override])
    message = str(caught.value)
    assert "\n" not in message and override in message and said in message, message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        config.load(Model, tmp_path / "nothing.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        config.load(Model, tmp_path / "x.yaml")


def test_empty_file_is_no_difference(tmp_path: Path) -> None:
    assert config.load(Model, write(tmp_path, "")) == Model()


def test_keys_without_defaults_are_needed() -> None:
    assert config.load(Needy, {"here": "x"}) == Needy("x")
    with pytest.raises(UserError, match='"here" is needed'):
        config.load(Needy, {"there": 3})


@dataclass(frozen=True)
class Mixed:
    pair: tuple[int, str] = (1, "a")


@pytest.mark.parametrize("cls", [Mixed, int])
def test_what_cannot_be_a_configuration_is_a_programming_error(cls: type[Any]) -> None:
    with pytest.raises(TypeError):
        config.load(cls)
