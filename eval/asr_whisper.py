"""OpenAI Whisper as a judge of intelligibility (arXiv 2212.04356), from files already on the machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flowtts.compat import require
from flowtts.types import Audio, UserError

from .judging import UnjudgeableError, judged

DEFAULT_SIZE = "base.en"
# Two of openai-whisper's names stand for files of another name.
_FILES = {"large": "large-v3", "turbo": "large-v3-turbo"}


def checkpoint(option: str) -> Path:
    """Where a checkpoint lies: the path given, or the file of that size in Whisper's own cache.

    Raises:
        UserError: there is no such file; it is never downloaded.
    """
    if Path(option).suffix == ".pt" or "/" in option:
        path = Path(option).expanduser()
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        path = cache / "whisper" / f"{_FILES.get(option, option)}.pt"
    if not path.is_file():
        raise UserError(f"{path}: no such Whisper checkpoint; put it there or name a file: wer-whisper:/path/to/it.pt")
    return path


@dataclass(frozen=True)
class Whisper:
    """Decoding at temperature 0 without fallback, so that a transcript is reproducible: greedy, or with a beam.

    Attributes:
        option: a size ("base.en", "large-v3", ...) in Whisper's cache, or a path.
        device: where it runs.
        beam: hypotheses kept; None for greedy decoding.

    Raises:
        UserError: ``beam`` is no such number, there is no such checkpoint, or the extra "whisper" is missing.
    """

    option: str = DEFAULT_SIZE
    device: str = "cpu"
    beam: int | None = None

    def __post_init__(self) -> None:
        if self.beam is not None and self.beam < 1:
            raise UserError(f"Whisper cannot keep {self.beam} hypotheses; beam must be 1 or more")
        require("whisper", "whisper")
        checkpoint(self.option)

    @property
    def backend(self) -> str:
        """The package, its version and the checkpoint."""
        kept = "" if self.beam is None else f", beam {self.beam}"
        return f"openai-whisper {version('openai-whisper')} ({checkpoint(self.option).stem}{kept})"

    def open(self, texts: Sequence[str]) -> Callable[[Audio], str]:
        """Load the model.

        Raises:
            UserError: the file is no Whisper checkpoint.
        """
        whisper: Any = require("whisper", "whisper")
        path = checkpoint(self.option)
        try:
            model = whisper.load_model(str(path), device=self.device)
        except Exception as error:
            raise UserError(f"{path}: is no Whisper checkpoint ({type(error).__name__}); fetch it again") from error

        def transcribe(audio: Audio) -> str:
            try:
                samples = judged(audio)
            except UnjudgeableError:
                return ""
            result = model.transcribe(
                samples,
                language="en",
                temperature=0.0,
                beam_size=self.beam,
                condition_on_previous_text=False,
                fp16=self.device != "cpu",
            )
            return str(result["text"])

        return transcribe
