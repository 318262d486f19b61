"""What a training run says while it works: JSON lines, TensorBoard, and a progress bar on a terminal."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flowtts.compat import require

LOG = "log.jsonl"


class RunLog:
    """A context manager around a run; closes its files and removes its bar whatever happens."""

    def __init__(self, out: Path, step: int, *, tensorboard: bool) -> None:
        """Starts, or continues after ``step``: rows that a killed run wrote beyond its last checkpoint go.

        Args:
            out: the run's folder.
            step: updates already done.
            tensorboard: also write ``out/tensorboard``.

        Raises:
            UserError: TensorBoard is wanted and not installed.
        """
        out.mkdir(parents=True, exist_ok=True)
        _forget(out / LOG, step)
        self._file = (out / LOG).open("a", encoding="utf-8")
        self._board: Any = None
        if tensorboard:
            require("tensorboard", "train")
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>5.1f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("starting", total=1.0)

    def __enter__(self) -> RunLog:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()
        self._file.close()
        if self._board is not None:
            self._board.close()

    def progress(self, share: float, step: int, loss: float) -> None:
        """Moves the bar to ``share`` of the run."""
        self._bar.update(self._task, completed=share, description=f"step {step} loss {loss:.4g}")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One row; what is not finite becomes null, which JSON can hold."""
        kept = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **kept}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)


def _forget(path: Path, step: int) -> None:
    """Keeps the rows up to ``step`` that are whole."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    beside = path.with_name(path.name + ".part")
    beside.write_text("".join(kept), encoding="utf-8")
    os.replace(beside, path)
