"""What is asked of the systems: sets of prompts that are shipped, and those of users."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import soundfile

from flowtts.bench.sentences import file_name, read_table, take
from flowtts.bench.store import key_of
from flowtts.types import PathLike, UserError
from flowtts.voice import shipped as shipped_voices

SETS = ("english", "hard", "edits", "accents")
"""Shipped sets: ``flowtts/prompts/README.md`` says what each is for."""

COLUMNS = ("id", "text", "voice", "voice_text", "reference", "speaker", "task")
"""Columns of a TSV that mean something; the first two it must have, and others are for its readers."""

Task = Literal["say", "edit"]


@dataclass(frozen=True)
class Asked:
    """One prompt.

    Attributes:
        id: names files.
        text: what is to be said; of an edit, what the recording is to say afterwards.
        voice: the recording whose voice it is, or that is edited; a shipped voice's name; None for the default voices.
        voice_text: what ``voice`` says (of a ``voice_span``: that part), where that is known.
        reference: a recording of the text.
        speaker: groups prompts whose voices belong to one person; empty where no voice is named.
        task: "say" or "edit".
        set: the name of the set it comes from.
        voice_span: the seconds (start, end) of ``voice`` that are used; all of it if None.
        whole_text: what all of ``voice`` says where a part is used; ``lists.said_within`` finds the part's words.
    """

    id: str
    text: str
    voice: PathLike | None = None
    voice_text: str | None = None
    reference: Path | None = None
    speaker: str = ""
    task: Task = "say"
    set: str = ""
    voice_span: tuple[float, float] | None = None
    whole_text: str | None = None


Found = list[tuple[int, Asked]]
"""Prompts with the lines that they stand on."""


def shipped(name: str) -> Path:
    """The file of a shipped set."""
    return Path(str(resources.files("flowtts") / "prompts" / f"{name}.tsv"))


def read_prompts(
    source: PathLike, *, format: str | None = None, root: PathLike | None = None, count: int | None = None
) -> tuple[Asked, ...]:
    """Prompts of a set.

    Args:
        source: the name of a shipped set (``./english`` is a file of that name), a TSV, or what the format says.
        format: of a file: "tsv" or one of ``lists.FORMATS``; None or "auto" tells it by what the file holds.
        root: where the recordings that a file names lie; its own folder if None.
        count: how many to take from the beginning; all if None.

    Raises:
        UserError: there is no such set, the file is wrong, or a recording is missing or unreadable.
    """
    if str(source) in SETS:
        return _read_tsv(shipped(str(source)), str(source), None, count)
    # Lists are made of what is defined here.
    from flowtts.compare.lists import FORMATS, guess, read_list

    path = Path(source).expanduser()
    folder = None if root is None else Path(root).expanduser()
    if not path.exists():
        near = difflib.get_close_matches(str(source), SETS, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"no prompts {str(source)!r}{meant} (give a file, or one of {', '.join(SETS)})")
    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one that holds the recordings with --audio-root")
    chosen = guess(path) if format in (None, "auto") else format
    if chosen == "tsv":
        return _read_tsv(path, path.stem, folder, count)
    if chosen not in FORMATS:
        raise UserError(f"no format of prompts {chosen!r}; there are auto, tsv, {', '.join(FORMATS)}")
    return read_list(path, chosen, folder, count)


def read_sets(
    sources: Sequence[PathLike], *, format: str | None = None, root: PathLike | None = None, count: int | None = None
) -> tuple[tuple[Asked, ...], tuple[dict[str, Any], ...]]:
    """Prompts of several sets, and {name, source, hash, count} of each; for the arguments see ``read_prompts``.

    The hash is of all that is said, the recordings left out: a plan holds theirs.

    Raises:
        UserError: as for each.
    """
    found: list[Asked] = []
    about = []
    for source in sources:
        prompts = read_prompts(source, format=format, root=root, count=count)
        rows = [[one.id, one.text, one.task, one.speaker, one.voice_text, one.voice_span] for one in prompts]
        name = prompts[0].set
        about.append({"name": name, "source": str(source), "hash": key_of({"prompts": rows}), "count": len(prompts)})
        found.extend(prompts)
    return tuple(found), tuple(about)


def _read_tsv(path: Path, name: str, root: Path | None, count: int | None) -> tuple[Asked, ...]:
    """A TSV with some of ``COLUMNS``."""
    names, rows = read_table(path, COLUMNS[:2], "prompts", exact=True)
    for column in names:
        meant = next((known for known in COLUMNS if _plain(known) == _plain(column) and known != column), None)
        if meant is not None:
            raise UserError(f"{path} line 1: has a column {column!r}; write {meant!r}")
    folder = path.parent if root is None else root
    return ready(path, [(line, _asked(path, line, row, name, folder)) for line, row in rows], count)


def _plain(column: str) -> str:
    return re.sub(r"[\W_]+", "", column).casefold()


def _asked(path: Path, line: int, row: dict[str, str], name: str, folder: Path) -> Asked:
    """A row of a TSV."""
    cells = {column: row.get(column, "").strip() for column in COLUMNS}
    where = f"{path} line {line}"
    if not cells["id"]:
        raise UserError(f"{where}: has no id; give it a name")
    id = file_name(path, line, cells["id"])
    if not cells["text"]:
        raise UserError(f"{where}: {id} has no text; write what is to be said")
    task = cells["task"] or "say"
    if task not in ("say", "edit"):
        raise UserError(f"{where}: no task {task!r}; there are say and edit")
    voice, voice_text = _voice(where, cells["voice"], cells["voice_text"] or None, folder)
    asked = Asked(
        id=id, text=cells["text"], voice=voice, voice_text=voice_text,
        reference=folder / cells["reference"] if cells["reference"] else None,
        speaker=cells["speaker"] or ("" if voice is None else Path(voice).stem),
        task="edit" if task == "edit" else "say", set=name,
    )  # fmt: skip
    if asked.task == "edit":
        _check_edit(where, asked)
    return asked


def _voice(where: str, voice: str, text: str | None, folder: Path) -> tuple[PathLike | None, str | None]:
    """The voice of a row, a recording or a shipped one's name, and what it says."""
    if not voice:
        if text is not None:
            raise UserError(f"{where}: has a voice_text but no voice; name the recording that says it")
        return None, None
    if (folder / voice).is_file():
        return folder / voice, text
    known = shipped_voices()
    if voice in known:
        return voice, text or known[voice].with_suffix(".txt").read_text(encoding="utf-8").strip()
    raise UserError(
        f"{where}: no recording {folder / voice} and no shipped voice {voice!r}; there are {', '.join(known)}"
    )


def _check_edit(where: str, asked: Asked) -> None:
    if asked.voice is None:
        raise UserError(f"{where}: the edit {asked.id} has no voice; name the recording that is edited")
    if asked.voice_text is None:
        raise UserError(f"{where}: the edit {asked.id} has no voice_text; write what its recording says")
    if asked.voice_text.split() == asked.text.split():
        raise UserError(f"{where}: the edit {asked.id} changes nothing; text is what is to be said afterwards")


def ready(path: Path, found: Found, count: int | None) -> tuple[Asked, ...]:
    """The first prompts of a file, all if ``count`` is None, their recordings looked at but not read.

    Raises:
        UserError: see ``take``; or a recording is missing or no sound.
    """
    chosen = take(path, found, count, "prompt")
    seen: set[Path] = set()
    for (line, _), asked in zip(found, chosen, strict=False):
        recordings = [one for one in (asked.voice, asked.reference) if isinstance(one, Path) and one not in seen]
        for recording in recordings:
            seconds_of(recording, f"{path} line {line}")
        seen.update(recordings)
    return chosen


def seconds_of(recording: Path, where: str) -> float:
    """How long a recording lasts, by its header.

    Raises:
        UserError: it is missing or no sound; ``where`` it was named.
    """
    if not recording.is_file():
        raise UserError(f"{where}: no recording {recording}; check the path")
    try:
        info = soundfile.info(recording)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: {recording} cannot be read as sound ({reason})") from None
    if not info.frames:
        raise UserError(f"{where}: {recording} holds no sound (0 samples)")
    return float(info.duration)
