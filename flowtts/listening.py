"""Voices for recipes that need no transcript of a recording: one recording, a folder of them, or kept latents."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowtts.audio.io import SOUNDS, read, resample
from flowtts.latents import SUFFIX, Latents, read_latents
from flowtts.types import Audio, PathLike, UserError
from flowtts.voice import at_level, resolve

LONGEST = 30.0
"""Seconds of one recording that are heard."""


@dataclass(frozen=True, eq=False)
class Heard:
    """A voice, ready to speak.

    Attributes:
        name: of the shipped voice, or the path.
        latents: what the model knows of it.
        gain: what brought the recordings to the model's level.
        audio: the recordings in a row, mono, or None where only latents were kept.
        hash: of the samples, or of the latents.
        clips: how many recordings.
    """

    name: str
    latents: Latents
    gain: float
    audio: Audio | None
    hash: str
    clips: int

    def info(self) -> dict[str, Any]:
        """For the sidecar."""
        return {"name": self.name, "text": None, "heard": False, "hash": self.hash, "clips": self.clips}


Hear = Callable[[Sequence[Audio]], Latents]
"""What a model makes of recordings."""


def listen(voice: PathLike | Audio, rate: int, model: str, hear: Hear) -> Heard:
    """Make a voice of a recording, a folder of recordings, a shipped voice, or a file of latents.

    Args:
        voice: path, shipped name, or audio of any rate and channels.
        rate: Hz at which recordings are handed on.
        model: hash of the weights.
        hear: the model's.

    Raises:
        UserError: something is missing, unreadable, silent or too short, or the latents are another model's.
    """
    if isinstance(voice, Audio):
        return _heard("audio", [_clip("audio", voice, rate)], hear)
    path = Path(voice)
    if path.suffix == SUFFIX:
        kept = read_latents(path, model)
        return Heard(str(voice), kept, kept.gain, None, kept.hash, 0)
    files = clips_in(path) if path.is_dir() else [resolve(voice, None)[0]]
    return _heard(str(voice), [_clip(str(file), read(file), rate) for file in files], hear)


def clips_in(folder: Path) -> list[Path]:
    """The recordings of a folder, by name.

    Raises:
        UserError: there are none.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUNDS and not path.name.startswith("."))
    if not found:
        raise UserError(f"{folder} holds no recordings: put .wav or .flac files of one voice into it")
    return found


def _clip(name: str, audio: Audio, rate: int) -> tuple[Audio, float]:
    """Mono, at the rate and at the training level, and the gain."""
    mono = resample(audio.mono(), rate)
    return at_level(name, replace(mono, samples=mono.samples[: round(LONGEST * rate)]))


def _heard(name: str, clips: Sequence[tuple[Audio, float]], hear: Hear) -> Heard:
    gain = float(np.exp(np.mean([np.log(gain) for _, gain in clips])))
    latents = replace(hear([audio for audio, _ in clips]), gain=gain)
    whole = Audio(np.concatenate([audio.samples for audio, _ in clips]), clips[0][0].sample_rate)
    digest = hashlib.sha256(whole.samples.tobytes()).hexdigest()[:12]
    return Heard(name, latents, gain, whole, digest, len(clips))
