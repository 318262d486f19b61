"""``flowtts say``: text to speech."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowtts.commands.options import (
    LONGEST,
    Decoding,
    Device,
    Engine,
    Grid,
    Guidance,
    Json,
    Lexicon,
    Model,
    Seed,
    Sidecar,
    Solver,
    Steps,
    Tag,
    VocoderName,
    WordsFile,
    existing_file,
    finite,
    lines_of,
    output_folder,
    text_or_stdin,
)
from flowtts.commands.outputs import Outputs, numbered
from flowtts.commands.terminal import Misuse, Terminal, terminal

if TYPE_CHECKING:
    from flowtts.pipeline import Pipeline
    from flowtts.speech import Plan, Speech


class Rank(str, Enum):
    """What chooses among candidates: the words that are heard, the voice, or a network that knows the text."""

    wer = "wer"
    sim = "sim"
    clvp = "clvp"


@dataclass(frozen=True)
class _Request:
    """The options of ``say`` that the pipeline takes, the same for every line."""

    voice: str | None
    voice_text: str | None
    seed: int
    steps: int | None
    solver: str | None
    grid: str | None
    guidance: str | None
    speed: float
    duration: float | None
    best_of: int | None
    rank: str | None
    preset: str | None
    decoding: str | None
    lexicon: Path | None

    def plan(self, tts: Pipeline, text: str) -> Plan:
        """What would be said, without saying it."""
        return tts.plan(
            text, voice=self.voice, voice_text=self.voice_text, seed=self.seed, steps=self.steps, solver=self.solver,
            grid=self.grid, guidance=self.guidance, speed=self.speed, duration=self.duration, best_of=self.best_of,
            rank=self.rank, preset=self.preset, decoding=self.decoding, lexicon=self.lexicon,
        )  # fmt: skip

    def say(self, tts: Pipeline, text: str) -> Speech:
        """The text, spoken."""
        return tts.say(
            text, voice=self.voice, voice_text=self.voice_text, seed=self.seed, steps=self.steps, solver=self.solver,
            grid=self.grid, guidance=self.guidance, speed=self.speed, duration=self.duration, best_of=self.best_of,
            rank=self.rank, preset=self.preset, decoding=self.decoding, lexicon=self.lexicon,
        )  # fmt: skip


def say(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(help="What to say; - reads standard input.")] = None,
    lines: Annotated[Path | None, typer.Option(help="A text file: one recording per line, 0001.wav …")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File; a folder with --lines.")] = None,
    voice: Annotated[
        str | None, typer.Option(help="A recording, a shipped voice's name; Tortoise: or a folder, or a kept voice.")
    ] = None,
    voice_text: Annotated[str | None, typer.Option(help="What it says; recognised if not given.")] = None,
    model: Model = "voicebox",
    vocoder: VocoderName = "auto",
    seed: Seed = 0,
    steps: Steps = None,
    solver: Solver = None,
    grid: Grid = None,
    guidance: Guidance = None,
    speed: Annotated[float, typer.Option(min=0.25, max=4, callback=finite, help="2 is twice as fast.")] = 1.0,
    duration: Annotated[float | None, typer.Option(min=0.1, max=LONGEST, callback=finite, help="Seconds.")] = None,
    best_of: Annotated[
        int | None, typer.Option("--best-of", min=1, max=512, help="Candidates to choose among.")
    ] = None,
    rank: Annotated[
        Rank | None, typer.Option(help="What chooses: words heard, likeness of the voice, or CLVP; as the model wants.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Tortoise: ultra_fast, fast, standard or high_quality; other options go before.")
    ] = None,
    decoding: Decoding = None,
    lexicon: Lexicon = None,
    words: WordsFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show words, phones and times; make nothing.")] = False,
    sidecar: Sidecar = True,
    device: Device = "auto",
    engine: Engine = "auto",
    tag: Tag = True,
    json: Json = False,
) -> None:
    """Say a text, in a voice taken from a recording.

    With --lines, --words words.srt writes words.0001.srt and so on.
    """
    if (text is None) == (lines is None):
        raise Misuse("give either TEXT or --lines FILE")
    if voice_text is not None and voice is None:
        raise Misuse("--voice-text says what a recording says; give the recording with --voice")
    if lexicon is not None:
        existing_file(lexicon, "lexicon")
    request = _Request(
        voice, voice_text, seed, steps, solver, grid, guidance, speed, duration, best_of,
        None if rank is None else rank.value, preset, decoding, lexicon,
    )  # fmt: skip
    if dry_run and words is not None:
        raise Misuse("--dry-run makes nothing to write --words of; leave one of them out")
    jobs = _jobs(text, lines, Outputs(Path("out.wav") if output is None else output, sidecar, words), output, voice)

    import flowtts

    tts = flowtts.load(model, vocoder=vocoder, device=device, engine=engine, tag=tag)
    if dry_run:
        _dry_run(terminal(ctx), request, tts, jobs, json)
    else:
        _speak(terminal(ctx), request, tts, jobs, json)


@dataclass(frozen=True)
class _Job:
    """One recording to make. ``line`` is 0 where the text is not from a file."""

    text: str
    to: Outputs
    line: int = 0


def _jobs(text: str | None, lines: Path | None, to: Outputs, folder: Path | None, voice: str | None) -> list[_Job]:
    """What to say and where to put it: in ``to``, or with ``lines`` in ``folder``.

    Raises:
        Misuse: no text, or nowhere to put it.
    """
    inputs = tuple(Path(path) for path in (voice, lines) if path is not None)
    if lines is None:
        to.check(inputs)
        return [_Job(text_or_stdin(text or ""), to)]
    if folder is None:
        raise Misuse("--lines needs a folder: give it with -o FOLDER")
    output_folder(folder)
    return [
        _Job(
            line,
            replace(to, audio=folder / f"{number:04d}.wav", words=numbered(to.words, number)).check(inputs),
            number,
        )
        for number, line in lines_of(lines)
    ]


def _dry_run(term: Terminal, request: _Request, tts: Pipeline, jobs: list[_Job], json: bool) -> None:
    for job in jobs:
        with _named(job):
            info = request.plan(tts, job.text).info()
        if json:
            term.result(info)
        else:
            _show_plan(term, info)


def _speak(term: Terminal, request: _Request, tts: Pipeline, jobs: list[_Job], json: bool) -> None:
    if len(jobs) > 1:
        # Cheap, and better than finding line 900 unpronounceable after an hour.
        for job in jobs:
            with _named(job):
                request.plan(tts, job.text)
    with term.progress("speaking", len(jobs)) as bar:
        for job in jobs:
            with _named(job):
                speech = request.say(tts, job.text)
            job.to.save(speech)
            if json:
                term.result(speech.info(job.to.audio))
            else:
                cost = f"{speech.network_calls} network calls, {tts.engine}"
                bar.message(f"{job.to.audio}: {speech.seconds:.2f} s ({cost})")
            bar.advance()


@contextmanager
def _named(job: _Job) -> Iterator[None]:
    """Let a mistake in one line of a file say which line."""
    from flowtts.types import UserError

    try:
        yield
    except UserError as error:
        raise (UserError(f"line {job.line}: {error}") if job.line else error) from error


def _show_plan(term: Terminal, info: Mapping[str, Any]) -> None:
    """What would be said, for a person."""
    rows = [(word["text"], f"{word['start']:.2f}", f"{word['end']:.2f}") for word in info["words"]]
    term.table(f"{info['normalised']}  ({info['seconds']:.2f} s)", ("word", "start", "end"), rows)
    term.show("phones: " + " ".join(phone["phone"] for phone in info["phones"]))
