"""What a comparison is asked for, and every recording that follows from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flowtts.audio.io import SOUNDS, read, write
from flowtts.bench.store import key_of
from flowtts.checkpoint import digest
from flowtts.compare.lists import said_within
from flowtts.compare.prompts import Asked
from flowtts.compare.result import Prompt
from flowtts.compare.store import Store, safe
from flowtts.compare.systems import System, identity
from flowtts.types import Audio, UserError
from flowtts.voice import resolve, shipped


@dataclass(frozen=True)
class Job:
    """What to compare.

    Attributes:
        systems: the columns.
        prompts: the rows.
        metrics: spellings of metrics, see ``flowtts evaluate``.
        voices: for prompts that name none: shipped names or recordings; each says the prompt once.
        jobs: processes at a time.
        device, engine: as everywhere; a system's own engine goes first.
        tag: whether what models make carries the tag of ``flowtts.provenance``.
        title: of the report.
        command: what was typed, for the report.
        sets: {name, source, hash, count} of each set of prompts.
        embed: whether the page holds the sounds itself; None decides by their size.
    """

    systems: tuple[System, ...]
    prompts: tuple[Asked, ...]
    metrics: tuple[str, ...]
    voices: tuple[str, ...] = ()
    jobs: int = 1
    device: str = "auto"
    engine: str = "auto"
    tag: bool = True
    title: str = "A comparison of speech synthesis"
    command: str = ""
    sets: tuple[Mapping[str, Any], ...] = ()
    embed: bool | None = None


@dataclass(frozen=True)
class Said:
    """A prompt in one voice, its recordings in the folder of the comparison.

    Attributes:
        asked: the prompt; its id is unique.
        voice: the recording that systems are asked with.
        voice_text: what it says, where that is known.
        reference: a recording of the text, where there is one.
        decides: hash of all of that.
    """

    asked: Asked
    voice: Path
    voice_text: str | None
    reference: Path | None
    decides: str

    @property
    def id(self) -> str:
        """The prompt's."""
        return self.asked.id

    def info(self, store: Store) -> Prompt:
        """As it stands in the report."""
        asked = self.asked
        return Prompt(
            id=asked.id, set=asked.set, task=asked.task, text=asked.text, speaker=asked.speaker,
            voice=Path(str(asked.voice)).stem,
            voice_text=self.voice_text, voice_audio=store.relative(self.voice),
            reference_audio=None if self.reference is None else store.relative(self.reference),
        )  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One recording to be made.

    Attributes:
        system: who makes it.
        said: of what.
        seed: with which.
        item: its name among the system's recordings.
        key: hash of all that decides it.
    """

    system: System
    said: Said
    seed: int
    item: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """Every recording.

    Attributes:
        said: the prompts.
        cells: by system's name, in the order of prompts and seeds.
    """

    said: tuple[Said, ...]
    cells: Mapping[str, tuple[Cell, ...]]


def plan(job: Job, store: Store) -> Plan:
    """Copy the recordings that are needed into the folder and name everything that is to be made.

    Raises:
        UserError: a voice is missing, ids collide, or a system is not there.
    """
    said = tuple(_placed(asked, store) for one in job.prompts for asked in _voiced(one, job.voices))
    ids = [one.id.casefold() for one in said]
    twice = next((said[i].id for i, name in enumerate(ids) if ids.index(name) < i), None)
    if twice is not None:
        raise UserError(f"two prompts are called {twice!r}; ids name files and must differ between all sets")
    cells = {system.name: tuple(_cells(job, system, said)) for system in job.systems}
    return Plan(said, cells)


def _voiced(asked: Asked, voices: Sequence[str]) -> list[Asked]:
    """A prompt in its own voice, or once in each of those that everybody says it in."""
    if asked.voice is not None:
        return [asked]
    if not voices:
        raise UserError(f"the prompt {asked.id} names no voice; give --voice, or a column 'voice'")
    several = len(voices) > 1
    return [
        replace(asked, id=f"{asked.id}.{safe(Path(voice).stem)}" if several else asked.id, voice=voice,
                speaker=safe(Path(voice).stem))
        for voice in voices
    ]  # fmt: skip


def _placed(asked: Asked, store: Store) -> Said:
    """A prompt with its recordings copied."""
    source, text = _recording(asked)
    span = asked.voice_span
    if span is not None and text is None and asked.whole_text is not None:
        text = said_within(source, asked.whole_text, span)
    voice = store.keep(source, source.stem) if span is None else _cut(source, span, store)
    reference = None if asked.reference is None else store.keep(asked.reference, asked.id)
    decides = key_of({
        "text": asked.text, "task": asked.task, "voice": digest(voice), "voice_text": text,
        "reference": None if reference is None else digest(reference),
    })  # fmt: skip
    return Said(asked, voice, text, reference, decides)


def _recording(asked: Asked) -> tuple[Path, str | None]:
    """The voice's file and what it says; a shipped name means the shipped voice, whatever lies beside us."""
    known = shipped()
    if isinstance(asked.voice, str) and asked.voice in known:
        path = known[asked.voice]
        return path, asked.voice_text or path.with_suffix(".txt").read_text(encoding="utf-8").strip()
    assert asked.voice is not None
    return resolve(asked.voice, asked.voice_text)


def _cut(source: Path, span: tuple[float, float], store: Store) -> Path:
    """A part of a recording as a prompt of its own."""
    start, end = span
    target = store.folder / "prompts" / f"{safe(source.stem)}-{digest(source)[:8]}-{start:g}-{end:g}.flac"
    if not target.is_file():
        audio = read(source)
        part = audio.samples[round(start * audio.sample_rate) : round(end * audio.sample_rate)]
        if not len(part):
            raise UserError(f"{source}: lasts {audio.seconds:.2f} s, there is nothing from {start:g} to {end:g} s")
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target, Audio(part, audio.sample_rate))
    return target


def _cells(job: Job, system: System, said: Sequence[Said]) -> list[Cell]:
    decides = identity(system)
    if system.kind == "model":
        decides |= {"engine": system.settings.get("engine", job.engine), "device": job.device, "tag": job.tag}
    elif system.kind == "copy":
        decides["tag"] = job.tag
    found = []
    for number, one in enumerate(said):
        mine = dict(decides)
        if system.kind == "folder":
            finished = finished_audio(Path(system.source).expanduser(), one.id, number)
            mine["file"] = None if finished is None else digest(finished)
        for seed in system.seeds:
            item = one.id if len(system.seeds) == 1 else f"{one.id}.s{seed}"
            found.append(Cell(system, one, seed, item, key_of({**mine, "said": one.decides, "seed": seed})))
    return found


def finished_audio(folder: Path, id: str, number: int) -> Path | None:
    """The recording of a prompt in a folder of finished audio.

    Args:
        folder: where.
        id: of the prompt: ``ID.wav``.
        number: of the prompt, from 0: ``0001.wav`` as ``flowtts say --lines`` names them, where no name is an id.
    """
    return _recordings(folder).get(id) or _recordings(folder).get(f"{number + 1:04d}")


@lru_cache(maxsize=16)
def _recordings(folder: Path) -> Mapping[str, Path]:
    """Recordings of a folder by their names without suffix; of several the first kind in ``SOUNDS``."""
    found: dict[str, Path] = {}
    for suffix in SOUNDS:
        for path in sorted(folder.glob(f"*{suffix}")):
            found.setdefault(path.stem, path)
    return found


def outline(job: Job, folder: Path) -> list[dict[str, Any]]:
    """What would be made, for ``--dry-run``: {name, label, kind, recordings, there} of each system.

    Recordings are looked up in an earlier comparison's folder; nothing is written.

    Raises:
        UserError: see ``plan``.
    """
    with TemporaryDirectory() as scratch:
        made = plan(job, Store(Path(scratch)))
    there = Store(folder)
    return [
        {
            "name": system.name, "label": system.label, "kind": system.kind, "settings": dict(system.settings),
            "seeds": list(system.seeds), "recordings": len(cells),
            "there": sum(there.record(system.name, cell.item, cell.key) is not None for cell in cells),
        }
        for system in job.systems if (cells := made.cells[system.name])
    ]  # fmt: skip
