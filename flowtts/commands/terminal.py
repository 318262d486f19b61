"""Where a verb's words go: results to standard output, everything else to standard error."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand


class Misuse(Exception):
    """A mistake that the command line alone can see. One line, exit status 2, like ``flowtts.types.UserError``.

    A class of its own because ``flowtts.types`` imports torch, and a typing mistake should not wait for that.
    """


def debugging() -> bool:
    """Whether FLOWTTS_DEBUG asks for tracebacks and for what libraries print."""
    return os.environ.get("FLOWTTS_DEBUG", "") not in ("", "0")


class Verb(TyperCommand):
    """A command whose libraries are kept off the terminal.

    Packages that we call print greetings and warn about their own internals. Standard output belongs to the result,
    and a mistake must give exactly one line on standard error.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command with ``print`` and warnings of libraries discarded."""
        if debugging():
            with redirect_stdout(sys.stderr):
                return super().invoke(ctx)
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().invoke(ctx)


@dataclass(frozen=True)
class Terminal:
    """The two streams of a command.

    Attributes:
        out: results.
        err: messages and progress.
    """

    out: TextIO
    err: TextIO

    def result(self, payload: Mapping[str, Any]) -> None:
        """Write one JSON object, on one line, to standard output."""
        self.out.write(json.dumps(_plain(payload), allow_nan=False) + "\n")
        self.out.flush()

    def show(self, text: str) -> None:
        """Write lines of a result that a person reads to standard output."""
        self.out.write(text + "\n")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a line and a table to standard output."""
        self.show(title)
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        self.rich(table)

    def rich(self, table: Table) -> None:
        """Write a table to standard output; wide cells wrap at a terminal's width, never in a pipe."""
        wide = None if self.out.isatty() else 10_000
        console = Console(file=self.out, width=wide, highlight=False)
        with console.capture() as capture:
            console.print(table)
        self.out.write("\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n\n")

    def message(self, text: str) -> None:
        """Write a line to standard error."""
        self.err.write(text + "\n")
        self.err.flush()

    @contextmanager
    def progress(self, description: str, total: int | None) -> Iterator[_Bar]:
        """A bar with the time that is left, on standard error; invisible unless that is a terminal."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(file=self.err)
        with Progress(*columns, console=console, transient=True, disable=not self.err.isatty()) as progress:
            yield _Bar(progress, progress.add_task(description, total=total))


@dataclass(frozen=True)
class _Bar:
    """A running progress bar."""

    progress: Progress
    task: Any

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` more as done."""
        self.progress.advance(self.task, steps)

    def message(self, text: str) -> None:
        """Write a line above the bar."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def set(self, done: int, total: int | None = None, description: str | None = None) -> None:
        """Count ``done`` of ``total`` as done."""
        self.progress.update(self.task, completed=done, total=total, description=description)


def terminal(ctx: typer.Context) -> Terminal:
    """The streams that ``flowtts.cli.main`` gave the running command."""
    found = ctx.find_object(Terminal)
    return Terminal(sys.stdout, sys.stderr) if found is None else found


def _plain(value: Any) -> Any:
    """Only what JSON knows: paths become strings, numbers of numpy become numbers, NaN and infinities null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (Sequence, set, frozenset)):
        return [_plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    return _plain(value.item())
