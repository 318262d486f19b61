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
VocoderName = Annotated[str, typer.Option("--vocoder", help="A name that `flowtts models` lists, or a folder.")]
Transcript = Annotated[str, typer.Option("--text", help="What is said in the recording; - reads standard input.")]
Lexicon = Annotated[Path | None, typer.Option("--lexicon", help="Own pronunciations: a word and its phones per line.")]

LONGEST = 3600.0
"""Seconds of speech that one request may ask for."""


def finite(value: float | None) -> float | None:
    """Typer callback: refuse NaN and infinities, which every range check lets through."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a number to work with.")
    return value


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


def lines_of(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that hold something, with their numbers from 1; ``-`` reads standard input.

    Raises:
        Misuse: the file is missing, is not UTF-8, or holds no text.
    """
    if str(path) == "-":
        text = _standard_input()
    else:
        try:
            text = existing_file(path, "text file").read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Misuse(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise Misuse(f"{path}: holds no text; write one utterance per line")
    return lines


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
    for source in inputs:
        if source.exists() and path.exists() and path.samefile(source):
            raise Misuse(f"{path}: would overwrite the input; choose another name with -o")
    output_folder(path.parent)
    return path


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
