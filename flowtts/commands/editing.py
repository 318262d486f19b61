"""What the verbs that change a recording share: names of outputs, checks, and how the result is shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowtts.commands.options import existing_file, sound_suffixes
from flowtts.commands.outputs import Outputs, Result
from flowtts.commands.terminal import Misuse, Terminal, terminal

if TYPE_CHECKING:
    from flowtts.edit.request import Progress
    from flowtts.edit.result import Edited
    from flowtts.pipeline import Pipeline

_LOSSY = (".mp3", ".ogg", ".oga", ".opus")

log = logging.getLogger(__name__)

Input = Annotated[Path, typer.Argument(metavar="IN.wav", help="A recording.")]
Text = Annotated[str | None, typer.Option("--text", help="What is said in the recording; - reads standard input.")]
TextFile = Annotated[Path | None, typer.Option("--text-file", help="The same from a file, for long recordings.")]
Spans = Annotated[
    list[str] | None, typer.Option("--span", metavar="START:END", help="Seconds; may be given again for more.")
]


class Rank(str, Enum):
    """What chooses among candidates."""

    wer = "wer"
    sim = "sim"
    boundary = "boundary"


Ranking = Annotated[
    Rank,
    typer.Option(
        "--rank", help="What chooses: the words heard, the likeness of the voice, or the smoothness of joins."
    ),
]

Confidence = Annotated[
    float | None,
    typer.Option(
        "--confidence", min=0.0, max=1.0,
        help="How surely the transcript must fit the recording; 0 believes any. Lower it for strong accents.",
    ),
]  # fmt: skip


@dataclass(frozen=True)
class Sampled:
    """The options that every one of these verbs hands to the pipeline, under the pipeline's names."""

    seed: int
    steps: int | None
    solver: str | None
    grid: str | None
    guidance: str | None
    best_of: int
    rank: Rank
    lexicon: Path | None
    confidence: float | None

    def options(self) -> dict[str, Any]:
        """By name, what was not given left out."""
        found = {
            "seed": self.seed, "steps": self.steps, "solver": self.solver, "grid": self.grid, "guidance": self.guidance,
            "best_of": self.best_of, "rank": self.rank.value, "lexicon": self.lexicon,
            "confidence": self.confidence,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Files:
    """What a verb reads and where it writes.

    Attributes:
        recording: is changed.
        output: of the changed recording, or None for a name beside ``recording``.
        words: of its word times, or None.
        sidecar: whether to write one.
    """

    recording: Path
    output: Path | None
    words: Path | None
    sidecar: bool

    def check(
        self,
        done: str,
        texts: tuple[Path | None, ...],
        lexicon: Path | None,
        recordings: tuple[Path, ...] = (),
    ) -> Outputs:
        """Where the result goes, if everything is there and can be written.

        Args:
            done: what the default name says of the recording: "edited" makes ``talk.edited.wav``.
            texts: text files that are read too.
            lexicon: is read too.
            recordings: are read too.

        Raises:
            Misuse: a file is missing, or something cannot be written.
        """
        inputs = [existing_file(path, "recording") for path in (self.recording, *recordings)]
        inputs += [existing_file(path, "text file") for path in texts if path is not None]
        if lexicon is not None:
            inputs.append(existing_file(lexicon, "lexicon"))
        path = self.output or _beside(self.recording, done)
        return Outputs(path, self.sidecar, self.words).check(tuple(inputs))


def reference(given: str, option: str) -> str:
    """A recording or a shipped voice's name; which of them, the library finds out.

    Raises:
        Misuse: it is a folder.
    """
    if Path(given).is_dir():
        raise Misuse(f"{given} is a folder; give a recording or a shipped voice's name with {option}")
    return given


def carry_out(
    ctx: typer.Context, doing: str, use: tuple[str, str, str, str, bool], make: Callable[[Pipeline, Progress], Edited],
    to: Outputs, json: bool,
) -> None:  # fmt: skip
    """Load a pipeline, let it make the result under a progress bar, write it and show it.

    Args:
        ctx: of the verb.
        doing: for the bar: "editing".
        use: names of the model, the vocoder, the device and the engine, and whether to tag.
        make: what the verb asks of the pipeline, given something to report progress to.
        to: where the result goes.
        json: print it as JSON.
    """
    import flowtts

    model, vocoder, device, engine, tag = use
    tts = flowtts.load(model, vocoder=vocoder, device=device, engine=engine, tag=tag)
    term = terminal(ctx)
    with term.progress(doing, None) as bar:
        made = make(tts, bar.set)
    finish(term, made, to, json)


def finish(term: Terminal, made: Result, to: Outputs, json: bool) -> None:
    """Write the result and show it."""
    to.save(made)
    info = made.info(to.audio)
    # A long recording is only read around the changes.
    cover = info.get("words_cover")
    if to.words is not None and cover is not None:
        parts = ", ".join(f"{start:.1f} – {end:.1f} s" for start, end in cover)
        log.warning("%s: holds the words of %s; the rest was not read", to.words, parts or "no stretch")
    if json:
        term.result(info)
        return
    show_spans(term, info)
    if to.audio.suffix.lower() in _LOSSY:
        term.message(f"{to.audio.suffix} is a lossy format: outside the spans it is close to the recording, not equal")
    term.message(f"{to.audio}: {made.seconds:.2f} s")


def show_spans(term: Terminal, info: Mapping[str, Any]) -> None:
    """What changed and where, for a person."""
    rows = [
        (
            span["removed"] or "–",
            span["inserted"] or "–",
            f"{span['start']:.2f} – {span['end']:.2f}",
            f"{span['start_out']:.2f} – {span['end_out']:.2f}",
            "" if span.get("confidence") is None else f"{span['confidence']:.2f}",
        )
        for span in info["spans"]
    ]
    if rows:
        term.table(info["normalised"], ("removed", "inserted", "seconds before", "seconds after", "confidence"), rows)
    else:
        term.show("nothing to change")


def _beside(recording: Path, done: str) -> Path:
    """A name beside the recording: WAV where its own format would change every sample, or cannot be written."""
    kept = recording.suffix.lower() in sound_suffixes() and recording.suffix.lower() not in _LOSSY
    return recording.with_name(f"{recording.stem}.{done}{recording.suffix if kept else '.wav'}")
