"""Recordings for the accent classifier, and a journal of what was heard in them under several channels."""

from __future__ import annotations

import csv
import json
import random
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accent_features import Listener, Tokens
from channels import average_spectrum, disturb, impose, pause_spectrum

from flowtts.audio.io import read, resample
from flowtts.audio.mel import LogMel
from flowtts.eval.resemblyzer import Resemblyzer
from flowtts.registry import load_vocoder
from flowtts.types import VOICEBOX_MEL, Audio, UserError

RATE = 16_000
ACCENTED, NATIVE, ENGINE = "accented", "native", "engine"
PLAIN, DISTURBED, SWAPPED, COPIED = "plain", "disturbed", "swapped", "copied"
"""As recorded; through a random channel (training); with the other corpus's average spectrum; through the vocoder."""


@dataclass(frozen=True)
class Recording:
    """A recording, or a part of one, with its text.

    Attributes:
        id: unique.
        audio: file.
        speaker: name.
        text: what is said.
        group: ACCENTED, NATIVE or ENGINE.
        source: the table it comes from.
        test: unseen in training.
        start: seconds.
        end: seconds, or None for all of it.
    """

    id: str
    audio: str
    speaker: str
    text: str
    group: str
    source: str
    test: bool
    start: float = 0.0
    end: float | None = None

    def read(self) -> Audio:
        """(N,) at 16 kHz."""
        audio = resample(read(self.audio).mono(), RATE)
        last = len(audio.samples) if self.end is None else round(self.end * RATE)
        return Audio(np.ascontiguousarray(audio.samples[round(self.start * RATE) : last]), RATE)


@dataclass(frozen=True, eq=False)
class Heard:
    """What was heard in a recording.

    Attributes:
        recording: which.
        condition: PLAIN, DISTURBED, SWAPPED or COPIED.
        tokens: phones.
        voice: (256,) Resemblyzer's embedding.
        pause: (24,) spectrum of the quietest frames, without its level.
        pause_normalised: the same, relative to all frames.
    """

    recording: Recording
    condition: str
    tokens: Tokens
    voice: np.ndarray
    pause: np.ndarray
    pause_normalised: np.ndarray


def held_out(speaker: str) -> bool:
    """Whether a LibriSpeech reader is kept out of every training."""
    digits = speaker.lstrip("r")
    if not digits.isdigit():
        raise UserError(f"the reader {speaker!r} has no number; give LibriSpeech's speaker numbers")
    return int(digits) % 8 == 3


def accented_recordings(folder: Path, each: int, seed: int = 0) -> list[Recording]:
    """A fixed random choice of every adult speaker's sentences of speechocean762."""
    people: dict[str, list[dict[str, str]]] = {}
    for row in _rows(folder / "utterances.tsv", ("utterance", "speaker", "split", "text")):
        people.setdefault(row["speaker"], []).append(row)
    rng = random.Random(seed)
    return [
        Recording(
            row["utterance"], str(folder / "audio" / speaker / f"{row['utterance']}.ogg"), speaker, row["text"].lower(),
            ACCENTED, folder.name, row["split"] == "test",
        )
        for speaker, rows in sorted(people.items())
        for row in rng.sample(rows, min(each, len(rows)))
    ]  # fmt: skip


def table_recordings(path: Path, group: str) -> list[Recording]:
    """The rows of a table: native readers, or engines, which are only tested."""
    found = []
    for number, row in enumerate(_rows(path, ("audio", "speaker", "text"))):
        test = group == ENGINE or held_out(row["speaker"])
        start, end = row.get("start") or "0", row.get("end")
        found.append(
            Recording(
                f"{path.stem}-{number}", str(path.parent / row["audio"]), row["speaker"], row["text"], group, path.stem,
                test, float(start), float(end) if end else None,
            )
        )  # fmt: skip
    return found


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    missing = [column for column in columns if not rows or rows[0].get(column) is None]
    if missing:
        raise UserError(f"{path}: needs rows and the column {missing[0]!r}")
    return rows


def listen(
    journal: Path, wanted: Sequence[tuple[Recording, str]], spectra: dict[str, list[float]], jobs: int
) -> list[Heard]:
    """What is heard in each recording under each condition, appended to a journal as it is found.

    Recordings whose text cannot be aligned are left out; the journal says why.

    Args:
        journal: JSON lines; those that are there are not made again.
        wanted: recordings with conditions.
        spectra: average log spectrum of each group, for SWAPPED.
        jobs: processes.
    """
    done: dict[tuple[str, str], dict[str, Any]] = {}
    if journal.exists():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            done[row["id"], row["condition"]] = row
    missing = [(r, c) for r, c in wanted if (r.id, c) not in done]
    with journal.open("a", encoding="utf-8") as file, ProcessPoolExecutor(jobs) as pool:
        tasks = [pool.submit(_hear, recording, condition, spectra) for recording, condition in missing]
        for count, task in enumerate(as_completed(tasks), 1):
            row = task.result()
            done[row["id"], row["condition"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            if count % 50 == 0:
                print(f"{count} of {len(missing)} recordings", file=sys.stderr, flush=True)
    rows = ((recording, condition, done[recording.id, condition]) for recording, condition in wanted)
    return [
        Heard(
            recording, condition, Tokens.unpack(row), np.array(row["voice"]), np.array(row["pause"]),
            np.array(row["pause_normalised"]),
        )
        for recording, condition, row in rows
        if "error" not in row
    ]  # fmt: skip


def group_spectrum(recordings: Sequence[Recording]) -> list[float]:
    """The average log spectrum of some recordings."""
    return [round(float(x), 4) for x in average_spectrum([r.read() for r in recordings])]


def copy(audio: Audio) -> Audio:
    """Through the model's features and the shipped vocoder."""
    with torch.no_grad():
        samples = _vocoder().decode(LogMel(VOICEBOX_MEL)(torch.from_numpy(audio.samples)[None]))[0]
    return Audio(samples.float().numpy(), VOICEBOX_MEL.sample_rate)


def changed(recording: Recording, condition: str, spectra: dict[str, list[float]]) -> Audio:
    """The recording under a condition; a random channel depends on the recording's id alone."""
    audio = recording.read()
    if condition == DISTURBED:
        return disturb(audio, np.random.default_rng(zlib.crc32(recording.id.encode())))
    if condition == SWAPPED:
        own = recording.group
        other = NATIVE if own == ACCENTED else ACCENTED
        return impose(audio, np.array(spectra[own]), np.array(spectra[other]))
    return copy(audio) if condition == COPIED else audio


def _hear(recording: Recording, condition: str, spectra: dict[str, list[float]]) -> dict[str, Any]:
    torch.set_num_threads(1)
    row: dict[str, Any] = {"id": recording.id, "condition": condition}
    try:
        audio = changed(recording, condition, spectra)
        row |= _listener().listen(audio, recording.text).pack()
    except UserError as error:
        return row | {"error": str(error)}
    voice = _encoder()(audio.samples)
    row["voice"] = [round(float(x), 5) for x in voice]
    for name, normalised in (("pause", False), ("pause_normalised", True)):
        row[name] = [round(float(x), 4) for x in pause_spectrum(audio, normalised=normalised)]
    return row


@lru_cache(maxsize=1)
def _listener() -> Listener:
    return Listener()


@lru_cache(maxsize=1)
def _encoder() -> Any:
    return Resemblyzer().open()


@lru_cache(maxsize=1)
def _vocoder() -> Any:
    return load_vocoder("vocos", VOICEBOX_MEL)
