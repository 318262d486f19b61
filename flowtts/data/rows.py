"""Where corpora keep their recordings and transcripts: one reader per layout, all yielding the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from flowtts.audio.io import SOUNDS
from flowtts.types import PathLike, UserError


@dataclass(frozen=True)
class Row:
    """A recording, or a stretch of one, and what is said in it.

    Attributes:
        id: unique in the corpus.
        audio: the file.
        text: the transcript; empty where there is none.
        speaker: who speaks, or None.
        start: seconds into the file.
        end: seconds into the file, or None for its end.
        labels: (label, start, end) of every phone, where the corpus knows them exactly; times from ``start``.
    """

    id: str
    audio: Path
    text: str
    speaker: str | None = None
    start: float = 0.0
    end: float | None = None
    labels: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True)
class Broken:
    """A row that cannot be used, by its id or its place in the source, and why."""

    id: str
    reason: str


Rows = Iterator[Row | Broken]


def read_rows(kind: str, source: PathLike) -> Rows:
    """The rows of a corpus in a fixed order.

    Args:
        kind: a key of ``KINDS``.
        source: the corpus' folder, or the file of a table.

    Raises:
        UserError: an unknown kind, or no corpus of that kind there. Broken rows are yielded, not raised.
    """
    if kind not in KINDS:
        raise UserError(f"unknown kind of corpus '{kind}'; use one of {', '.join(KINDS)}")
    path = Path(source)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    return KINDS[kind](path)


def _ljspeech(root: Path) -> Rows:
    """LJ Speech: ``metadata.csv`` with id|text|text in full words, ``wavs/id.wav``."""
    table = _need(root / "metadata.csv", "LJ Speech")
    for number, line in enumerate(_lines(table), 1):
        fields = line.split("|")
        if len(fields) < 2 or not fields[0]:
            yield Broken(f"{table.name}:{number}", f"{len(fields)} fields instead of id|text|normalised")
            continue
        text = fields[2] if len(fields) > 2 and fields[2].strip() else fields[1]
        yield Row(fields[0], root / "wavs" / f"{fields[0]}.wav", text, "LJ")


def _librispeech(root: Path) -> Rows:
    """LibriSpeech: ``…/speaker/chapter/speaker-chapter.trans.txt`` beside the FLAC files."""
    found = False
    for table in sorted(root.rglob("*.trans.txt")):
        found = True
        for number, line in enumerate(_lines(table), 1):
            name, _, text = line.partition(" ")
            if not text.strip():
                yield Broken(name or f"{table.name}:{number}", "no transcript")
                continue
            # The transcripts are in capitals, which a front end would take for initials.
            yield Row(name, table.parent / f"{name}.flac", text.lower(), name.split("-")[0])
    if not found:
        raise UserError(f"{root}: is no LibriSpeech (no *.trans.txt below it); give the folder that holds its speakers")


def _libritts(root: Path) -> Rows:
    """LibriTTS: ``…/speaker/chapter/id.wav`` with ``id.normalized.txt``."""
    found = False
    for path in sorted(root.rglob("*.normalized.txt")):
        found = True
        name = path.name.removesuffix(".normalized.txt")
        text = " ".join(_lines(path))
        if text.strip():
            yield Row(name, path.with_name(f"{name}.wav"), text, name.split("_")[0])
        else:
            yield Broken(name, "no transcript")
    if not found:
        raise UserError(
            f"{root}: is no LibriTTS (no *.normalized.txt below it); give the folder that holds its speakers"
        )


def _vctk(root: Path) -> Rows:
    """VCTK: ``txt/p225/p225_001.txt`` with ``wav48_silence_trimmed/…_mic1.flac`` (0.92) or ``wav48/….wav`` (0.80)."""
    texts = sorted((root / "txt").glob("*/*.txt"))
    if not texts:
        raise UserError(f"{root}: is no VCTK (no txt/*/*.txt in it); give the folder that holds txt")
    for path in texts:
        name, speaker = path.stem, path.parent.name
        new = root / "wav48_silence_trimmed" / speaker / f"{name}_mic1.flac"
        old = root / "wav48" / speaker / f"{name}.wav"
        text = " ".join(_lines(path))
        if text.strip():
            yield Row(name, old if old.exists() and not new.exists() else new, text, speaker)
        else:
            yield Broken(name, "no transcript")


def _table(path: Path) -> Rows:
    """A TSV with the columns audio and text, and optionally id, speaker, start and end (seconds)."""
    lines = iter(_lines(path))
    header = next(lines, "").split("\t")
    columns = {name.strip().lower(): place for place, name in enumerate(header)}
    missing = [name for name in ("audio", "text") if name not in columns]
    if missing:
        raise UserError(
            f"{path}: line 1: no column '{missing[0]}'; a table begins with a line of column names, "
            "audio and text among them, separated by tabs"
        )
    for number, line in enumerate(lines, 2):
        if line.strip():
            yield _table_row(path, number, line.split("\t"), columns)


def _table_row(path: Path, number: int, fields: list[str], columns: dict[str, int]) -> Row | Broken:
    where = f"{path.name}:{number}"
    if len(fields) != len(columns):
        return Broken(where, f"{len(fields)} fields instead of {len(columns)}")
    values = {name: fields[place].strip() for name, place in columns.items()}
    if not values["audio"]:
        return Broken(where, "no audio file")
    audio = path.parent / values["audio"]
    times: dict[str, float] = {}
    for name in ("start", "end"):
        if values.get(name):
            try:
                times[name] = float(values[name])
            except ValueError:
                return Broken(where, f"{name} '{values[name]}' is not a number of seconds")
    start, end = times.get("start", 0.0), times.get("end")
    if not (start >= 0 and (end is None or end > start)):
        return Broken(
            where, f"the stretch from {start:g} to {end:g} s is empty" if end else f"start {start:g} is negative"
        )
    stretch = f"@{start:g}" if "start" in times else ""
    name = values.get("id") or Path(values["audio"]).with_suffix("").as_posix() + stretch
    return Row(name, audio, values["text"], values.get("speaker") or None, start, end)


def _engine(source: Path) -> Rows:
    """A corpus spoken by ``flowtts.recipes.voicebox.corpus``: ``VOICE.jsonl`` files, phones with their true times."""
    tables = [source] if source.is_file() else sorted(source.glob("*.jsonl"))
    if not tables:
        raise UserError(f"{source}: holds no *.jsonl of a spoken corpus; give the folder that the corpus script wrote")
    for table in tables:
        for number, line in enumerate(_lines(table), 1):
            try:
                item = json.loads(line)
                labels = tuple((str(p), float(a), float(b)) for p, a, b in item["phones"])
                name = f"{item['voice']}/{item['id']}"
                yield Row(name, table.parent / item["audio"], item["text"], item["voice"], labels=labels)
            except (ValueError, KeyError, TypeError) as error:
                yield Broken(
                    f"{table.name}:{number}", f"not a row of a spoken corpus ({type(error).__name__}: {error})"
                )


def _folder(root: Path) -> Rows:
    """Sound files without transcripts, anywhere below a folder; the folder next to a file names its speaker."""
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SOUNDS)
    if not files:
        raise UserError(f"{root}: holds no sound files; give a folder with {', '.join(SOUNDS)} files")
    for path in files:
        speaker = path.parent.name if path.parent != root else None
        yield Row(path.relative_to(root).with_suffix("").as_posix(), path, "", speaker)


def _need(path: Path, corpus: str) -> Path:
    if not path.is_file():
        raise UserError(f"{path.parent}: is no {corpus} (no {path.name} in it); give the folder that holds it")
    return path


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    # Not splitlines(): a transcript may hold characters such as U+2028 that it takes for the end of a line.
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []


KINDS: MappingProxyType[str, Callable[[Path], Rows]] = MappingProxyType(
    {
        "ljspeech": _ljspeech, "librispeech": _librispeech, "libritts": _libritts, "vctk": _vctk, "table": _table,
        "engine": _engine, "folder": _folder,
    }
)  # fmt: skip
