"""A rewriting rule: what to look for and how it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Reader = Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Rule:
    """One rewriting of text.

    Attributes:
        pattern: what is rewritten.
        read: the words for a match.
    """

    pattern: re.Pattern[str]
    read: Reader


def rule(pattern: str, read: Reader | str, flags: int = 0) -> Rule:
    """A rule from a pattern and its reading: a function, or a fixed text with group references."""
    compiled = re.compile(pattern, flags)
    return Rule(compiled, read if callable(read) else lambda match: match.expand(read))


def apply(rules: Iterable[Rule], text: str) -> str:
    """Rewrite by one rule after another."""
    for each in rules:
        text = each.pattern.sub(each.read, text)
    return text


def words(text: str) -> frozenset[str]:
    """The set of the words of a text: how tables of words are written here."""
    return frozenset(text.split())


def before(match: re.Match[str]) -> str:
    """The text in front of a match, without trailing space."""
    return match.string[: match.start()].rstrip()


def after(match: re.Match[str]) -> str:
    """The text behind a match."""
    return match.string[match.end() :]
