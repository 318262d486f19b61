"""Optional packages, and one installed package that often cannot be imported.

A torchaudio built for CUDA, installed beside a CPU build of PyTorch, raises ``OSError`` on import because its
compiled extension wants CUDA's libraries. ``vocos``, ``transformers`` and ``diffusers`` import torchaudio whenever it
is installed and fail with it, although they use none of the extension. ``fix_torchaudio`` steps in there and only
there.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch

from flowtts.types import UserError

_EXTENSION = "torchaudio._extension"


def fix_torchaudio() -> None:
    """Make ``import torchaudio`` work where its compiled extension cannot be loaded.

    Does nothing if torchaudio is absent, already imported, or able to load its extension. Otherwise the extension's
    package is replaced by one that says "not available", which is what torchaudio itself does when it ships
    without its libraries: everything written in Python then works, forced alignment raises when called.
    """
    if "torchaudio" in sys.modules or _EXTENSION in sys.modules or _extension_loads():
        return
    stand_in = ModuleType(_EXTENSION)
    names: dict[str, object] = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "_check_cuda_version": lambda: None,
        "fail_if_no_align": _unavailable,
    }
    vars(stand_in).update(names)
    sys.modules[_EXTENSION] = stand_in


def require(module: str, extra: str) -> ModuleType:
    """Import a package that may be missing.

    Args:
        module: dotted name, e.g. ``"transformers"``.
        extra: the extra of flowtts that brings it; ``""`` for a dependency that every installation should have.

    Raises:
        UserError: it, or something it needs, is not installed or cannot be loaded.
    """
    fix_torchaudio()
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        remedy = (
            f"needs the extra '{extra}': pip install 'flowtts[{extra}]'" if extra else "is missing: pip install flowtts"
        )
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{module} {remedy} ({cause})") from error


def _extension_loads() -> bool:
    """Whether torchaudio's libraries load, asked of the loader: importing torchaudio to see would leave debris."""
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        return True
    suffix = ".pyd" if sys.platform == "win32" else ".so"
    libraries = sorted((Path(spec.origin).parent / "lib").glob(f"*torchaudio*{suffix}"))
    try:
        for library in libraries:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return True


def _unavailable(function: Callable[..., Any]) -> Callable[..., NoReturn]:
    """Decorator of the functions that cannot work without the extension."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(f"{function.__name__} needs torchaudio's compiled extension, which cannot be loaded here")

    return fail
