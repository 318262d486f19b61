"""`Guidance`: how strongly to guide, when, and with which refinements; how users spell it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from flowtts.solve.spelling import known, number
from flowtts.types import UserError

SHAPES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 2 * t,
    "cosine": lambda t: 1 - math.cos(math.pi * t),
    "falling": lambda t: 2 * (1 - t),
    "hill": lambda t: 4 * min(t, 1 - t),
    "valley": lambda t: 4 * max(t, 1 - t) - 2,
}
"""How the strength g - 1 grows from noise (t = 0) to data (t = 1); the mean over t is 1 for all, so that a scale means
the same with each (arXiv 2404.13040, heuristic schedules, which found the growing ones, linear and cosine, best)."""

_KEYS = ("text", "voice", "interval", "schedule", "rescale", "star", "zero", "weak")


@dataclass(frozen=True)
class Guidance:
    """How to guide. ``str`` and `parse` are inverse: "1.3", "2,interval=0.1:0.9,rescale=0.7,schedule=linear".

    Attributes:
        scale: g in null + g (cond - null): 0 unconditional, 1 plain.
        text: g of the text alone, or None for ``scale``. With ``voice`` it makes three branches of
            null + voice (prompt only - null) + text (full - prompt only), as InstructPix2Pix does with its image and
            instruction (arXiv 2211.09800, eq. 3).
        voice: g of the prompt alone, or None for ``scale``.
        interval: times [low, high] outside which nothing is guided, at half the price (arXiv 2404.07724).
        schedule: how the strength changes over t, a name of `SHAPES`.
        rescale: phi, 0 to 1: how far the standard deviation is taken back to the conditional one's
            (arXiv 2305.08891, eq. 15 and 16).
        star: scale the null velocity to be nearest to the conditional one (CFG-Zero*, arXiv 2503.18886). Nothing is
            projected where only one branch counts.
        zero: before this t the velocity is zero and costs nothing (CFG-Zero*'s zero-init). A time and not a number of
            steps, so that the field does not depend on the solver: the K-th time of the grid skips K steps, and any
            number up to the first one skips one.
        weak: name of a worse model to guide with instead of the null condition (auto-guidance, arXiv 2406.02507).

    Raises:
        UserError: one cannot be worked with.
    """

    scale: float = 1.0
    text: float | None = None
    voice: float | None = None
    interval: tuple[float, float] = (0.0, 1.0)
    schedule: str = "constant"
    rescale: float = 0.0
    star: bool = False
    zero: float = 0.0
    weak: str = ""

    def __post_init__(self) -> None:
        for value in (self.scale, self.text, self.voice):
            if value is not None and not math.isfinite(value):
                raise UserError(f"guidance must be a finite number, not {value}")
        low, high = self.interval
        if not 0 <= low < high <= 1:
            raise UserError(f"guidance: interval is LOW:HIGH with 0 <= LOW < HIGH <= 1, not {low:g}:{high:g}")
        known("guidance schedule", SHAPES, self.schedule)
        if not 0 <= self.rescale <= 1:
            raise UserError(f"guidance: rescale is from 0 to 1, not {self.rescale:g}")
        if not 0 <= self.zero < 1:
            raise UserError(f"guidance: zero is a time from 0 to less than 1, not {self.zero:g}")
        if self.weak and (self.weak != self.weak.strip() or "," in self.weak):
            raise UserError(f"guidance: weak is the name of a model without commas, not '{self.weak}'")

    @classmethod
    def parse(cls, spelling: float | str) -> Guidance:
        """From a number, or from a number and parts: "2,text=3,star,zero=0.05".

        Raises:
            UserError: it is not of this form, or a value cannot be worked with.
        """
        if not isinstance(spelling, str):
            return cls(float(spelling))
        first, *parts = (part.strip() for part in spelling.split(","))
        found = cls(number(f"guidance '{spelling}'", first))
        seen = set()
        for part in parts:
            key, equals, value = part.partition("=")
            known("guidance part", _KEYS, key)
            if key in seen:
                raise UserError(f"guidance '{spelling}': {key} is given twice")
            if bool(equals) == (key == "star"):
                raise UserError(f"guidance '{spelling}': write {'star' if key == 'star' else key + '=VALUE'}")
            seen.add(key)
            found = found._with(key, value, spelling)
        return found

    def _with(self, key: str, value: str, spelling: str) -> Guidance:
        where = f"guidance '{spelling}': {key}"
        if key == "star":
            return replace(self, star=True)
        if key == "schedule":
            return replace(self, schedule=value)
        if key == "weak":
            if not value:
                raise UserError(f"{where} is the name of a model")
            return replace(self, weak=value)
        if key == "interval":
            low, _, high = value.partition(":")
            return replace(self, interval=(number(where, low), number(where, high)))
        changed = {key: number(where, value)}
        return replace(
            self,
            text=changed.get("text", self.text),
            voice=changed.get("voice", self.voice),
            rescale=changed.get("rescale", self.rescale),
            zero=changed.get("zero", self.zero),
        )

    def __str__(self) -> str:
        parts = [_plain(self.scale)]
        parts += [f"{key}={_plain(g)}" for key, g in (("text", self.text), ("voice", self.voice)) if g is not None]
        if self.interval != (0, 1):
            parts.append("interval=" + ":".join(map(_plain, self.interval)))
        if self.schedule != "constant":
            parts.append(f"schedule={self.schedule}")
        parts += [f"{key}={_plain(x)}" for key, x in (("rescale", self.rescale),) if x]
        parts += ["star"] if self.star else []
        parts += [f"zero={_plain(self.zero)}"] if self.zero else []
        parts += [f"weak={self.weak}"] if self.weak else []
        return ",".join(parts)

    @property
    def spelled(self) -> float | str:
        """As settings and sidecars hold it: a number where the scale is all there is to it."""
        return self.scale if self == Guidance(self.scale) else str(self)

    @property
    def scales(self) -> tuple[float, float]:
        """The g of the text and of the voice, before the schedule."""
        return self.scale if self.text is None else self.text, self.scale if self.voice is None else self.voice

    @property
    def separate(self) -> bool:
        """Whether text and voice are guided apart."""
        text, voice = self.scales
        return text != voice

    @property
    def middle(self) -> float:
        """The middle of the interval."""
        return sum(self.interval) / 2

    def at(self, t: float) -> tuple[float, float]:
        """The g of the text and of the voice at time ``t``: (1, 1) outside the interval."""
        low, high = self.interval
        if not low <= t <= high:
            return 1.0, 1.0
        text, voice = self.scales
        if self.schedule == "constant":
            # Exactly as given: 1 + (g - 1) rounds.
            return text, voice
        shape = SHAPES[self.schedule](t)
        return 1 + shape * (text - 1), 1 + shape * (voice - 1)


def _plain(value: float) -> str:
    """The shortest spelling that reads back as the same number."""
    return repr(float(value)).removesuffix(".0")
