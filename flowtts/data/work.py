"""What happens to one row of a corpus: read, analyse, align, judge. Runs in worker processes."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from flowtts.alignment import from_textgrid, impose, read_textgrid
from flowtts.alignment.base import Aligner, Alignment
from flowtts.alignment.textgrid import Interval
from flowtts.data.rows import Row
from flowtts.text import Analysis, FrontEnd
from flowtts.types import Audio, UserError


@dataclass(frozen=True)
class Options:
    """What decides how rows are judged; a rerun must have the same.

    Attributes:
        kind: of corpus.
        aligner: its name.
        transcribed: False keeps only the sound.
        textgrids: folder with a TextGrid for every row, instead of an aligner.
        lexicon: own pronunciations.
        min_seconds: shorter recordings are rejected.
        max_seconds: longer ones too.
        min_confidence: the least ``Alignment.confidence``.
    """

    kind: str
    aligner: str
    transcribed: bool = True
    textgrids: str | None = None
    lexicon: str | None = None
    min_seconds: float = 0.4
    max_seconds: float = 35.0
    min_confidence: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds:
            raise UserError(f"min_seconds {self.min_seconds:g} must be below max_seconds {self.max_seconds:g}")
        if not 0 <= self.min_confidence <= 1:
            raise UserError(f"min_confidence must lie between 0 and 1, not {self.min_confidence:g}")


class Rejected(Exception):
    """A row that is left out: what kind of fault, and the reason."""

    def __init__(self, fault: str, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault


@dataclass(frozen=True)
class Job:
    """Some rows for a worker. The aligner travels pickled, so that a worker unpickles it once, not per job."""

    options: Options
    aligner: bytes
    rows: tuple[Row, ...]


def run(job: Job) -> list[dict[str, Any]]:
    """One journal entry per row; nothing a row does raises."""
    return [_entry(row, job) for row in job.rows]


@lru_cache(maxsize=1)
def _front_end(lexicon: str | None) -> FrontEnd:
    return FrontEnd(None if lexicon is None else Path(lexicon))


@lru_cache(maxsize=1)
def _aligner(pickled: bytes) -> Aligner:
    made: Aligner = pickle.loads(pickled)
    return made


def _entry(row: Row, job: Job) -> dict[str, Any]:
    try:
        return {"id": row.id, **_accepted(row, job)}
    except Rejected as error:
        return {"id": row.id, "fault": error.fault, "reason": str(error)}
    except UserError as error:
        return {"id": row.id, "fault": "text", "reason": str(error)}
    except Exception as error:  # a corpus of days must not die of one row; the report names it
        return {"id": row.id, "fault": "error", "reason": f"{type(error).__name__}: {error}"}


def _accepted(row: Row, job: Job) -> dict[str, Any]:
    options = job.options
    audio, sound = _sound(row)
    if audio.seconds < options.min_seconds:
        raise Rejected("duration", f"{audio.seconds:.2f} s is shorter than {options.min_seconds:g} s")
    if audio.seconds > options.max_seconds:
        raise Rejected("duration", f"{audio.seconds:.2f} s is longer than {options.max_seconds:g} s")
    entry = {**sound, "speaker": row.speaker, "text": row.text}
    if not options.transcribed:
        return entry
    if not row.text.strip():
        raise Rejected("text", "no transcript")
    analysis, alignment = _align(row, audio, job)
    confidence = alignment.confidence
    if confidence is not None and confidence < options.min_confidence:
        raise Rejected("match", f"the transcript does not fit the recording: confidence {confidence:.2f}")
    words = [[w.text, _ms(w.start), _ms(w.end), w.confidence] for w in alignment.words]
    phones = [[p.symbol, _ms(p.start), _ms(p.end), p.confidence] for p in alignment.phones]
    return {**entry, "normalised": analysis.normalised, "confidence": confidence, "words": words, "phones": phones}


def _ms(seconds: float) -> float:
    return round(seconds, 5)


def _sound(row: Row) -> tuple[Audio, dict[str, Any]]:
    """The row's samples, and what the manifest must know of its file."""
    if not row.audio.is_file():
        raise Rejected("audio", f"{row.audio}: no such file")
    try:
        with soundfile.SoundFile(row.audio) as file:
            rate, total, channels = file.samplerate, file.frames, file.channels
            first = round(row.start * rate)
            last = total if row.end is None else round(row.end * rate)
            if last > total:
                raise Rejected("audio", f"ends at {last / rate:.2f} s, its file of {total / rate:.2f} s before that")
            file.seek(min(first, total))
            samples = file.read(max(last - first, 0), dtype="float32")
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise Rejected("audio", f"{row.audio}: cannot be read as sound ({' '.join(str(error).split())})") from error
    if len(samples) == 0:
        raise Rejected("audio", f"{row.audio}: holds no sound there")
    if len(samples) < last - first:
        raise Rejected("audio", f"{row.audio}: is cut short")
    if not np.isfinite(samples).all():
        raise Rejected("audio", f"{row.audio}: holds NaN or infinite samples")
    if not samples.any():
        raise Rejected("audio", f"{row.audio}: is silent there")
    sound = {
        "audio": str(row.audio.resolve()), "sample_rate": rate, "samples": total, "channels": channels,
        "start": first / rate, "duration": (last - first) / rate,
    }  # fmt: skip
    return Audio(samples, rate), sound


def _align(row: Row, audio: Audio, job: Job) -> tuple[Analysis, Alignment]:
    analysis = _front_end(job.options.lexicon).analyse(row.text)
    try:
        if row.labels:
            return impose(analysis, _intervals(row.labels), audio.seconds)
        if job.options.textgrids is not None:
            grid = read_textgrid(_textgrid(Path(job.options.textgrids), row))
            return from_textgrid(grid, analysis, audio.seconds)
        return analysis, _aligner(job.aligner).align(audio, analysis)
    except UserError as error:
        raise Rejected("match", str(error)) from error


def _intervals(labels: Sequence[tuple[str, float, float]]) -> list[Interval]:
    return [Interval(start, end, label) for label, start, end in labels]


def _textgrid(root: Path, row: Row) -> Path:
    """MFA mirrors the corpus' folders: FOLDER/speaker/name.TextGrid, or FOLDER/name.TextGrid."""
    names = dict.fromkeys((row.id, row.audio.stem))
    folders = [root] + ([root / row.speaker] if row.speaker else []) + [root / row.audio.parent.name]
    for folder in folders:
        for name in names:
            path = folder / f"{name}.TextGrid"
            if path.is_file():
                return path
    raise Rejected("match", f"{root}: holds no TextGrid named {row.audio.stem}.TextGrid")
