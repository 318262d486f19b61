"""Dates and times of day. Days of the month are read as written: "March 2" two, "March 2nd" second."""

from __future__ import annotations

import re

from .numbers import START, amount, cardinal, ordinal, plural, year
from .rules import Rule, before, rule

_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_MONTH = "|".join(_MONTHS)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"


def _day(text: str, suffix: str | None) -> str:
    return ordinal(int(text)) if suffix else cardinal(int(text))


def _month_day(match: re.Match[str]) -> str:
    month, day, suffix, comma, of = match.groups()
    return f"{month} {_day(day, suffix)}" + (f"{comma or ''} {year(of)}" if of else "")


def _day_month(match: re.Match[str]) -> str:
    day, month, comma, of = match.groups()
    the = "" if re.search(r"\bthe$", before(match), re.IGNORECASE) else "the "
    return f"{the}{ordinal(int(day))} of {month}" + (f"{comma or ''} {year(of)}" if of else "")


def _month_year(match: re.Match[str]) -> str:
    return f"{match.group(1)}{match.group(2)} {year(match.group(3))}"


def _numeric(day: str, month: str, of: str, match: re.Match[str]) -> str:
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return match.group()
    full = of if len(of) == 4 else ("19" if int(of) > 50 else "20") + of
    return f"{_MONTHS[int(month) - 1]} {cardinal(int(day))}, {year(full)}"


def _iso(match: re.Match[str]) -> str:
    return _numeric(match.group(3), match.group(2), match.group(1), match)


def _slashed(match: re.Match[str]) -> str:
    # American order; where the first number cannot be a month, the rest of the world's.
    first, second, of = match.group(1), match.group(3), match.group(4)
    american = match.group(2) != "." and int(first) <= 12
    return _numeric(second, first, of, match) if american else _numeric(first, second, of, match)


def _decade(match: re.Match[str]) -> str:
    text = match.group(1)
    if len(text) == 2:
        return plural(cardinal(int(text)))
    return plural(year(text))


def _era(match: re.Match[str]) -> str:
    return year(match.group(1)) + match.group(2)


def _year_range(match: re.Match[str]) -> str:
    first, second = match.groups()
    said = year(second) if len(second) == 4 else ("oh " if second.startswith("0") else "") + cardinal(int(second))
    return f"{year(first)} to {said}"


def _clock(hours: str, minutes: str, half: str) -> str:
    hour, minute = int(hours), int(minutes)
    if minute == 0:
        if half:
            return cardinal(hour)
        if hour == 0 or hour > 12:
            return f"{cardinal(hour)} hundred"
        return f"{cardinal(hour)} o'clock"
    return f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}"


def _half(text: str | None) -> str:
    return f" {text.upper().replace('.', '')}" if text else ""


def _time(match: re.Match[str]) -> str:
    hours, minutes, seconds, half = match.groups()
    if int(hours) > 24 or int(minutes) > 59:
        return match.group()
    said = _clock(hours, minutes, half or seconds)
    if seconds:
        said += f" and {cardinal(int(seconds))} second{'' if int(seconds) == 1 else 's'}"
    return said + _half(half)


def _hour(match: re.Match[str]) -> str:
    return amount(match.group(1)) + _half(match.group(2))


def _hour_range(match: re.Match[str]) -> str:
    first, first_half, second, second_half = match.groups()
    return f"{_part(first)}{_half(first_half)} to {_part(second)}{_half(second_half)}"


def _part(text: str) -> str:
    hours, colon, minutes = text.partition(":")
    return _clock(hours, minutes, "set") if colon else cardinal(int(hours))


_AMPM = r"(?:([AaPp]\.[Mm]\.|[AaPp][Mm])(?![A-Za-z]))"
_CLOCK = r"\d{1,2}(?::[0-5]\d)?"
_YEAR = r"\d{3,4}"
RULES: tuple[Rule, ...] = (
    rule(rf"({_DAY}\s(?:{_MONTH}))\s?[–-]\s?(?={_DAY}\s(?:{_MONTH})\b)", r"\1 to "),
    rule(rf"((?:{_MONTH})\s{_DAY})\s?[–-]\s?(?=(?:{_MONTH})\s{_DAY}\b)", r"\1 to "),
    rule(rf"\b((?:{_MONTH})\s{_DAY})\s?[–-]\s?(?={_DAY}\b(?!-))", r"\1 to "),
    rule(r"(?<![\d/-])(\d{4})-(\d{1,2})-(\d{1,2})(?![\d-])", _iso),
    rule(r"(?<![\d/.,])(\d{1,2})([/.])(\d{1,2})\2(\d{4}|\d{2}(?!\.))(?![\d/])", _slashed),
    rule(rf"\b({_MONTH})\s({_DAY})(st|nd|rd|th)?\b(?![:.]\d|\s?%)(?:(,)?\s({_YEAR})(?!\d|,\d))?", _month_day),
    rule(rf"(?<![\w.,:])({_DAY})\s({_MONTH})\b(?:(,)?\s({_YEAR})(?!\d|,\d))?", _day_month),
    rule(rf"\b({_MONTH})(,?)\s(\d{{4}})\b", _month_year),
    rule(r"(?<![\w.,])'?((?:1[0-9]|20)\d0)'?s\b", _decade),
    rule(r"(?<![\w.,])'?([2-9]0)'?s\b", _decade),
    rule(r"(?<!\w)'(\d\d)(?=\W|$)", lambda match: ("oh " if match[1][0] == "0" else "") + cardinal(int(match[1]))),
    rule(rf"{START}({_YEAR})(\s(?:BC|AD|BCE|CE)\b)", _era),
    rule(r"\b(AD\s)(\d{1,4})\b", lambda match: match.group(1) + year(match.group(2))),
    # A bare three-digit number after "in" is a year where no thing that is counted follows.
    rule(r"\b([Ii]n\s)(\d{3})(?=[,;.:](?!\d)|\sthe\b|\s[A-Z]|$)", lambda match: match.group(1) + year(match.group(2))),
    rule(rf"{START}(1\d{{3}}|20\d\d)\s?[–-]\s?(\d{{4}}|\d{{2}})(?![\w-])", _year_range),
    rule(rf"{START}({_CLOCK})\s?{_AMPM}?\s?(?:-|–|—)\s?({_CLOCK})\s?{_AMPM}", _hour_range),
    rule(rf"{START}(\d{{1,2}}):(\d{{2}})(?::(\d{{2}}))?(?![\d:])(?:\s?{_AMPM})?", _time),
    rule(rf"{START}(\d{{1,2}})\.([0-5]\d)()\s?{_AMPM}", _time),
    rule(rf"{START}(\d{{1,2}})\s?{_AMPM}", _hour),
)
