"""The torchaudio repair and optional imports."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from flowtts.compat import require
from flowtts.types import UserError


def _python(code: str) -> str:
    """Runs code in a fresh interpreter, since imports cannot be undone in this one."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_vocos_imports_after_fix() -> None:
    out = _python(
        "from flowtts.compat import fix_torchaudio; fix_torchaudio()\n"
        "import vocos, torch\n"
        "from vocos.feature_extractors import MelSpectrogramFeatures\n"
        "print(MelSpectrogramFeatures()(torch.zeros(1, 2560)).shape[-1])"
    )
    assert out == "11"


def test_transformers_models_import_after_require() -> None:
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    out = _python(
        "from flowtts.compat import require\n"
        "require('transformers', 'hf')\n"
        "from transformers import WavLMForXVector, WhisperForConditionalGeneration\n"
        "print(WavLMForXVector.__name__, WhisperForConditionalGeneration.__name__)"
    )
    assert out == "WavLMForXVector WhisperForConditionalGeneration"


def test_extension_that_loads_is_left_alone() -> None:
    out = _python(
        "import sys, torch, flowtts.compat as compat\n"
        "torch.ops.load_library = lambda path: None\n"
        "compat.fix_torchaudio()\n"
        "print('torchaudio._extension' in sys.modules)"
    )
    assert out == "False"


def test_absent_torchaudio_is_left_absent() -> None:
    out = _python(
        "import sys, importlib.util\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'torchaudio' else real(name, *rest)\n"
        "import flowtts.compat as compat\n"
        "compat.fix_torchaudio()\n"
        "print('torchaudio._extension' in sys.modules)"
    )
    assert out == "False"


def test_what_needs_the_extension_says_so_when_called() -> None:
    out = _python(
        "import torch, flowtts.compat as compat\n"
        "def broken(path): raise OSError('libcudart')\n"
        "torch.ops.load_library = broken\n"
        "compat.fix_torchaudio()\n"
        "import torchaudio\n"
        "try:\n"
        "    torchaudio.functional.forced_align(None, None)\n"
        "except RuntimeError as error:\n"
        "    print('extension' in str(error))"
    )
    assert out == "True"


def test_require_returns_the_module() -> None:
    assert require("json", "any").dumps({}) == "{}"


def test_require_names_the_extra_and_the_cause() -> None:
    with pytest.raises(UserError) as caught:
        require("no_such_module_anywhere", "judges")
    message = str(caught.value)
    assert "the extra 'judges': pip install 'flowtts[judges]'" in message
    assert "no_such_module_anywhere" in message and "\n" not in message
