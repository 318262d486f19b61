"""What a file says of itself: text fields of WAV, FLAC, Ogg and MP3 that players show and editors keep, or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import soundfile

from flowtts import __version__
from flowtts.types import PathLike, UserError

SAYS: Mapping[str, str] = {
    "say": "synthetic speech", "sample": "synthetic speech", "restyle": "synthetic speech", "copy": "vocoded speech",
}  # fmt: skip
"""Verb -> what its results are; all others change a part of a recording."""

PARTLY = "speech that was edited, partly synthetic"


def comments(verb: str, model: str) -> dict[str, str]:
    """Text fields for a file.

    Args:
        verb: what was done.
        model: with what.
    """
    return {"comment": f"{SAYS.get(verb, PARTLY)}, made by flowtts {__version__}: {model}"}


def read_comments(path: PathLike) -> dict[str, str]:
    """All text fields of a file that hold something.

    Raises:
        UserError: it cannot be read as sound.
    """
    try:
        with soundfile.SoundFile(str(Path(path))) as file:
            found: dict[str, str] = file.copy_metadata()
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read as sound ({' '.join(str(error).split())})") from error
    # Encoders of MP3 write the fields that nobody filled as well.
    return {field: text for field, text in found.items() if text}
