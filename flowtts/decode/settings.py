"""`Decoding`: how tokens are drawn, and how users spell it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from flowtts.solve.spelling import known, number
from flowtts.types import UserError


@dataclass(frozen=True)
class Decoding:
    """How to decode. The filters apply in the order repetition, temperature, top_k, top_p, min_p, typical.

    ``str`` and `parse` are inverse: "temperature=0.7,top_p=0.9".

    Attributes:
        temperature: divides the logits; 0 always takes the likeliest token.
        top_k: how many of the likeliest tokens remain; 0 all.
        top_p: mass of the likeliest tokens that remain (the nucleus, arXiv 1904.09751); 1 all.
        typical: mass of the tokens that remain, those whose information is nearest to the entropy first
            (arXiv 2202.00666); 0 all.
        min_p: share of the likeliest token's probability that a token needs to remain (arXiv 2407.01082); 0 all.
        repetition: divides the positive logits of tokens that the candidate has already, and multiplies the negative
            ones (arXiv 1909.05858, section 4.1); 1 leaves them.
        length_penalty: candidates are ranked by log-probability / length ** length_penalty.
        max_tokens: of a candidate.
        min_tokens: before these no candidate stops.

    Raises:
        UserError: one cannot be worked with.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 0.8
    typical: float = 0.0
    min_p: float = 0.0
    repetition: float = 2.0
    length_penalty: float = 1.0
    max_tokens: int = 500
    min_tokens: int = 0

    def __post_init__(self) -> None:
        for right, key, wanted in (
            (0 <= self.temperature < math.inf, "temperature", "a number from 0 (the likeliest token)"),
            (self.top_k >= 0, "top_k", "a number of tokens, or 0 for all"),
            (0 < self.top_p <= 1, "top_p", "more than 0 and at most 1 (all)"),
            (0 <= self.typical < 1, "typical", "from 0 (off) to less than 1"),
            (0 <= self.min_p <= 1, "min_p", "from 0 (off) to 1"),
            (0 < self.repetition < math.inf, "repetition", "more than 0; 1 is no penalty"),
            (math.isfinite(self.length_penalty), "length_penalty", "a finite number"),
            (self.max_tokens >= 1, "max_tokens", "at least 1"),
            (0 <= self.min_tokens <= self.max_tokens, "min_tokens", f"from 0 to max_tokens ({self.max_tokens})"),
        ):
            if not right:
                raise UserError(f"decoding: {key} is {wanted}, not {getattr(self, key):g}")

    @classmethod
    def parse(cls, spelling: str, base: Decoding | None = None) -> Decoding:
        """From parts: "temperature=0.7,top_p=0.9"; "" changes nothing.

        Args:
            spelling: what differs from ``base``.
            base: what a recipe does by default, or None for the defaults of this class.

        Raises:
            UserError: it is not of this form, or a value cannot be worked with.
        """
        whole = {field.name: isinstance(field.default, int) for field in fields(cls)}
        found: dict[str, Any] = {}
        for part in (part.strip() for part in spelling.split(",") if spelling.strip()):
            key, equals, text = (piece.strip() for piece in part.partition("="))
            known("decoding part", whole, key)
            where = f"decoding '{spelling}': {key}"
            if key in found:
                raise UserError(f"{where} is given twice")
            if not equals:
                raise UserError(f"decoding '{spelling}': write {key}=VALUE")
            value = number(where, text)
            if whole[key] and not value.is_integer():
                raise UserError(f"{where} is a whole number, not {text}")
            found[key] = int(value) if whole[key] else value
        return replace(cls() if base is None else base, **found)

    def changes(self, base: Decoding) -> str:
        """What differs from ``base``, as `parse` reads it; "" if nothing does."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return ",".join(
            f"{key}={repr(value).removesuffix('.0')}" for key, value in values.items() if value != getattr(base, key)
        )

    def __str__(self) -> str:
        return self.changes(Decoding())

    @property
    def spelled(self) -> str:
        """What differs from the defaults, "" if nothing does."""
        return str(self)
