"""Drawings of numbers as SVG: axes, marks, lines. Colours are classes of the page's style sheet, for light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape

COLOURS = 7
"""Classes c0 to c6: Okabe and Ito's colours, which the colour-blind tell apart; see page.css."""

_SHAPES = (
    "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z",
    "M-4.4,-4.4h8.8v8.8h-8.8z",
    "M0,-5.6L5.3,4.2H-5.3z",
    "M0,-6L5.2,0L0,6L-5.2,0z",
    "M0,5.6L5.3,-4.2H-5.3z",
    "M-1.9,-5.5h3.8v3.6h3.6v3.8h-3.6v3.6h-3.8v-3.6h-3.6v-3.8h3.6z",
    "M-5,-2.4L-2.4,-5L0,-2.6L2.4,-5L5,-2.4L2.6,0L5,2.4L2.4,5L0,2.6L-2.4,5L-5,2.4L-2.6,0z",
)


def mark(number: int, x: float, y: float) -> str:
    """The mark of the system with that number: 49 differ in shape or colour, the first seven in both."""
    shape = _SHAPES[(number + number // COLOURS) % len(_SHAPES)]
    return f'<path class="mark c{number % COLOURS}" transform="translate({x:.1f} {y:.1f})" d="{shape}"/>'


def key(number: int) -> str:
    """A mark as it stands beside a name."""
    return f'<svg class="key" viewBox="-7 -7 14 14" aria-hidden="true">{mark(number, 0, 0)}</svg>'


@dataclass(frozen=True)
class Axis:
    """Numbers along an edge.

    Attributes:
        label: what they are.
        low, high: at the ends.
        marks: (number, how it is written) of what is labelled.
        log: whether equal distances are equal ratios; ``low`` is then positive.
    """

    label: str
    low: float
    high: float
    marks: Sequence[tuple[float, str]]
    log: bool = False

    def share(self, value: float) -> float:
        """How far along a number is, 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(label: str, values: Iterable[float]) -> Axis:
    """An axis for numbers, with round ones labelled."""
    known = list(values)
    low, high = min(known), max(known)
    room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
    # A count, a rate or a distance has no room below nothing.
    low, high = (low - room if low < 0 else max(0.0, low - room)), high + room
    step = _step((high - low) / 5)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    digits += not math.isclose(step * 10**digits, round(step * 10**digits))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(label, low, high, [(n * step, _number(n * step, digits)) for n in range(first, last + 1)])


def logarithmic(label: str, values: Iterable[float], marks: Sequence[float] = ()) -> Axis:
    """A logarithmic axis for positive numbers.

    Args:
        label: of the axis.
        values: what it must reach.
        marks: what is labelled; by default 1, 2 and 5 times powers of ten.
    """
    known = list(values)
    room = max((max(known) / min(known)) ** 0.08, 1.15)
    low, high = min(known) / room, max(known) * room
    if not marks:
        tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1,) if len(tens) > 4 else (1, 2, 5)
        marks = [value for ten in tens for step in steps if low <= (value := step * 10.0**ten) <= high]
    if len(marks) < 2:
        return replace(linear(label, (low, high)), low=low, high=high, log=True)
    return Axis(label, low, high, [(value, f"{value:g}") for value in marks], log=True)


def _step(rough: float) -> float:
    """The round number nearest above."""
    ten = 10.0 ** math.floor(math.log10(rough))
    return float(next(step * ten for step in (1, 2, 2.5, 5, 10) if rough <= step * ten * (1 + 1e-9)))


def _number(value: float, digits: int) -> str:
    return f"{value + 0.0:.{digits}f}".replace("-", "−")


@dataclass(frozen=True)
class Canvas:
    """A place to draw in, with axes below and, unless lines are named otherwise, to the left.

    Attributes:
        x, y: the axes; without y, heights are given as they are.
        width, height: of the whole drawing.
    """

    x: Axis
    y: Axis | None
    width: float = 380.0
    height: float = 290.0

    @property
    def left(self) -> float:
        """Where the drawing begins; what is labelled is to the left of it."""
        return 12.0 if self.y is None else 56.0

    @property
    def bottom(self) -> float:
        """Where it ends; the lower axis is below."""
        return self.height - 46.0

    def across(self, value: float) -> float:
        """Where a number of the lower axis is."""
        return self.left + self.x.share(value) * (self.width - 14.0 - self.left)

    def up(self, value: float) -> float:
        """Where a number of the left axis is; the height itself if there is no such axis."""
        return value if self.y is None else self.bottom - self.y.share(value) * (self.bottom - 12.0)

    def draw(self, title: str, parts: Iterable[str]) -> str:
        """The drawing.

        Args:
            title: what screen readers say of it.
            parts: what is drawn over the axes.
        """
        return (
            f'<svg class="plot" viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(title)}">'
            f"{self._axes()}{''.join(parts)}</svg>"
        )

    def _axes(self) -> str:
        parts = []
        for value, text in self.x.marks:
            at = self.across(value)
            parts.append(f'<path class="grid" d="M{at:.1f},12V{self.bottom:.1f}"/>')
            parts.append(f'<text class="middle" x="{at:.1f}" y="{self.bottom + 17:.1f}">{text}</text>')
        middle = (self.left + self.width - 14) / 2
        label = escape(self.x.label)
        parts.append(f'<text class="middle label" x="{middle:.1f}" y="{self.height - 8:.1f}">{label}</text>')
        if self.y is not None:
            for value, text in self.y.marks:
                at = self.up(value)
                parts.append(f'<path class="grid" d="M{self.left:g},{at:.1f}H{self.width - 14:g}"/>')
                parts.append(f'<text class="end" x="{self.left - 7:g}" y="{at + 4:.1f}">{text}</text>')
            turned = f"translate(14 {self.bottom / 2 + 6:.1f}) rotate(-90)"
            parts.append(f'<text class="middle label" transform="{turned}">{escape(self.y.label)}</text>')
        edge = "" if self.y is None else f"M{self.left:g},12V{self.bottom:.1f}"
        return "".join(parts) + f'<path class="axis" d="{edge}M{self.left:g},{self.bottom:.1f}H{self.width - 14:g}"/>'

    def horizontal(self, number: int, low: float, high: float, y: float) -> str:
        """An interval on the lower axis, at a number of the left one."""
        return self._line(number, (low, y), (high, y))

    def vertical(self, number: int, x: float, low: float, high: float) -> str:
        """An interval on the left axis, at a number of the lower one."""
        return self._line(number, (x, low), (x, high))

    def _line(self, number: int, *points: tuple[float, float]) -> str:
        return f'<path class="spread c{number % COLOURS}" d="{self.path(points)}"/>'

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """The d of a path through points given as numbers."""
        return "M" + "L".join(f"{self.across(x):.1f},{self.up(y):.1f}" for x, y in points)
