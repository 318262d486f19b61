"""Voices: from a reference recording to the prompt a recipe continues."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from flowtts.alignment.base import Alignment, check_match
from flowtts.alignment.choose import english_aligner
from flowtts.audio.active import to_level
from flowtts.audio.io import read, resample
from flowtts.features import extractor
from flowtts.recognise import PocketsphinxRecogniser
from flowtts.text import Analysis, FrontEnd
from flowtts.types import Audio, FeatureSpec, PathLike, UserError, Utterance

SHORTEST = 1.0
"""Seconds: below this a voice cannot be told."""

LONGEST = 6.0
"""Seconds of a reference that are used; more helps little and slows every step."""

_EDGE_SILENCE = 0.1
"""Seconds of silence left at either end of a prompt (arXiv 2306.15687, section 5)."""


@dataclass(frozen=True, eq=False)
class Voice:
    """A reference recording, ready to be continued.

    Attributes:
        name: of the shipped voice, or the path of the recording.
        text: what it says.
        heard: True if nobody gave the text and a recogniser wrote it.
        prompt: phones, durations and features of the part that is used.
        gain: what brought the recording to the recipe's level; dividing by it restores its level.
        audio: the part that is used, mono, at the recipe's sampling rate.
        hash: of the samples.
    """

    name: str
    text: str
    heard: bool
    prompt: Utterance
    gain: float
    audio: Audio
    hash: str

    def info(self) -> dict[str, Any]:
        """For the sidecar."""
        return {"name": self.name, "text": self.text, "heard": self.heard, "hash": self.hash}


def shipped() -> dict[str, Path]:
    """Shipped voices by name: audio files in ``flowtts/voices``, each with a .txt of what it says."""
    folder = Path(str(resources.files("flowtts") / "voices"))
    return {path.stem: path for path in sorted(folder.glob("*.flac"))}


def resolve(voice: PathLike, text: str | None) -> tuple[Path, str | None]:
    """The file of a voice given by path or shipped name, and its text if that is known.

    Raises:
        UserError: there is neither such a file nor such a name.
    """
    path, known = Path(voice), shipped()
    if path.is_dir():
        raise UserError(f"{voice} is a folder; give a recording or a shipped voice's name with --voice")
    if path.exists():
        return path, text
    if str(voice) in known:
        found = known[str(voice)]
        return found, text or found.with_suffix(".txt").read_text(encoding="utf-8").strip()
    raise UserError(f"no voice {str(voice)!r}: give a recording, or one of {', '.join(known)}")


def at_level(name: str, audio: Audio) -> tuple[Audio, float]:
    """A mono recording of a voice at the training level, and the gain that brought it there.

    Raises:
        UserError: it is too short or silent; ``name`` is what the user called it.
    """
    if audio.seconds < SHORTEST:
        raise UserError(f"the voice {name} lasts {audio.seconds:.2f} s: give at least {SHORTEST:.0f} s of speech")
    level, gain = to_level(audio)
    if gain == 1.0 and not level.samples.any():
        raise UserError(f"the voice {name} is silent: give a recording of speech")
    return level, gain


def prepare(
    voice: PathLike | Audio, text: str | None, spec: FeatureSpec, frontend: FrontEnd, longest: float = LONGEST
) -> Voice:
    """Make a prompt of a recording.

    Args:
        voice: path, shipped name or audio of any rate and channels.
        text: what it says; recognised if not given.
        spec: the recipe's features.
        frontend: reads ``text``.
        longest: seconds that are used, cut between words.

    Raises:
        UserError: the recording is missing, unreadable, silent or too short, or the text does not fit it.
    """
    name = "audio"
    if not isinstance(voice, Audio):
        name = str(voice)
        path, text = resolve(voice, text)
        voice = read(path)
    audio, gain = at_level(name, resample(voice.mono(), spec.sample_rate))
    heard = text is None
    if text is None:
        text = PocketsphinxRecogniser().transcribe(audio)
        if not text:
            raise UserError(f"no speech was recognised in {name}: say what it says with --voice-text")
    analysis = frontend.analyse(text)
    alignment = english_aligner().align(audio, analysis)
    if not heard:
        check_match(alignment)
    prompt, start, end = _window(audio, analysis, alignment, spec, longest)
    used = replace(audio, samples=audio.samples[start * spec.hop_length : end * spec.hop_length])
    digest = hashlib.sha256(used.samples.tobytes()).hexdigest()[:12]
    return Voice(name, text, heard, prompt, gain, used, digest)


def _window(
    audio: Audio, analysis: Analysis, alignment: Alignment, spec: FeatureSpec, longest: float
) -> tuple[Utterance, int, int]:
    """The part of a recording that is used: whole words from the first, silence at its ends shortened."""
    features = extractor(spec)(torch.from_numpy(audio.samples)[None])[0]
    durations = alignment.durations(spec.frame_rate, len(features)).clone()
    phones = list(analysis.phones)
    ends = durations.cumsum(0)
    limit = int(longest * spec.frame_rate) + int(durations[0])
    pauses = [i for i, p in enumerate(phones) if p.word < 0 and i > 0]
    fitting = [i for i in pauses if int(ends[i]) <= limit] or pauses[:1]
    # The longest pause in the last third ends the prompt most naturally; else as much as fits.
    late = [i for i in fitting if int(ends[i]) >= limit * 2 // 3]
    last = fitting[-1] if fitting[-1] == pauses[-1] or not late else max(late, key=lambda i: int(durations[i]))
    phones, durations = phones[: last + 1], durations[: last + 1]
    edge = int(_EDGE_SILENCE * spec.frame_rate)
    start = max(0, int(durations[0]) - edge)
    end = int(durations.sum()) - max(0, int(durations[-1]) - edge)
    durations[0] = min(int(durations[0]), edge)
    durations[-1] = min(int(durations[-1]), edge)
    return Utterance(tuple(phones), durations, features[start:end]), start, end
