"""What every verb does: exit status, one line on standard error, nothing but the result on standard output."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer

import flowtts
from flowtts import cli
from flowtts.commands.terminal import Misuse, Terminal, Verb, terminal
from flowtts.types import UserError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """(function of a terminal) -> exit status, standard output and standard error of a verb that calls it."""
    monkeypatch.delenv("FLOWTTS_DEBUG", raising=False)

    def call(body: Callable[[Terminal], object]) -> tuple[int, str, str]:
        app = typer.Typer()

        @app.callback()
        def group() -> None: ...

        @app.command(cls=Verb)
        def work(ctx: typer.Context) -> None:
            body(terminal(ctx))

        monkeypatch.setattr(cli, "app", app)
        status = cli.main(["work"])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def fail(error: BaseException) -> Callable[[Terminal], None]:
    def body(_: Terminal) -> None:
        raise error

    return body


@pytest.mark.parametrize(
    "error", [UserError("a.wav: no such file;\n  check the path"), Misuse("a.wav: no such file; check the path")]
)
def test_a_mistake_of_the_users_is_one_line_and_status_2(run: Run, error: Exception) -> None:
    assert run(fail(error)) == (2, "", "flowtts: a.wav: no such file; check the path\n")


def test_a_mistake_of_ours_is_one_line_that_says_how_to_see_more(run: Run) -> None:
    status, out, err = run(fail(ValueError("first\nsecond")))
    assert (status, out) == (1, "")
    assert err == "flowtts: ValueError: first second (FLOWTTS_DEBUG=1 shows where)\n"


def test_debugging_shows_the_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def body(_: Terminal) -> None:
        monkeypatch.setenv("FLOWTTS_DEBUG", "1")
        raise UserError("wrong")

    status, _, err = run(body)
    assert status == 2
    assert "Traceback" in err and err.endswith("flowtts: wrong\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried …"),
        __import__("torch").OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_too_little_memory_is_said_in_words(run: Run, error: Exception) -> None:
    status, _, err = run(fail(error))
    assert status == 2
    assert err.startswith("flowtts: not enough memory; ") and err.count("\n") == 1


def test_ctrl_c_is_130_without_a_word(run: Run) -> None:
    assert run(fail(KeyboardInterrupt())) == (130, "", "")


def test_what_libraries_print_and_warn_reaches_neither_stream(run: Run) -> None:
    def body(term: Terminal) -> None:
        print("Loaded the voice encoder!")
        warnings.warn("old", stacklevel=1)
        logging.getLogger("transformers").warning("weights were not used")
        term.result({"a": 1})

    assert run(body) == (0, '{"a": 1}\n', "")


def test_our_own_warnings_follow_a_success_and_are_dropped_by_a_mistake(run: Run) -> None:
    def body(term: Terminal) -> None:
        logging.getLogger("flowtts.pipeline").warning("the voice was cut to 15 s")

    assert run(body) == (0, "", "flowtts: the voice was cut to 15 s\n")

    def mistaken(term: Terminal) -> None:
        body(term)
        raise UserError("wrong")

    assert run(mistaken) == (2, "", "flowtts: wrong\n")


def test_main_leaves_the_loggers_as_they_were(run: Run) -> None:
    before = list(logging.getLogger("flowtts").handlers), list(logging.getLogger().handlers)
    run(fail(UserError("wrong")))
    run(lambda _: None)
    assert (list(logging.getLogger("flowtts").handlers), list(logging.getLogger().handlers)) == before


def test_json_holds_only_what_json_knows(run: Run) -> None:
    payload = {"path": Path("a/b.wav"), "value": np.float32(0.5), "nan": float("nan"), "tuple": (1, None), "é": True}
    _, out, _ = run(lambda term: term.result(payload))
    assert json.loads(out) == {"path": "a/b.wav", "value": 0.5, "nan": None, "tuple": [1, None], "é": True}
    assert out.isascii() and out.count("\n") == 1


def test_progress_is_invisible_where_there_is_no_terminal(run: Run) -> None:
    def body(term: Terminal) -> None:
        with term.progress("speaking", 2) as bar:
            bar.advance()
            bar.message("0001.wav: 1.00 s")
            bar.set(2)

    assert run(body) == (0, "", "0001.wav: 1.00 s\n")


def test_a_table_in_a_pipe_is_not_wrapped(run: Run) -> None:
    _, out, _ = run(lambda term: term.table("Title", ("a", "b"), [("x" * 300, "[bold]y[/bold]")]))
    assert "x" * 300 + "  [bold]y[/bold]" in out


# --- the real command ------------------------------------------------------------------------------------------------


def command(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flowtts", *words], input=stdin, capture_output=True, text=True, check=False
    )


def test_help_lists_the_verbs() -> None:
    done = command("--help")
    assert done.returncode == 0 and done.stderr == ""
    for verb in ("say", "align", "prepare", "train", "vocode", "evaluate", "models", "replay"):
        assert verb in done.stdout
    assert command().stdout == done.stdout


def test_version() -> None:
    assert command("--version").stdout == f"flowtts {flowtts.__version__}\n"


@pytest.mark.parametrize("words", [("sya", "hello"), ("say", "--sed", "1", "hello"), ("say", "a", "b")])
def test_a_typing_mistake_is_one_line_and_status_2(words: tuple[str, ...]) -> None:
    done = command(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flowtts: ") and done.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_not_an_error() -> None:
    """``flowtts models | head -0``"""
    program = [sys.executable, "-m", "flowtts", "models"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
