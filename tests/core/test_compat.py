"""The torchaudio repair and optional imports."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch

from flowtts import compat
from flowtts.compat import fix_torchaudio, require
from flowtts.types import UserError

EXTENSION = "torchaudio._extension"


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As if torchaudio had not been imported yet and lay, with one library, in the folder returned."""
    for name in ("torchaudio", EXTENSION):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / ("_torchaudio.pyd" if sys.platform == "win32" else "_torchaudio.so")).touch()
    spec = ModuleSpec("torchaudio", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return tmp_path


def test_real_packages_import_in_a_fresh_interpreter() -> None:
    """Imports cannot be undone, so another interpreter has to try."""
    code = (
        "from flowtts.compat import require\n"
        "require('vocos', '')\n"
        "import torch\n"
        "from vocos.feature_extractors import MelSpectrogramFeatures\n"
        "print(MelSpectrogramFeatures()(torch.zeros(1, 2560)).shape[-1])\n"
    )
    if importlib.util.find_spec("transformers") is not None:
        code += (
            "require('transformers', 'judges')\n"
            "from transformers import WavLMForXVector, WhisperForConditionalGeneration\n"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "11"


def test_extension_that_loads_is_left_alone(forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch.ops, "load_library", asked.append)
    fix_torchaudio()
    assert EXTENSION not in sys.modules and [Path(x).parent for x in asked] == [forgotten / "lib"]


def test_extension_that_does_not_load_is_replaced(forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str) -> None:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(torch.ops, "load_library", broken)
    fix_torchaudio()
    stand_in = sys.modules[EXTENSION]
    assert stand_in._IS_TORCHAUDIO_EXT_AVAILABLE is False and stand_in._check_cuda_version() is None
    aligned = stand_in.fail_if_no_align(len)
    with pytest.raises(RuntimeError, match="len needs torchaudio's compiled extension"):
        aligned([])


def test_torchaudio_without_libraries_or_absent_is_left_alone(forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    next((forgotten / "lib").iterdir()).unlink()
    fix_torchaudio()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    fix_torchaudio()
    assert EXTENSION not in sys.modules


def test_imported_torchaudio_is_not_touched(forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", torch)
    monkeypatch.setattr(compat, "_extension_loads", lambda: False)
    fix_torchaudio()
    assert EXTENSION not in sys.modules


def test_require_returns_the_module() -> None:
    assert require("json", "any").dumps({}) == "{}"


def test_require_names_the_extra_and_the_cause() -> None:
    with pytest.raises(UserError) as caught:
        require("no_such_module_anywhere", "judges")
    message = str(caught.value)
    assert "the extra 'judges': pip install 'flowtts[judges]'" in message
    assert "no_such_module_anywhere" in message and "\n" not in message
    with pytest.raises(UserError, match="pip install flowtts"):
        require("no_such_module_anywhere", "")
