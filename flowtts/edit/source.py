"""What a recording is called and known by in the sidecar."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowtts import __version__
from flowtts.edit.recording import Recording
from flowtts.edit.request import EditRequest
from flowtts.edit.studio import Studio
from flowtts.types import Audio, PathLike

IN_MEMORY = "audio"
"""Name of what was given as samples; it cannot be found again."""


def describe(source: PathLike | Audio, recording: Recording) -> dict[str, Any]:
    """{name, hash}: a path, and the first 12 hexadecimal digits of the SHA-256 of the file or the samples."""
    total = hashlib.sha256()
    if isinstance(source, Audio):
        total.update(recording.read(0, recording.length).tobytes())
        return {"name": IN_MEMORY, "hash": total.hexdigest()[:12]}
    with Path(source).open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return {"name": str(source), "hash": total.hexdigest()[:12]}


def settings(
    studio: Studio, source: PathLike | Audio, recording: Recording, request: EditRequest, verb: str,
    own: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Everything needed to do it again.

    Args:
        studio: the models.
        source: what was given.
        recording: the same, opened.
        request: how.
        verb: what was done.
        own: arguments of that verb.
    """
    return {
        "verb": verb, **own, "recording": describe(source, recording), "model": studio.model,
        "model_hash": studio.hash, "vocoder": studio.vocoder.name, "engine": studio.engine, "tag": studio.tag,
        **request.settings(), "flowtts": __version__,
    }  # fmt: skip
