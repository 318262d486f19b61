"""Importing peers, and getting past those of their imports that nothing here uses.

Nothing of a peer is changed or copied. Two things are put in the way of its imports, each only where it is needed:

* torchaudio wheels are built for CUDA; beside a CPU build of PyTorch their extension does not load, and importing the
  package fails. It imports without the extension, which the mels of F5-TTS and Vocos do not use.
* voicebox-pytorch imports text-to-semantic models, a codec and an aligner at its top, which need a fairseq that Python
  3.11 cannot import. Its sampler uses none of them, so that empty classes take their places.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

_UNUSED = (
    "naturalspeech2_pytorch", "naturalspeech2_pytorch.aligner", "naturalspeech2_pytorch.utils",
    "naturalspeech2_pytorch.utils.tokenizer", "naturalspeech2_pytorch.naturalspeech2_pytorch", "audiolm_pytorch",
    "spear_tts_pytorch",
)  # fmt: skip


class Absent(Exception):
    """A peer cannot be imported; the message says why in one line."""


def peer(module: str) -> Any:
    """A peer's module.

    Raises:
        Absent: it is not installed, or one of its imports fails.
    """
    package = module.partition(".")[0]
    try:
        with _quiet():
            if package in ("f5_tts", "voicebox_pytorch", "vocos"):
                import_torchaudio()
            if package == "voicebox_pytorch":
                for name in _UNUSED:
                    sys.modules.setdefault(name, _Empty(name))
            return import_module(module)
    except Exception as error:  # whatever a stranger's import raises, the others still run
        reason = (str(error).splitlines() or [""])[0]
        raise Absent(f"{package} is left out: {type(error).__name__}: {reason}") from error


class _Empty(ModuleType):
    """A module in which every name is an empty class."""

    __path__: list[str] = []  # noqa: RUF012 (the import system wants a list)

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {})
        setattr(self, name, made)
        return made


def import_torchaudio() -> None:
    """Import torchaudio, with its extension if that loads.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import_module("torchaudio")
        return
    except OSError:
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
    without = ModuleType("torchaudio._extension")
    without.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=lambda function: function, _check_cuda_version=lambda: None,
    )  # fmt: skip
    sys.modules["torchaudio._extension"] = without
    import_module("torchaudio")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Peers warn and print while they are imported."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
