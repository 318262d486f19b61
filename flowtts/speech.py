"""What the pipeline returns: a plan (what would be said) and speech (what was)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowtts.audio.io import replacing, write
from flowtts.provenance.metadata import comments
from flowtts.types import Audio, PathLike, Phone, Word


@dataclass(frozen=True)
class Chunk:
    """A stretch of text that is synthesised in one go.

    Attributes:
        text: as the user wrote it.
        normalised: as it is read.
        phones: its phones; word indices count within the chunk.
        words: the words of ``normalised`` that the phones belong to.
        frames: frames of each phone.
    """

    text: str
    normalised: str
    phones: tuple[Phone, ...]
    words: tuple[str, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What would be said: the result of ``--dry-run``.

    Attributes:
        chunks: the text in pieces.
        frame_rate: frames per second.
        settings: everything that was asked for, as it stands in the sidecar.
    """

    chunks: tuple[Chunk, ...]
    frame_rate: float
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def normalised(self) -> str:
        """The whole text as it is read."""
        return " ".join(chunk.normalised for chunk in self.chunks)

    @property
    def seconds(self) -> float:
        """Predicted length."""
        return sum(sum(chunk.frames) for chunk in self.chunks) / self.frame_rate

    @property
    def words(self) -> tuple[Word, ...]:
        """Words with their times, from the durations of their phones."""
        found: list[Word] = []
        at = 0
        for chunk in self.chunks:
            spans: dict[int, tuple[int, int]] = {}
            for phone, frames in zip(chunk.phones, chunk.frames, strict=True):
                if phone.word >= 0:
                    spans[phone.word] = (spans.get(phone.word, (at, at))[0], at + frames)
                at += frames
            found += [
                Word(chunk.words[word], round(start / self.frame_rate, 4), round(end / self.frame_rate, 4))
                for word, (start, end) in spans.items()
            ]
        return tuple(found)

    @property
    def phones(self) -> tuple[dict[str, Any], ...]:
        """Phones with their times: {phone, word, start, end}; ghost silences last no time."""
        found: list[dict[str, Any]] = []
        at, before = 0, 0
        for chunk in self.chunks:
            for phone, frames in zip(chunk.phones, chunk.frames, strict=True):
                word = phone.word + before if phone.word >= 0 else None
                start, end = (round(f / self.frame_rate, 4) for f in (at, at + frames))
                found.append({"phone": phone.symbol, "word": word, "start": start, "end": end})
                at += frames
            before += len(chunk.words)
        return tuple(found)

    def info(self) -> dict[str, Any]:
        """As JSON: the keys of ``flowtts say --dry-run --json``."""
        return {
            "seconds": round(self.seconds, 4),
            "normalised": self.normalised,
            "phones": list(self.phones),
            "words": [{"text": w.text, "start": w.start, "end": w.end} for w in self.words],
            "chunks": [chunk.text for chunk in self.chunks],
            **self.settings,
        }


@dataclass(frozen=True)
class Candidate:
    """One of several takes.

    Attributes:
        seed: what it was made with.
        scores: by ranker.
    """

    seed: int
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Speech:
    """Speech that was made, and how.

    Attributes:
        audio: mono.
        plan: what was said, and when.
        seed: of the take that was kept.
        nfe: evaluations of the field, over all takes.
        network_calls: calls of the network, over all takes.
        rtf: real-time factor: time to make it over its length, loading left out.
        candidates: every take.
    """

    audio: Audio
    plan: Plan
    seed: int
    nfe: int
    network_calls: int
    rtf: float
    candidates: Sequence[Candidate] = ()

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.audio.sample_rate

    @property
    def seconds(self) -> float:
        """Length."""
        return self.audio.seconds

    @property
    def words(self) -> tuple[Word, ...]:
        """Words with their times, from the durations that were used."""
        return self.plan.words

    @property
    def phones(self) -> tuple[dict[str, Any], ...]:
        """Phones with their times."""
        return self.plan.phones

    @property
    def normalised(self) -> str:
        """The text as it was read."""
        return self.plan.normalised

    def info(self, audio: PathLike | None = None) -> dict[str, Any]:
        """As JSON: the keys of ``flowtts say --json`` and of the sidecar. ``audio`` is where it was saved."""
        return {
            "audio": None if audio is None else str(audio),
            "sample_rate": self.sample_rate,
            **self.plan.info(),
            "seconds": round(self.seconds, 4),
            "seed": self.seed,
            "nfe": self.nfe,
            "network_calls": self.network_calls,
            "rtf": round(self.rtf, 4),
            "candidates": [{"seed": c.seed, "scores": dict(c.scores)} for c in self.candidates],
        }

    def save(self, path: PathLike, sidecar: bool = True) -> Path:
        """Write the audio and, beside it, ``NAME.json`` with everything needed to make it again.

        Raises:
            UserError: the path cannot be written or its suffix is no audio format.
        """
        target = Path(path)
        settings = self.plan.settings
        said = comments(str(settings.get("verb", "say")), str(settings["model"])) if settings.get("tag") else None
        write(target, self.audio, comments=said)
        if sidecar:
            write_json(target.with_suffix(".json"), self.info(target))
        return target


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside its name and rename it into place.

    Raises:
        UserError: the path cannot be written.
    """
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
