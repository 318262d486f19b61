"""``flowtts detect``: whether a recording was made by flowtts, and what a classifier thinks of its origin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flowtts.commands.options import Json, existing_file
from flowtts.commands.terminal import Terminal, terminal


def detect(
    ctx: typer.Context,
    recordings: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings of any format and rate.")],
    json: Json = False,
) -> None:
    """Say whether recordings carry the tag of flowtts, what their files say, and what a classifier thinks.

    Exit status 0 whatever the answer; 2 for files that cannot be read. With --json one object per line.
    """
    for path in recordings:
        existing_file(path, "recording")

    from flowtts.audio.io import read

    term = terminal(ctx)
    # All are read before anything is said: one that cannot be read leaves no half of an answer.
    sounds = [read(path) for path in recordings]
    for path, audio in zip(recordings, sounds, strict=True):
        found = _examine(path, audio)
        if json:
            term.result(found)
        else:
            _show(term, found)


def _examine(path: Path, audio: Any) -> dict[str, Any]:
    from flowtts.origin import judge
    from flowtts.provenance.metadata import read_comments
    from flowtts.provenance.tag import detect as find
    from flowtts.types import UserError

    tag = find(audio)
    origin: dict[str, Any] = {"probability": None, "seconds": None, "reason": None}
    try:
        verdict = judge(audio)
        origin |= {"probability": round(verdict.probability, 4), "seconds": round(verdict.seconds, 2)}
    except UserError as error:
        origin["reason"] = str(error)
    return {
        "recording": str(path),
        "seconds": round(audio.seconds, 3),
        "tag": tag.info(),
        "metadata": read_comments(path),
        "generated": origin,
    }


def _show(term: Terminal, found: dict[str, Any]) -> None:
    tag, origin = found["tag"], found["generated"]
    term.show(found["recording"])
    if tag["reason"] is not None:
        term.show(f"  tag        cannot tell: {tag['reason']}")
    elif tag["present"]:
        where = ", ".join(f"{start:.1f} to {end:.1f} s" for start, end in tag["spans"])
        term.show(f"  tag        found, made by flowtts: {where} (chance of a mistake {tag['p']:.1g})")
    else:
        term.show("  tag        none found, which proves nothing")
    said = "; ".join(f"{key}: {value}" for key, value in sorted(found["metadata"].items()))
    term.show(f"  file       {said or 'says nothing of its origin'}")
    if origin["reason"] is not None:
        term.show(f"  classifier {origin['reason']}")
    else:
        term.show(f"  classifier {100 * origin['probability']:.0f} % generated, by {origin['seconds']:g} s of speech")
