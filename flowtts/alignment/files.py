"""Text files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from flowtts.types import PathLike, UserError


def write_text(path: PathLike, text: str) -> None:
    """Write UTF-8 beside the name, then rename.

    Raises:
        UserError: the folder is missing or not writable.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); check the folder") from error
    finally:
        part.unlink(missing_ok=True)
