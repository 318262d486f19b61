"""Making the recordings of a system, in a process of its own: what is timed, and how, is decided here."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowtts.checkpoint import digest
from flowtts.compare.plan import Cell, finished_audio
from flowtts.compare.store import Store, read
from flowtts.compare.systems import OPUS, System
from flowtts.types import Audio, UserError

OPTIONAL = ("solver", "grid", "steps", "guidance", "temperature", "preset", "decoding", "best_of", "rank", "speed")


@dataclass(frozen=True)
class Speaking:
    """Loads a system; what that returns makes one cell: its sound, and a record of how.

    Attributes:
        cells: by item; all of one system.
        store: where they go.
        device, engine: for models.
        tag: see ``plan.Job``.
        numbers: position of each prompt, for folders of numbered files.
    """

    cells: dict[str, Cell]
    store: Store
    device: str
    engine: str
    tag: bool
    numbers: dict[str, int]

    def __call__(self) -> Callable[[str], dict[str, Any]]:
        """Load what is needed."""
        begun = time.perf_counter()
        system = next(iter(self.cells.values())).system
        make = _MAKERS[system.kind](self)
        loading = time.perf_counter() - begun
        seen: set[Path] = set()

        def work(item: str) -> dict[str, Any]:
            cell = self.cells[item]
            started = time.perf_counter()
            path, known = make(cell)
            took = time.perf_counter() - started
            clock = None
            if system.kind in ("model", "copy"):
                # A model has to listen to a voice once; a vocoder has nothing to wait for but its first call.
                warm = cell.said.voice in seen if system.kind == "model" else bool(seen)
                clock = {
                    "took": took, "load": None if seen else loading, "warm": warm, "memory": _peak_memory()
                }  # fmt: skip
            seen.add(cell.said.voice)
            return self._record(cell, path, {"clock": clock, **known})

        return work

    def _record(self, cell: Cell, path: Path, known: dict[str, Any]) -> dict[str, Any]:
        """Keep how a recording was made."""
        import soundfile

        info = soundfile.info(path)
        record = {
            "key": cell.key, "error": None, "audio": self.store.relative(path), "audio_hash": digest(path),
            "seconds": info.frames / info.samplerate, "sample_rate": int(info.samplerate), "nfe": None,
            "network_calls": None, "words": [], "spans": [], **known,
        }  # fmt: skip
        self.store.save_record(cell.system.name, cell.item, record)
        return record

    def prepare(self, cell: Cell, suffix: str = ".flac") -> Path:
        """Where a cell's recording goes; what was there before under another suffix goes away."""
        target = self.store.audio(cell.system.name, cell.item, suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        for old in target.parent.glob(f"{cell.item}.*"):
            if old.stem == cell.item and old != target:
                old.unlink(missing_ok=True)
        return target


Made = tuple[Path, dict[str, Any]]


def _model(speaking: Speaking) -> Callable[[Cell], Made]:
    """A recipe with its vocoder."""
    import flowtts

    system = next(iter(speaking.cells.values())).system
    engine = str(system.settings.get("engine", speaking.engine))
    tts = flowtts.load(system.source, system.vocoder or "auto", speaking.device, engine, speaking.tag)
    options = {key: system.settings[key] for key in OPTIONAL if key in system.settings}

    def say(cell: Cell) -> Made:
        said = cell.said
        target = speaking.prepare(cell)
        made = tts.say(said.asked.text, voice=said.voice, voice_text=said.voice_text, seed=cell.seed, **options)
        made.save(target, sidecar=False)
        return target, _about(made)

    def edit(cell: Cell) -> Made:
        said = cell.said
        if said.voice_text is None:
            raise UserError(f"the edit {said.id} does not say what its recording says: give voice_text")
        target = speaking.prepare(cell, said.voice.suffix if said.voice.suffix == ".wav" else ".flac")
        made = tts.edit(said.voice, said.voice_text, said.asked.text, seed=cell.seed, **options)
        made.save(target, sidecar=False)
        return target, _about(made)

    def make(cell: Cell) -> Made:
        return edit(cell) if cell.said.asked.task == "edit" else say(cell)

    return make


def _about(made: Any) -> dict[str, Any]:
    """What is kept of a ``Speech`` or ``Edited``; of its settings those that are the same for all prompts."""
    info = made.info()
    settings = {key: info[key] for key in (*OPTIONAL, "vocoder", "engine") if info.get(key) not in (None, "")}
    return {
        "nfe": made.nfe, "network_calls": made.network_calls, "words": info["words"], "spans": info.get("spans", []),
        "settings": settings,
    }  # fmt: skip


def _copy(speaking: Speaking) -> Callable[[Cell], Made]:
    """The reference through a vocoder or a codec: the best that a model of its features can do."""
    from flowtts.audio.io import read as read_audio
    from flowtts.audio.io import write
    from flowtts.provenance.metadata import comments

    system = next(iter(speaking.cells.values())).system
    name, through = _through(system, speaking.device, speaking.tag)
    said = comments("copy", name) if speaking.tag else None

    def make(cell: Cell) -> Made:
        target = speaking.prepare(cell)
        write(target, through(read_audio(_reference(cell))), comments=said)
        return target, {}

    return make


def _through(system: System, device: str, tag: bool) -> tuple[str, Callable[[Audio], Audio]]:
    """What a copy goes through, and its name."""
    from flowtts import copying, registry
    from flowtts.device import choose_device
    from flowtts.opus import opus
    from flowtts.provenance.tag import embed

    if system.source == OPUS:
        kbps = float(system.settings["kbps"])
        return OPUS, lambda audio: embed(opus(audio, kbps)[0]) if tag else opus(audio, kbps)[0]
    if "codebooks" in system.settings:
        codec = registry.load_codec(system.source, int(system.settings["codebooks"]), choose_device(device))
        return codec.name, lambda audio: copying.recode(codec, audio, tag)
    vocoder = registry.load_vocoder(system.source, None, choose_device(device))
    return vocoder.name, lambda audio: copying.copy(vocoder, audio, tag)


def _recordings(speaking: Speaking) -> Callable[[Cell], Made]:
    """The references themselves."""

    def make(cell: Cell) -> Made:
        reference = _reference(cell)
        return speaking.store.adopt(reference, speaking.prepare(cell, reference.suffix)), {}

    return make


def _reference(cell: Cell) -> Path:
    if cell.said.reference is None:
        raise UserError("there is no recording of this text")
    return cell.said.reference


def _folder(speaking: Speaking) -> Callable[[Cell], Made]:
    """Finished audio, with its timing where a JSON file beside it tells."""
    from flowtts.audio.io import read as read_audio

    folder = Path(next(iter(speaking.cells.values())).system.source).expanduser()

    def make(cell: Cell) -> Made:
        source = finished_audio(folder, cell.said.id, speaking.numbers[cell.said.id])
        if source is None:
            raise UserError(f"{folder} has no recording called {cell.said.id}")
        # What is no sound, or none that can be judged, is to be found here and not by every judge.
        read_audio(source)
        target = speaking.prepare(cell, source.suffix.lower())
        target.unlink(missing_ok=True)
        return speaking.store.adopt(source, target), _told(source)

    return make


def _told(source: Path) -> dict[str, Any]:
    """What the JSON beside a recording says: the keys of our own sidecars, or ``took``, seconds of computing."""
    beside = read(source.with_suffix(".json")) or {}
    found: dict[str, Any] = {
        key: value for key in ("nfe", "network_calls") if isinstance(value := beside.get(key), int) and value >= 0
    }
    for key in ("words", "spans"):
        if isinstance(beside.get(key), list):
            found[key] = beside[key]
    took, rtf, seconds = (_number(beside.get(key)) for key in ("took", "rtf", "seconds"))
    if took is None and rtf is not None and seconds is not None:
        took = rtf * seconds
    if took is not None:
        found["clock"] = {"took": took, "load": None, "warm": True, "memory": None}
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 else None


_MAKERS: dict[str, Callable[[Speaking], Callable[[Cell], Made]]] = {
    "model": _model, "copy": _copy, "recordings": _recordings, "folder": _folder,
}  # fmt: skip


def _peak_memory() -> float | None:
    """MB that this process, or its GPU, has held at most."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / 1e6
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most) / (1e6 if sys.platform == "darwin" else 1e3)
