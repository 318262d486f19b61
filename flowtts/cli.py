"""The command ``flowtts``: its verbs, and what every verb does when something goes wrong.

Exit status: 0 done, 1 failed while working, 2 asked wrongly, 130 stopped with Ctrl-C. A mistake of the user's is one
line on standard error. ``FLOWTTS_DEBUG=1`` adds the traceback, and shows what libraries print.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TextIO

import typer

from flowtts import __version__
from flowtts.commands.align import align
from flowtts.commands.bench import bench
from flowtts.commands.compare import compare
from flowtts.commands.convert import convert
from flowtts.commands.decode import decode
from flowtts.commands.detect import detect
from flowtts.commands.edit import denoise, edit, fill
from flowtts.commands.encode import encode
from flowtts.commands.evaluate import evaluate
from flowtts.commands.models import models
from flowtts.commands.prepare import prepare
from flowtts.commands.pull import pull
from flowtts.commands.replay import replay
from flowtts.commands.restyle import continue_, restyle
from flowtts.commands.sample import sample
from flowtts.commands.say import say
from flowtts.commands.terminal import Misuse, Terminal, Verb, debugging
from flowtts.commands.train import train
from flowtts.commands.vocode import vocode
from flowtts.commands.voice import voice

# typer brings its own click, or the separate one, depending on its version; both derive BadParameter from UsageError.
_USAGE_ERROR: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="flowtts",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _verb in (
    say, edit, fill, denoise, restyle, continue_, sample, voice, align, prepare, train, convert, pull, vocode, encode,
    decode, evaluate, bench, compare, detect, models, replay,
):  # fmt: skip
    app.command(_verb.__name__.rstrip("_"), cls=Verb)(_verb)


@app.callback()
def _flowtts(
    ctx: typer.Context, version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> None:
    """Diffusion and flow-matching text-to-speech: speak, edit, align, train, compare."""
    if version:
        typer.echo(f"flowtts {__version__}")
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after ``flowtts``; those of the process if not given.

    Returns:
        The exit status.
    """
    streams = Terminal(sys.stdout, sys.stderr)
    command = typer.main.get_command(app)
    try:
        with _warnings_last(streams.err):
            status = command.main(argv, prog_name="flowtts", standalone_mode=False, obj=streams)
            streams.out.flush()
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more when it flushes on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), streams.out.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        status, line = _explain(error)
        if debugging():
            streams.message(traceback.format_exc())
        streams.message(f"flowtts: {line}")
    return status if isinstance(status, int) else 0


def _explain(error: Exception) -> tuple[int, str]:
    """The exit status and the one line for whatever a verb raised."""
    if isinstance(error, _USAGE_ERROR):
        where = "flowtts" if error.ctx is None else error.ctx.command_path
        return 2, f"{_one_line(error.format_message())} (see {where} --help)"
    if isinstance(error, Misuse):
        return 2, _one_line(error)
    # Imported already if a UserError was raised at all; importing it here could itself fail where torch is broken.
    types = sys.modules.get("flowtts.types")
    if types is not None and isinstance(error, types.UserError):
        return 2, _one_line(error)
    if _is_out_of_memory(error):
        return 2, "not enough memory; use shorter text or recordings, fewer candidates, or --device cpu"
    return 1, f"{type(error).__name__}: {_one_line(error)} (FLOWTTS_DEBUG=1 shows where)"


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, CUDA, or PyTorch's CPU allocator (which has no exception of its own) ran out of memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


@contextmanager
def _warnings_last(stream: TextIO) -> Iterator[None]:
    """Log to standard error, but only once the verb has succeeded: a mistake must give exactly one line."""
    target = logging.StreamHandler(stream)
    target.setFormatter(logging.Formatter("flowtts: %(message)s"))
    handler = logging.handlers.MemoryHandler(1000, logging.CRITICAL, target, flushOnClose=False)
    ours = logging.getLogger("flowtts")
    others: logging.Handler = target if debugging() else logging.NullHandler()
    ours.addHandler(handler)
    logging.getLogger().addHandler(others)
    try:
        yield
        handler.flush()
    finally:
        ours.removeHandler(handler)
        logging.getLogger().removeHandler(others)
        handler.close()
