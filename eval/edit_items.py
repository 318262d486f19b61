"""Edits as metrics see them: a recording, what was made of it, and which samples were replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from flowtts.alignment.choose import english_aligner
from flowtts.audio.io import read
from flowtts.edit.diff import diff
from flowtts.recognise import spoken_words
from flowtts.text import FrontEnd
from flowtts.types import Audio, PathLike, UserError, Word

Sound = PathLike | Audio
"""A recording in memory or in a file; files are read when a metric needs them."""


@dataclass(frozen=True, order=True)
class EditSpan:
    """One patch, its cross-fades included: samples [start_out, end_out) of the output replace [start, end)."""

    start: int
    end: int
    start_out: int
    end_out: int

    def __post_init__(self) -> None:
        if not (0 <= self.start <= self.end and 0 <= self.start_out <= self.end_out):
            raise ValueError(f"a span needs 0 <= start <= end on both sides, not {self}")


@dataclass(frozen=True, eq=False)
class EditItem:
    """One edit.

    Attributes:
        input: the recording.
        output: what was made of it.
        text: what the recording says.
        to: what the output should say.
        spans: the patches, in order and without overlap.
        id: the edit's name.
        words: the output's words with times, where the editor told them.
        reference: a recording of ``to`` by the same voice (or, of a denoised recording, the clean one), where there is
            one.
        reference_words: its words with times, where they are known; otherwise they are found by alignment.
    """

    input: Sound
    output: Sound
    text: str
    to: str
    spans: tuple[EditSpan, ...]
    id: str = ""
    words: tuple[Word, ...] = ()
    reference: Sound | None = None
    reference_words: tuple[Word, ...] = ()

    def __post_init__(self) -> None:
        for before, after in zip(self.spans, self.spans[1:], strict=False):
            if after.start < before.end or after.start_out < before.end_out:
                raise ValueError(f"spans overlap or are out of order: {before}, {after}")


@dataclass(frozen=True)
class Changes:
    """Which words of the wanted text an edit put there.

    Attributes:
        wanted: its words.
        edited: whether each was replaced or inserted; the others were kept.
        stretches: (first, last) of each run of edited words, ``last`` exclusive.
    """

    wanted: tuple[str, ...]
    edited: tuple[bool, ...]
    stretches: tuple[tuple[int, int], ...]


def from_sidecar(
    input: Sound,
    output: Sound,
    sidecar: Mapping[str, Any],
    *,
    text: str,
    to: str,
    id: str = "",
    reference: Sound | None = None,
) -> EditItem:
    """An edit from the JSON that ``flowtts edit`` prints with ``--json`` and writes beside the output.

    Args:
        input: the recording.
        output: what was made of it.
        sidecar: its ``spans`` (start_sample, end_sample, start_out_sample, end_out_sample) and ``words`` are used.
        text: what the recording says.
        to: what the output should say.
        id: the edit's name; the output's path by default.
        reference: see ``EditItem``.

    Raises:
        UserError: it is no sidecar of an edit.
    """
    name = id or (str(output) if not isinstance(output, Audio) else "")
    keys = ("start_sample", "end_sample", "start_out_sample", "end_out_sample")
    try:
        spans = tuple(sorted(EditSpan(*(int(span[key]) for key in keys)) for span in sidecar["spans"]))
        # Of a long recording only the words around the changes are listed, which align with no text.
        listed = sidecar.get("words", ()) if sidecar.get("words_cover") is None else ()
        words = tuple(Word(str(w["text"]), float(w["start"]), float(w["end"])) for w in listed)
        return EditItem(input, output, text, to, spans, name, words, reference)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UserError(f"{name or 'the edit'}: its JSON does not describe an edit ({reason}); edit it again") from None


def sound(source: Sound) -> Audio:
    """The whole recording.

    Raises:
        UserError: the file cannot be read.
    """
    return source if isinstance(source, Audio) else read(source)


def names(items: Sequence[EditItem]) -> list[str]:
    """One distinct name per item: its id, or its number from 1 where it has none or shares it."""
    found: list[str] = []
    for number, item in enumerate(items, start=1):
        name = item.id or f"#{number}"
        found.append(name if name not in found else f"{name}#{number}")
    return found


def changes(text: str, to: str) -> Changes:
    """Compare two texts as recognisers hear them (``flowtts.recognise.spoken_words``)."""
    return _compare(tuple(spoken_words(text)), tuple(spoken_words(to)))


def read_changes(text: str, to: str) -> Changes:
    """Compare two texts word by word as they are read aloud, so that indices fit the words of an alignment."""
    reader = _reader()
    before, after = (tuple(word.text for word in reader.analyse(t).words) for t in (text, to))
    return _compare(before, after)


def aligned(source: Sound, text: str) -> tuple[Word, ...]:
    """The words of a recording with times, by pocketsphinx.

    Raises:
        UserError: the text cannot be aligned with it.
    """
    return english_aligner().align(sound(source).mono(), _reader().analyse(text)).words


def outside(audio: Audio, spans: Sequence[tuple[int, int]]) -> Audio:
    """Mono, what lies outside some stretches [start, end) of samples, joined."""
    samples = audio.mono().samples
    keep = np.ones(len(samples), dtype=bool)
    for start, end in spans:
        keep[start:end] = False
    return Audio(samples[keep], audio.sample_rate)


def _compare(before: tuple[str, ...], after: tuple[str, ...]) -> Changes:
    stretches = tuple((c.first, c.last) for c in diff(before, after) if c.last > c.first)
    places = {index for first, last in stretches for index in range(first, last)}
    return Changes(after, tuple(index in places for index in range(len(after))), stretches)


@lru_cache(maxsize=1)
def _reader() -> FrontEnd:
    return FrontEnd()
