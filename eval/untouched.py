"""Whether an edit kept every sample it was not asked to change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from flowtts.types import Audio, Score, UserError

from .bootstrap import Interval, mean_interval
from .edit_items import EditItem, EditSpan, Sound, names
from .judging import score

BACKEND = "samples compared as stored"
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Untouched:
    """What differs outside the spans; all zero if the edit kept its promise.

    Attributes:
        difference: largest absolute difference of two samples; infinite if the recordings have not the same sampling
            rate, channels or kept length.
        samples: how many differ, over all channels; a sample that only one side has differs.
        compared: how many were compared.
    """

    difference: float
    samples: int
    compared: int


def untouched(input: Sound, output: Sound, spans: Sequence[EditSpan]) -> Untouched:
    """Compare everything outside the spans, sample by sample.

    Files are read in order and block by block, in double precision, which holds every integer and float encoding
    exactly: nothing is rounded, and a recording of any length fits into memory.

    Args:
        input: the recording.
        output: what was made of it.
        spans: in order.

    Raises:
        UserError: a file cannot be read.
    """
    with _Stream(input) as before, _Stream(output) as after:
        if before.shape != after.shape:
            return Untouched(math.inf, 0, 0)
        largest, different, compared = 0.0, 0, 0
        end, end_out = 0, 0
        for span in [*spans, None]:
            length = span.start - end if span else None
            length_out = span.start_out - end_out if span else None
            for left, right in _pairs(before, after, length, length_out):
                shared = min(len(left), len(right))
                gap = np.abs(left[:shared] - right[:shared])
                missing = max(left.size, right.size) - gap.size
                largest = max(largest, float(gap.max(initial=0.0)), math.inf if missing else 0.0)
                different += int(np.count_nonzero(gap)) + missing
                compared += gap.size
            if span:
                before.skip(span.end - span.start)
                after.skip(span.end_out - span.start_out)
                end, end_out = span.end, span.end_out
        return Untouched(largest, different, compared)


def judge_untouched(items: Sequence[EditItem]) -> dict[str, Score]:
    """``untouched``: the largest difference over all edits; ``differing``: the mean number of samples that differ.

    Both must be 0. The first is a maximum, for which resampling says nothing: its interval is the value.
    """
    largest: dict[str, float] = {}
    different: dict[str, float] = {}
    rates: set[int] = set()
    for name, item in zip(names(items), items, strict=True):
        found = untouched(item.input, item.output, item.spans)
        largest[name], different[name] = found.difference, float(found.samples)
        rates.add(item.output.sample_rate if isinstance(item.output, Audio) else _rate(item.output))
    worst = max(largest.values(), default=math.nan)
    rate = min(rates) if rates else 0
    return {
        "untouched": score(Interval(worst, worst, worst), largest, {}, BACKEND, rate),
        "differing": score(mean_interval(list(different.values())), different, {}, BACKEND, rate),
    }


def _pairs(
    before: _Stream, after: _Stream, length: int | None, length_out: int | None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Blocks of a kept stretch from both sides; None reaches to the end."""
    while length != 0 or length_out != 0:
        left = before.read(_BLOCK if length is None else min(_BLOCK, length))
        right = after.read(_BLOCK if length_out is None else min(_BLOCK, length_out))
        if not len(left) and not len(right):
            return
        length = None if length is None else length - len(left)
        length_out = None if length_out is None else length_out - len(right)
        yield left, right


class _Stream:
    """Sound that is read once, from the beginning: seeking is not exact in every format."""

    def __init__(self, source: Sound) -> None:
        self._file: Any = None
        self._at = 0
        if isinstance(source, Audio):
            self._samples = source.samples if source.samples.ndim == 2 else source.samples[:, None]
            self.shape = (source.sample_rate, self._samples.shape[1])
            return
        try:
            self._file = soundfile.SoundFile(Path(source))
        except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
            raise UserError(f"{source}: cannot be read as sound ({' '.join(str(error).split())})") from error
        self.shape = (int(self._file.samplerate), int(self._file.channels))

    def __enter__(self) -> _Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, count: int) -> NDArray[np.float64]:
        """(n, channels), n less than ``count`` only at the end."""
        if self._file is not None:
            return np.asarray(self._file.read(count, dtype="float64", always_2d=True))
        self._at += count
        return self._samples[self._at - count : self._at].astype(np.float64)

    def skip(self, count: int) -> None:
        """Pass over samples."""
        while count > 0:
            got = len(self.read(min(count, _BLOCK)))
            if not got:
                return
            count -= got


def _rate(path: Any) -> int:
    return int(soundfile.info(Path(path)).samplerate)
