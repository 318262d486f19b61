"""Alignments as files: JSON, subtitles (SRT, WebVTT) and TextGrid, chosen by the file's suffix."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowtts.alignment.base import SILENCE, Alignment, PhoneTime
from flowtts.alignment.files import write_text
from flowtts.alignment.textgrid import from_alignment, write_textgrid
from flowtts.types import PathLike, UserError, Word

if TYPE_CHECKING:
    from flowtts.text import Analysis

LINE = 42
"""Characters of a subtitle's line, at most: a common rule of broadcasters."""
LINES = 2
LONGEST = 7.0
"""Seconds a subtitle stays, at most."""
SHORTEST = 1.0
"""Seconds a subtitle stays, if the next one leaves the time."""
GAP = 1.5
"""A pause of this many seconds starts a new subtitle."""
_SENTENCE, _CLAUSE = tuple(".?!…"), tuple(",;:–—")
_NEAR, _RUN = 40, 4
"""Where a text's next word is looked for: so many characters on, or anywhere in a run of so many words."""
_CLOSING = "\"')]}”’»"


@dataclass(frozen=True)
class Cue:
    """A subtitle: at most two lines, seconds."""

    start: float
    end: float
    lines: tuple[str, ...]


def write_alignment(path: PathLike, alignment: Alignment, analysis: Analysis | str | None = None) -> None:
    """Write an alignment as ``.json``, ``.srt``, ``.vtt`` or ``.TextGrid``, atomically.

    Args:
        path: where; the suffix says what.
        alignment: words and phones with times.
        analysis: or the normalised text; gives subtitles their punctuation. Without it they get what the pauses tell.

    Raises:
        UserError: an unknown suffix, or the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".json":
        write_text(path, json.dumps(as_dict(alignment), ensure_ascii=False, indent=1) + "\n")
    elif suffix == ".srt":
        write_text(path, to_srt(cues(alignment, analysis)))
    elif suffix == ".vtt":
        write_text(path, to_vtt(cues(alignment, analysis)))
    elif suffix == ".textgrid":
        write_textgrid(path, from_alignment(alignment))
    else:
        raise UserError(f"{path}: unknown format of alignment '{suffix}'; use .json, .srt, .vtt or .TextGrid")


def write_words(
    path: PathLike, words: Sequence[Word], phones: Sequence[Mapping[str, Any]], normalised: str, seconds: float
) -> None:
    """Write the times of speech that was made, in the formats of ``write_alignment``.

    Args:
        path: where; the suffix says what.
        words: in order.
        phones: {phone, word, start, end} of the same speech, in order; ``word`` is an index or None for a pause.
        normalised: the text of which these are the words; gives subtitles their punctuation.
        seconds: length of the sound.

    Raises:
        UserError: an unknown suffix, or the file cannot be written.
    """
    write_alignment(path, _as_alignment(words, phones, seconds), normalised)


def _as_alignment(words: Sequence[Word], phones: Sequence[Mapping[str, Any]], seconds: float) -> Alignment:
    """Words and phones as an alignment, whose phones leave no time out: what lies between them is pause."""
    times: list[PhoneTime] = []
    clock = 0.0
    for phone in phones:
        start, end = max(clock, phone["start"]), max(clock, phone["end"])
        if start > clock:
            times.append(PhoneTime(SILENCE, -1, clock, start))
        times.append(PhoneTime(phone["phone"], -1 if phone["word"] is None else phone["word"], start, end))
        clock = end
    if clock < seconds or not times:
        times.append(PhoneTime(SILENCE, -1, clock, max(clock, seconds)))
    return Alignment(tuple(words), tuple(times))


def as_dict(alignment: Alignment) -> dict[str, Any]:
    """``words`` and ``phones``, each with text, start, end and confidence; phones also say their word."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    words = [
        {"text": w.text, "start": rounded(w.start), "end": rounded(w.end), "confidence": rounded(w.confidence)}
        for w in alignment.words
    ]
    phones = [
        {
            "text": p.symbol, "start": rounded(p.start), "end": rounded(p.end), "confidence": rounded(p.confidence),
            "word": p.word,
        }
        for p in alignment.phones
    ]  # fmt: skip
    return {"words": words, "phones": phones}


@dataclass(frozen=True)
class _Piece:
    """A word with the punctuation around it."""

    text: str
    start: float
    end: float


def cues(alignment: Alignment, analysis: Analysis | str | None = None) -> list[Cue]:
    """Group words into subtitles that break at the ends of sentences, then at clauses and long pauses."""
    if analysis is None:
        pieces = _punctuated(alignment)
    elif isinstance(analysis, str):
        pieces = _found(alignment, analysis)
    else:
        pieces = _with_text(alignment, analysis)
    groups: list[list[_Piece]] = []
    current: list[_Piece] = []
    for piece in pieces:
        if current and (piece.start - current[-1].end >= GAP or _ends(current[-1].text, _SENTENCE)):
            groups.append(current)
            current = []
        if current and not _fits([*current, piece]):
            cut = _last_clause(current)
            groups.append(current[:cut])
            current = current[cut:]
            if current and not _fits([*current, piece]):
                groups.append(current)
                current = []
        current.append(piece)
    groups.append(current)
    if not pieces:
        return []
    made = [Cue(g[0].start, g[-1].end, _lines([p.text for p in g])) for g in groups if g]
    following = [cue.start for cue in made[1:]] + [max(alignment.seconds, made[-1].end)]
    return [Cue(c.start, max(c.end, min(c.start + SHORTEST, n)), c.lines) for c, n in zip(made, following, strict=True)]


def to_srt(subtitles: Sequence[Cue]) -> str:
    """SubRip text."""
    blocks = [
        f"{i}\n{_clock(c.start, ',')} --> {_clock(c.end, ',')}\n" + "\n".join(c.lines) + "\n"
        for i, c in enumerate(subtitles, 1)
    ]
    return "\n".join(blocks)


def to_vtt(subtitles: Sequence[Cue]) -> str:
    """WebVTT text."""

    def escaped(line: str) -> str:
        return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    blocks = [
        f"{_clock(c.start, '.')} --> {_clock(c.end, '.')}\n" + "\n".join(map(escaped, c.lines)) + "\n"
        for c in subtitles
    ]
    return "WEBVTT\n\n" + "\n".join(blocks)


def _with_text(alignment: Alignment, analysis: Analysis) -> list[_Piece]:
    """Words as the normalised text prints them, with its punctuation."""
    text = analysis.normalised
    starts = [_opening(text, w.start) for w in analysis.words]
    ends = [*starts[1:], len(text)]
    shown = [" ".join(text[a:b].split()) for a, b in zip(starts, ends, strict=True)]
    return [_Piece(s, w.start, w.end) for s, w in zip(shown, alignment.words, strict=True)]


def _found(alignment: Alignment, text: str) -> list[_Piece]:
    """Words as a text prints them that is known only as a whole; a word that it does not hold is shown bare.

    Unlike an ``Analysis`` it does not say where its words are. They stand there in order, so each is looked for behind
    the one before. The text may have words that the alignment lacks: all between two windows of a long recording.
    """
    words = [word.text for word in alignment.words]
    pieces, place = [], 0
    for index, word in enumerate(alignment.words):
        # Near by: the next "the" may belong to another sentence. Further on only together with the words behind it.
        found = _spelt(words[index : index + 1]).search(text, place, place + len(word.text) + _NEAR)
        if found is None:
            found = _spelt(words[index : index + _RUN]).search(text, place)
        shown = word.text
        if found is not None:
            place = found.end(1)
            # Marks up to the next word, also those that stand alone, such as a dash; never the opening of that word.
            after = re.compile(r"[^\w\s]*(?:\s+[–—-]+(?=\s))?").match(text, place)
            shown = text[_opening(text, found.start()) : place if after is None else after.end()]
        pieces.append(_Piece(shown, word.start, word.end))
    return pieces


def _spelt(words: Sequence[str]) -> re.Pattern[str]:
    """A pattern of words in a row with whatever marks between them; the first one is its group."""
    first, *others = map(re.escape, words)
    return re.compile(rf"(?<!\w)({first})" + "".join(rf"\W+{other}" for other in others) + r"(?!\w)")


def _opening(text: str, start: int) -> int:
    """Where a word begins, with the brackets and quotes that open right before it."""
    while start > 0 and text[start - 1] in "\"'([{“‘«¿¡":
        start -= 1
    return start


def _punctuated(alignment: Alignment) -> list[_Piece]:
    """Words with the mark that the pause after each one stands for."""
    marks, last = {}, -1
    for phone in alignment.phones:
        if phone.word >= 0:
            last = phone.word
        else:
            marks[last] = phone.symbol.removeprefix(SILENCE)
    order = list(dict.fromkeys(p.word for p in alignment.phones if p.word >= 0))
    return [_Piece(w.text + marks.get(i, ""), w.start, w.end) for i, w in zip(order, alignment.words, strict=True)]


def _ends(text: str, marks: tuple[str, ...]) -> bool:
    return text.rstrip(_CLOSING).endswith(marks)


def _fits(pieces: Sequence[_Piece]) -> bool:
    if pieces[-1].end - pieces[0].start > LONGEST:
        return False
    lines = _lines([p.text for p in pieces])
    return len(lines) <= LINES and all(len(line) <= LINE for line in lines)


def _last_clause(pieces: Sequence[_Piece]) -> int:
    """How many pieces to keep so that the subtitle ends with a clause in its second half, if one does."""
    for count in range(len(pieces), len(pieces) // 2, -1):
        if _ends(pieces[count - 1].text, _CLAUSE):
            return count
    return len(pieces)


def _lines(words: Sequence[str]) -> tuple[str, ...]:
    """One line if it fits, else the two most even ones, rather after punctuation; more only for overlong words."""
    whole = " ".join(words)
    if len(whole) <= LINE or len(words) == 1:
        return (whole,)
    splits = []
    for place in range(1, len(words)):
        first, second = " ".join(words[:place]), " ".join(words[place:])
        bonus = 6 if _ends(words[place - 1], _SENTENCE + _CLAUSE) else 0
        longest = max(len(first), len(second))
        splits.append((longest > LINE, longest - bonus, place, first, second))
    return min(splits)[3:]


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"
