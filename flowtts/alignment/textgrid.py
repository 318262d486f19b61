"""Praat's TextGrid files, the format of the Montreal Forced Aligner: read, write, and turn into alignments.

Praat's text files are a stream of free-standing numbers, quoted strings and flags such as ``<exists>``; everything
else is commentary. The long format is the short one with commentary (``xmin = 0``), so one reader serves both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from flowtts.alignment.base import SILENCE, Alignment
from flowtts.alignment.files import write_text
from flowtts.types import PathLike, UserError

_TOKEN = re.compile(
    r'"((?:[^"]|"")*)"'  # a string; a doubled quote is one quote
    r"|(?<!\S)<(\w+)>"
    r"|(?<!\S)([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?=\s|$)"  # free-standing, unlike the 1 in "intervals [1]:"
    r"|(?<!\S)![^\n]*"
)
_CLOSE = 1e-4


@dataclass(frozen=True)
class Interval:
    """A labelled stretch of time, seconds. A point has ``start == end``."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Tier:
    """A named row of intervals, in order."""

    name: str
    intervals: tuple[Interval, ...]
    points: bool = False


@dataclass(frozen=True)
class TextGrid:
    """A TextGrid.

    Attributes:
        start: seconds.
        end: seconds.
        tiers: in the file's order.
    """

    start: float
    end: float
    tiers: tuple[Tier, ...]

    def tier(self, *names: str) -> Tier | None:
        """The first interval tier with one of these names; "speaker - name" (several speakers) counts as "name"."""
        for tier in self.tiers:
            if not tier.points and tier.name.split(" - ")[-1].strip().lower() in names:
                return tier
        return None


def read_textgrid(path: PathLike) -> TextGrid:
    """Read a TextGrid in Praat's long or short text format, UTF-8 or UTF-16.

    Raises:
        UserError: missing, not a TextGrid, or broken; names the file.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if data.startswith(b"ooBinaryFile"):
        raise UserError(f"{path}: is a binary Praat file; save it from Praat as a text file")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return _Reader(path, data.decode(encoding)).grid()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is neither UTF-8 nor UTF-16 text; save it from Praat as UTF-8") from error


class _Reader:
    """Takes the tokens of a file one by one."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.line = 1
        self._tokens = self._scan()

    def _scan(self) -> Iterator[tuple[str, str]]:
        position = 0
        for match in _TOKEN.finditer(self.text):
            self.line += self.text.count("\n", position, match.start())
            position = match.start()
            string, flag, number = match.groups()
            if string is not None:
                yield "a string", string.replace('""', '"')
            elif flag is not None:
                yield "a flag", flag
            elif number is not None:
                yield "a number", number

    def fail(self, problem: str) -> NoReturn:
        raise UserError(f"{self.path}: line {self.line}: {problem}; save it again as a TextGrid text file")

    def take(self, kind: str) -> str:
        found, value = next(self._tokens, ("the end of the file", ""))
        if found != kind:
            self.fail(f"{kind} expected, not {found}")
        return value

    def number(self) -> float:
        return float(self.take("a number"))

    def count(self) -> int:
        value = self.number()
        if value != int(value) or value < 0:
            self.fail(f"a count expected, not {value}")
        return int(value)

    def grid(self) -> TextGrid:
        if not self.text.lstrip().startswith(("File type", '"ooTextFile')):
            self.fail("is no TextGrid")
        self.take("a string")
        if self.take("a string") != "TextGrid":
            self.fail("holds another kind of Praat object")
        start, end = self.number(), self.number()
        tiers = tuple(self.tier() for _ in range(self.count())) if self.take("a flag") == "exists" else ()
        return TextGrid(start, end, tiers)

    def tier(self) -> Tier:
        kind = self.take("a string")
        if kind not in ("IntervalTier", "TextTier"):
            self.fail(f"unknown kind of tier '{kind}'")
        name = self.take("a string")
        self.number(), self.number()
        points = kind == "TextTier"
        return Tier(name, tuple(self.interval(points) for _ in range(self.count())), points)

    def interval(self, point: bool) -> Interval:
        start = self.number()
        end = start if point else self.number()
        text = self.take("a string")
        if end < start:
            self.fail(f"interval '{text}' ends before it starts")
        return Interval(start, end, text)


def write_textgrid(path: PathLike, grid: TextGrid, *, short: bool = False) -> None:
    """Write a TextGrid in Praat's long or short text format, UTF-8, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(path, _short(grid) if short else _long(grid))


def from_alignment(alignment: Alignment) -> TextGrid:
    """Tiers "words" and "phones", pauses as empty intervals, without what lasts no time."""
    phones = [Interval(p.start, p.end, "" if p.word < 0 else p.symbol) for p in alignment.phones if p.end > p.start]
    words = [Interval(w.start, w.end, w.text) for w in alignment.words]
    end = alignment.seconds
    return TextGrid(0.0, end, (Tier("words", _filled(words, end)), Tier("phones", _filled(phones, end))))


def _filled(intervals: Sequence[Interval], end: float) -> tuple[Interval, ...]:
    """Intervals without gaps, as Praat wants them; adjacent pauses become one."""
    filled: list[Interval] = []
    clock = 0.0
    for item in [*intervals, Interval(end, end, "")]:
        if item.start > clock + _CLOSE:
            filled.append(Interval(clock, item.start, ""))
        if item.end > item.start:
            if not item.text and filled and not filled[-1].text:
                filled[-1] = Interval(filled[-1].start, item.end, "")
            else:
                filled.append(item)
        clock = max(clock, item.end)
    return tuple(filled)


def is_silence(label: str) -> bool:
    """True for the labels that aligners and engines give to pauses."""
    return label.strip().lower() in ("", "sil", "sp", "spn", "pau", "<eps>", "<sil>", "_", "h#", SILENCE.lower())


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _short(grid: TextGrid) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", _number(grid.start), _number(grid.end)]
    lines += ["<exists>", str(len(grid.tiers))]
    for tier in grid.tiers:
        kind = "TextTier" if tier.points else "IntervalTier"
        lines += [_quoted(kind), _quoted(tier.name), _number(grid.start), _number(grid.end), str(len(tier.intervals))]
        for item in tier.intervals:
            lines += [_number(item.start)] if tier.points else [_number(item.start), _number(item.end)]
            lines.append(_quoted(item.text))
    return "\n".join(lines) + "\n"


def _long(grid: TextGrid) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += [f"xmin = {_number(grid.start)}", f"xmax = {_number(grid.end)}", "tiers? <exists>"]
    lines += [f"size = {len(grid.tiers)}", "item []:"]
    for index, tier in enumerate(grid.tiers, 1):
        kind, items = ("TextTier", "points") if tier.points else ("IntervalTier", "intervals")
        lines += [f"    item [{index}]:", f'        class = "{kind}"', f"        name = {_quoted(tier.name)}"]
        lines += [f"        xmin = {_number(grid.start)}", f"        xmax = {_number(grid.end)}"]
        lines.append(f"        {items}: size = {len(tier.intervals)}")
        for place, item in enumerate(tier.intervals, 1):
            lines.append(f"        {items} [{place}]:")
            if tier.points:
                lines += [f"            number = {_number(item.start)}", f"            mark = {_quoted(item.text)}"]
            else:
                lines += [f"            xmin = {_number(item.start)}", f"            xmax = {_number(item.end)}"]
                lines.append(f"            text = {_quoted(item.text)}")
    return "\n".join(lines) + "\n"
