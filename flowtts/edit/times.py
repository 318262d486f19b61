"""When the words and phones of an edited window are said in the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowtts.edit.canvas import Layout
from flowtts.edit.recording import Patch
from flowtts.edit.window import Window
from flowtts.text import Analysis
from flowtts.types import Word


@dataclass(frozen=True, eq=False)
class Times:
    """Places in the output of what is in one window.

    Attributes:
        window: the source.
        layout: the target.
        analysis: of the words it says.
        patches: one for each of its stretches.
        shift: samples that patches before the window have added.
    """

    window: Window
    layout: Layout
    analysis: Analysis
    patches: Sequence[Patch]
    shift: int

    def at(self, frame: int) -> float:
        """Seconds of the output at which a frame of the target begins."""
        moved = self.shift
        target = source = 0
        for stretch, patch in zip(self.layout.stretches, self.patches, strict=True):
            if stretch.end <= frame:
                moved += patch.delta
                target, source = stretch.end, stretch.source_end
            elif stretch.start < frame:
                start = self.window.seconds(stretch.source_start)
                return start + self._seconds(moved) + (frame - stretch.start) / self.window.spec.frame_rate
            else:
                break
        return self.window.seconds(source + frame - target) + self._seconds(moved)

    def words(self) -> list[Word]:
        """All words, from the durations of their phones: the aligner's for kept ones."""
        found = []
        for index, (start, end) in self.layout.word_frames().items():
            found.append(Word(self.analysis.words[index].text, self.at(start), self.at(end)))
        return found

    def phones(self) -> list[dict[str, Any]]:
        """All phones: {phone, word, start, end}, words counted within the window."""
        starts = self.layout.starts
        return [
            {
                "phone": slot.phone.symbol,
                "word": None if slot.phone.word < 0 else slot.phone.word,
                "start": round(self.at(int(start)), 4),
                "end": round(self.at(int(end)), 4),
            }
            for slot, start, end in zip(self.layout.canvas.slots, starts[:-1], starts[1:], strict=True)
        ]

    def cover(self) -> tuple[float, float]:
        """The window in the output."""
        rate = self.window.recording.sample_rate
        added = sum(patch.delta for patch in self.patches)
        return (self.window.start + self.shift) / rate, (self.window.end + self.shift + added) / rate

    def _seconds(self, samples: int) -> float:
        return samples / self.window.recording.sample_rate


def number(times: Sequence[Times]) -> tuple[dict[str, Any], ...]:
    """Phones of all windows, words counted through."""
    found: list[dict[str, Any]] = []
    before = 0
    for window in times:
        for phone in window.phones():
            found.append({**phone, "word": None if phone["word"] is None else phone["word"] + before})
        before += len(window.analysis.words)
    return tuple(found)
