"""Checkpoints: round trips, atomicity, and every way a folder can be wrong."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowtts import checkpoint, config
from flowtts.types import UserError


@dataclass(frozen=True)
class Net:
    width: int = 4
    betas: tuple[float, ...] = (0.1, 0.2)


SYMBOLS = ("PAD", "SIL,", "AH0_B", "#", "\u2028", " ")


def state() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {"b": torch.randn(3, 4, generator=rng), "a": torch.arange(3), "half": torch.ones(2, dtype=torch.bfloat16)}


def write(folder: Path, **changes: Any) -> Path:
    arguments: dict[str, Any] = {"kind": "toy", "config": Net(width=5), "state": state(), "vocabulary": SYMBOLS}
    return checkpoint.save(folder, **(arguments | changes))


def test_round_trip(tmp_path: Path) -> None:
    folder = write(tmp_path / "a" / "b", readme="# Toy\n")
    loaded = checkpoint.load(folder)
    assert loaded.kind == "toy" and loaded.vocabulary == SYMBOLS and loaded.folder == folder
    assert config.load(Net, loaded.config) == Net(width=5)
    assert loaded.state.keys() == state().keys()
    assert torch.equal(loaded.state["b"], state()["b"]) and loaded.state["a"].dtype == torch.int64
    assert loaded.state["half"].dtype == torch.float32
    assert (folder / "README.md").read_text() == "# Toy\n"
    assert config.read_yaml(folder / "config.yaml")["format"] == 1
    assert sorted(os.listdir(tmp_path / "a")) == ["b"]


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    folder = write(tmp_path / "a")
    assert {path.stat().st_mode for path in folder.iterdir()} == {(tmp_path / "plain").stat().st_mode}


def test_hash_is_of_the_weights_alone_and_repeats(tmp_path: Path) -> None:
    first = checkpoint.load(write(tmp_path / "a")).hash
    assert len(first) == 12 and first == checkpoint.load(write(tmp_path / "b", kind="other")).hash
    changed = state()
    changed["b"][0, 0] += 1
    assert checkpoint.load(write(tmp_path / "c", state=changed)).hash != first


def test_half_precision_on_disk_is_float32_in_memory(tmp_path: Path) -> None:
    big = {"small": torch.tensor([1 / 3]), "big": torch.tensor([1e6]), "ids": torch.tensor([70_000])}
    folder = write(tmp_path / "a", state=big, dtype=torch.float16)
    loaded = checkpoint.load(folder).state
    assert loaded["small"].dtype == torch.float32 and loaded["small"] == torch.tensor([1 / 3]).half().float()
    assert loaded["big"].item() == 1e6, "float16 would have made it infinite"
    assert loaded["ids"].item() == 70_000


def test_shared_and_strided_tensors_can_be_saved(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    loaded = checkpoint.load(write(tmp_path / "a", state={"x": base, "y": base, "z": base.T})).state
    assert torch.equal(loaded["x"], base) and torch.equal(loaded["z"], base.T)


def test_saving_again_replaces_and_failing_leaves_the_old_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    write(folder, kind="newer", vocabulary=None)
    assert checkpoint.load(folder).kind == "newer" and checkpoint.load(folder).vocabulary is None

    def fail(_: Path) -> None:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write(folder, kind="newest", extra=fail)
    assert checkpoint.load(folder).kind == "newer"
    assert os.listdir(tmp_path) == ["a"], "no temporary folder stays"


def test_other_peoples_folders_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not a checkpoint"):
        write(tmp_path)
    with pytest.raises(UserError, match="cannot write"):
        write(tmp_path / "thesis.tex" / "a")
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("symbol", ["", "a\nb"])
def test_impossible_symbols_are_refused(tmp_path: Path, symbol: str) -> None:
    with pytest.raises(ValueError, match="line breaks"):
        write(tmp_path / "a", vocabulary=("a", symbol))
    assert not os.listdir(tmp_path)


def broken(folder: Path, how: str) -> None:
    weights, header = folder / "model.safetensors", folder / "config.yaml"
    if how == "no weights":
        weights.unlink()
    elif how == "no config":
        header.unlink()
    elif how == "half weights":
        weights.write_bytes(weights.read_bytes()[:-20])
    elif how == "not weights":
        weights.write_bytes(b"hello")
    elif how == "empty weights":
        weights.write_bytes(b"")
    elif how == "future":
        header.write_text(header.read_text().replace("format: 1", "format: 3"))
    elif how == "no format":
        header.write_text("a: 1\n")
    elif how == "no kind":
        header.write_text("format: 1\nconfig: {}\n")
    else:
        header.write_text("a: [")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no weights", "model.safetensors is missing"),
        ("no config", "has no config.yaml"),
        ("half weights", "model.safetensors is broken"),
        ("not weights", "model.safetensors is broken"),
        ("empty weights", "model.safetensors is broken"),
        ("future", "has format 3"),
        ("no format", "has format no"),
        ("no kind", "needs the keys kind and config"),
        ("bad yaml", "not valid YAML"),
    ],
)
def test_broken_folders(tmp_path: Path, how: str, said: str) -> None:
    folder = write(tmp_path / "a")
    broken(folder, how)
    with pytest.raises(UserError, match=said) as caught:
        checkpoint.load(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path / "package")
    write(tmp_path / "package" / "voicebox-small")
    run = tmp_path / "run"
    for step in (9, 10, 100):
        write(run / "checkpoints" / f"step-{step}")
    (run / "checkpoints" / "step-200").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voicebox-small").mkdir()
    assert checkpoint.shipped() == ["voicebox-small"]
    assert checkpoint.find("voicebox-small") == tmp_path / "package" / "voicebox-small"
    assert checkpoint.find("run/checkpoints/step-9") == Path("run/checkpoints/step-9")
    assert checkpoint.find(run).name == "step-100", "the newest by number that is whole"
    assert [path.name for path in checkpoint.steps(run)] == ["step-9", "step-10", "step-100"]
    with pytest.raises(UserError, match=r"voicebox-smal; did you mean voicebox-small\? \(shipped: voicebox-small"):
        checkpoint.find("voicebox-smal")
    with pytest.raises(UserError, match="is not a checkpoint"):
        checkpoint.find(tmp_path / "run" / "checkpoints" / "step-200")


def test_weights_must_fit_exactly() -> None:
    good = nn.Linear(2, 3).state_dict()
    module = nn.Linear(2, 3)
    checkpoint.load_state(module, good)
    assert torch.equal(module.weight, good["weight"])
    for wrong, said in (
        ({"weight": good["weight"]}, "bias is missing"),
        (good | {"gain": torch.ones(1)}, "gain is unknown"),
        (good | {"bias": torch.ones(4)}, r"bias is \(4,\), not \(3,\)"),
        ({f"x{i}": torch.ones(1) for i in range(5)}, "and 4 more"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            checkpoint.load_state(module, wrong, "folder/x")
        assert "folder/x does not fit Linear" in str(caught.value)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("bomb",))


def test_pickles_are_read_only_where_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(2)}, "good.pth")
    torch.save({"w": Bomb()}, "bad.pth")
    Path("worse.pth").write_bytes(pickle.dumps(Bomb()))
    assert torch.equal(checkpoint.read_torch("good.pth")["w"], torch.ones(2))
    for name in ("bad.pth", "worse.pth", "missing.pth"):
        with pytest.raises(UserError, match=name) as caught:
            checkpoint.read_torch(name)
        assert "\n" not in str(caught.value)
    assert not Path("bomb").exists()


def test_eight_bits_on_disk_are_floats_in_memory_within_half_a_step_of_their_row(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    state = {
        "wide.weight": torch.randn(96, 64, generator=rng) * torch.logspace(-3, 3, 96)[:, None],
        "conv.weight": torch.randn(80, 16, 5, generator=rng),
        "bias": torch.randn(96, generator=rng),
        "steps": torch.tensor([1, 2, 3]),
        "zero.weight": torch.zeros(64, 64),
    }
    folder = checkpoint.save(tmp_path / "m", kind="x", config={}, state=state, dtype=torch.int8)
    found = checkpoint.load(folder).state
    assert found.keys() == state.keys()
    for name in ("wide.weight", "conv.weight"):
        step = state[name].flatten(1).abs().amax(1) / 127
        error = (found[name] - state[name]).flatten(1).abs().amax(1)
        assert bool((error <= 0.5001 * step).all()) and found[name].dtype == torch.float32
    assert torch.equal(found["zero.weight"], state["zero.weight"]) and torch.equal(found["steps"], state["steps"])
    torch.testing.assert_close(found["bias"], state["bias"], atol=2e-3, rtol=2e-3)
    elements = sum(value.numel() for value in state.values())
    assert (folder / "model.safetensors").stat().st_size < 1.2 * elements + 2000


def test_a_checkpoint_in_eight_bits_without_its_scales_is_broken(tmp_path: Path) -> None:
    state = {"w.weight": torch.ones(64, 64)}
    folder = checkpoint.save(tmp_path / "m", kind="x", config={}, state=state, dtype=torch.int8)
    held = checkpoint.load_tensors(folder / "model.safetensors")
    checkpoint.save_tensors(folder / "model.safetensors", {"w.weight:int8": held["w.weight:int8"]})
    with pytest.raises(UserError, match=r"lacks w\.weight:scale"):
        checkpoint.load(folder)
