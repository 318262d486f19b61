"""Options that several verbs share, and the checks of file names."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flowtts.commands.terminal import Misuse

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Engine = Annotated[
    str,
    typer.Option("--engine", help="How the network is computed: auto, eager, bf16, int8, compiled …"),
]
Tag = Annotated[
    bool,
    typer.Option("--tag/--no-tag", help="Mark what is made as synthetic, inaudibly, and in the file too."),
]
VocoderName = Annotated[
    str,
    typer.Option(
        "--vocoder", help="A name that `flowtts models` lists, or a folder; auto: what the model is made for."
    ),
]
Transcript = Annotated[str, typer.Option("--text", help="What is said in the recording; - reads standard input.")]
Lexicon = Annotated[Path | None, typer.Option("--lexicon", help="Own pronunciations: a word and its phones per line.")]

LONGEST = 3600.0
"""Seconds of speech that one request may ask for."""


def finite(value: float | None) -> float | None:
    """Typer callback: refuse NaN and infinities, which every range check lets through."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a number to work with.")
    return value


Model = Annotated[str, typer.Option("--model", help="A name that `flowtts models` lists, or a folder.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Same seed, same machine, same bytes.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, max=1000, help="Intervals of the time grid.")]
Solver = Annotated[str | None, typer.Option("--solver", help="euler, midpoint, heun, rk4, dopri5 …")]
Grid = Annotated[
    str | None, typer.Option("--grid", help="Time grid: uniform, sway, cosine …, fitted, or a .json file.")
]


def guidance_spelled(value: str | None) -> str | None:
    """Typer callback: refuse what is no guidance."""
    if value is None:
        return None
    from flowtts.request import guidance_of
    from flowtts.types import UserError

    try:
        guidance_of(value)
    except UserError as error:
        raise typer.BadParameter(f"{error}.") from None
    return value


Guidance = Annotated[
    str | None,
    typer.Option(
        "--guidance", metavar="G[,PART=VALUE…]", callback=guidance_spelled,
        help="How closely to follow; 1 is none. Parts: interval=0.1:0.9, schedule=linear, rescale=0.7 …",
    ),
]  # fmt: skip


def decoding_spelled(value: str | None) -> str | None:
    """Typer callback: refuse what is no decoding."""
    if value is None:
        return None
    from flowtts.decode import Decoding as Drawing
    from flowtts.types import UserError

    try:
        Drawing.parse(value)
    except UserError as error:
        raise typer.BadParameter(f"{error}.") from None
    return value


Decoding = Annotated[
    str | None,
    typer.Option(
        "--decoding", metavar="PART=VALUE[,…]", callback=decoding_spelled,
        help="How tokens are drawn: temperature=0.8,top_p=0.8,top_k=0,typical=0,min_p=0,repetition=2 …",
    ),
]  # fmt: skip
BestOf = Annotated[int, typer.Option("--best-of", min=1, max=100, help="Candidates to choose among.")]
Sidecar = Annotated[bool, typer.Option("--sidecar/--no-sidecar", help="Write OUT.json, for replay.")]
WordsFile = Annotated[
    Path | None, typer.Option("--words", help="Write when each word is said: a .srt, .vtt, .json or .TextGrid file.")
]


def text_or_stdin(text: str, name: str = "TEXT") -> str:
    """The text itself, or standard input for ``-``.

    Raises:
        Misuse: there is nothing but white space, or it is not UTF-8.
    """
    if text == "-":
        text = _standard_input()
    elif any("\ud800" <= character <= "\udfff" for character in text):
        # How Python shows the bytes of an argument that is not in the terminal's encoding.
        raise Misuse(f"{name} is not text in the terminal's encoding; check how it was typed or pasted")
    text = text.strip()
    if not text:
        raise Misuse(f"{name} is empty; give at least one word")
    return text


def _standard_input() -> str:
    """All of standard input, decoded here: in some locales Python's own decoder lets wrong bytes pass."""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Misuse(f"standard input is not UTF-8 text (byte {error.start}); convert it first") from None


def existing_file(path: Path, what: str) -> Path:
    """The path, if it is a file that can be read.

    Raises:
        Misuse: it is not.
    """
    if not path.exists():
        raise Misuse(f"{path}: no such {what}; check the path")
    if path.is_dir():
        raise Misuse(f"{path} is a folder; give a {what}")
    if not os.access(path, os.R_OK):
        raise Misuse(f"{path}: may not be read; check its permissions")
    return path


def text_from(flag: str, text: str | None, file: Path | None) -> str:
    """A text that was given by ``FLAG TEXT`` (``-`` is standard input) or by ``FLAG-file PATH``.

    Raises:
        Misuse: neither or both were given, or there is no text in it.
    """
    if text is not None and file is not None:
        raise Misuse(f"give either {flag} or {flag}-file, not both")
    if text is not None:
        return text_or_stdin(text, flag)
    if file is None:
        raise Misuse(f"{flag} is missing; give {flag} TEXT or {flag}-file FILE")
    found = _read_text(file).strip()
    if not found:
        raise Misuse(f"{file}: holds no text; give at least one word")
    return found


def one_from_stdin(*texts: str | None) -> None:
    """Check that standard input is not to be read twice.

    Raises:
        Misuse: more than one of the texts is ``-``.
    """
    if texts.count("-") > 1:
        raise Misuse("standard input can be read only once; give the other text itself or in a file")


def _read_text(path: Path) -> str:
    """What a text file holds."""
    try:
        return existing_file(path, "text file").read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Misuse(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None


def lines_of(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that hold something, with their numbers from 1; ``-`` reads standard input.

    Raises:
        Misuse: the file is missing, is not UTF-8, or holds no text.
    """
    text = _standard_input() if str(path) == "-" else _read_text(path)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise Misuse(f"{path}: holds no text; write one utterance per line")
    return lines


def parse_spans(given: list[str] | None) -> list[tuple[float, float]]:
    """Stretches of time from ``START:END``, seconds.

    Raises:
        Misuse: one is not of that form, begins before 0, or does not end after its beginning.
    """
    spans = []
    for text in given or []:
        form = f"--span {text!r}: give START:END in seconds, such as 1.25:2.5"
        parts = text.split(":")
        try:
            start, end = (float(part) for part in parts)
        except ValueError:
            raise Misuse(form) from None
        if not (math.isfinite(start) and math.isfinite(end)):
            raise Misuse(form)
        if start < 0:
            raise Misuse(f"--span {text!r} begins before the recording; give START:END from 0 on")
        if end <= start:
            raise Misuse(f"--span {text!r} ends before it begins; give START:END with START before END")
        spans.append((start, end))
    return spans


def output_file(path: Path, suffixes: tuple[str, ...] | None, inputs: tuple[Path, ...] = ()) -> Path:
    """The path, if a file can be written there.

    Args:
        path: the file to write.
        suffixes: those allowed, or None for every suffix that libsndfile writes.
        inputs: files that must not be overwritten.

    Raises:
        Misuse: a folder is in the way, the folder cannot be written, the suffix is unknown, or an input would be lost.
    """
    if suffixes is None:
        suffixes = sound_suffixes()
        hint = ".wav, .flac, .ogg or .mp3"
    else:
        hint = ", ".join(suffixes)
    if path.is_dir():
        raise Misuse(f"{path} is a folder; give a file name")
    if path.suffix.lower() not in (suffix.lower() for suffix in suffixes):
        raise Misuse(f"{path}: unknown format '{path.suffix}'; use {hint}")
    keep(path, inputs)
    output_folder(path.parent)
    return path


def keep(path: Path, inputs: tuple[Path, ...], option: str = "-o") -> None:
    """Check that writing ``path`` loses none of the inputs.

    Raises:
        Misuse: it is one of them; ``option`` is what gives another name.
    """
    for source in inputs:
        if source.exists() and path.exists() and path.samefile(source):
            raise Misuse(f"{path}: would overwrite the input; choose another name with {option}")


def output_folder(path: Path) -> Path:
    """The folder, if it is there or can be made. It is not made yet: a mistake found later must leave nothing behind.

    Raises:
        Misuse: a file is in the way, or the folder may not be written to.
    """
    nearest = path.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise Misuse(f"{nearest} is a file; give a folder")
    if not os.access(nearest, os.W_OK):
        raise Misuse(f"{nearest}: may not be written to; choose another folder")
    return path


def sound_suffixes() -> tuple[str, ...]:
    """Every suffix that libsndfile writes, with its dot."""
    import soundfile

    return tuple(f".{name.lower()}" for name in soundfile.available_formats())
