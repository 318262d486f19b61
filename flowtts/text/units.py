"""Measures, percentages, fractions, temperatures, ratios and ranges."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .numbers import NUMBER, START, amount, cardinal, ordinal
from .rules import Rule, after, rule

UNITS: Mapping[str, str] = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "nm": "nanometer", "µm": "micrometer",
    "μm": "micrometer", "mi": "mile", "yd": "yard", "yds": "yard", "ft": "foot", "in": "inch", "kg": "kilogram",
    "g": "gram", "mg": "milligram", "µg": "microgram", "μg": "microgram", "lb": "pound", "lbs": "pound",
    "oz": "ounce", "l": "liter", "L": "liter", "ml": "milliliter", "mL": "milliliter", "cl": "centiliter",
    "gal": "gallon", "qt": "quart", "pt": "pint", "tsp": "teaspoon", "tbsp": "tablespoon", "ha": "hectare",
    "cc": "cubic centimeter", "s": "second", "sec": "second", "secs": "second", "ms": "millisecond",
    "µs": "microsecond", "ns": "nanosecond", "min": "minute", "mins": "minute", "hr": "hour", "hrs": "hour",
    "h": "hour", "yr": "year", "yrs": "year", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "dB": "decibel", "V": "volt", "kV": "kilovolt", "mV": "millivolt", "W": "watt",
    "kW": "kilowatt", "MW": "megawatt", "GW": "gigawatt", "kWh": "kilowatt hour", "mA": "milliamp",
    "mAh": "milliamp hour", "Ω": "ohm", "J": "joule", "kJ": "kilojoule", "N": "newton", "Pa": "pascal",
    "kPa": "kilopascal", "hPa": "hectopascal", "psi": "P S I", "rpm": "R P M", "hp": "horsepower", "cal": "calorie",
    "kcal": "kilocalorie", "B": "byte", "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte",
    "TB": "terabyte", "kbps": "kilobit per second", "Mbps": "megabit per second", "Gbps": "gigabit per second",
    "kbit": "kilobit", "Mbit": "megabit", "px": "pixel", "fps": "frame per second", "mph": "mile per hour",
    "kph": "kilometer per hour", "km/h": "kilometer per hour", "m/s": "meter per second", "mpg": "mile per gallon",
    "kt": "knot", "cwt": "hundredweight", "t": "ton", "ct": "carat", "bpm": "beat per minute", "K": "kelvin",
    "Mbit/s": "megabit per second", "kbit/s": "kilobit per second", "ft/s": "foot per second",
}  # fmt: skip
_SAME_MANY = frozenset(
    ["hertz", "kilohertz", "megahertz", "gigahertz", "horsepower", "P S I", "R P M", "hundredweight", "kelvin"]
)
_SCALES: Mapping[str, str] = {"C": "Celsius", "F": "Fahrenheit"}
_POWERS: Mapping[str, str] = {"2": "square", "3": "cubic"}
_WORDS: Mapping[str, str] = {"k": "thousand", "K": "thousand", "M": "million", "bn": "billion", "mn": "million"}


def many(unit: str) -> str:
    """Plural of a unit: "mile per hour" -> "miles per hour", "foot" -> "feet"."""
    head, per, rest = unit.partition(" per ")
    if head in _SAME_MANY:
        return unit
    head = {"foot": "feet", "inch": "inches"}.get(head, head + "s")
    return head + per + rest


def _unit(text: str, number: str, attributive: bool = False) -> str:
    base, _, power = text.partition("^")
    name = UNITS[base] if attributive or number == "1" else many(UNITS[base])
    return f"{_POWERS[power]} {name}" if power else name


def _measure(match: re.Match[str]) -> str:
    number, gap, unit, dot = match.group(1), match.group(2), match.group(3), match.group(4)
    # "5 in the box", "Section 5 B": a word or a letter, not a unit.
    if gap == " " and not dot and (unit == "in" or (len(unit) == 1 and unit.isupper())):
        return match.group()
    if unit == "in" and gap == " " and dot and not re.match(r"\s+[a-z]|\s*[,;:]|\s*$", after(match)):
        return match.group()
    # The unit's dot is the sentence's where a capital follows.
    stop = "." if dot and re.match(r"\s*$|\s+[A-Z]", after(match)) else ""
    return f"{amount(number)} {_unit(unit, number, gap == '-')}{stop}"


def _prefixed(match: re.Match[str]) -> str:
    power, unit = match.group(2), match.group(3)
    name = UNITS[unit] if match.group(1) == "1" else many(UNITS[unit])
    return f"{amount(match.group(1))} {'square' if power.startswith('sq') else 'cubic'} {name}"


def _degrees(match: re.Match[str]) -> str:
    number, scale = match.groups()
    return f"{amount(number)} degree{'' if number == '1' else 's'}" + (f" {_SCALES[scale]}" if scale else "")


def _percent(match: re.Match[str]) -> str:
    low, high = match.groups()
    return (f"{amount(low)} to " if low else "") + f"{amount(high)} percent"


def _fraction_words(above: int, below: int) -> str:
    if below == 2:
        return "one half" if above == 1 else f"{cardinal(above)} halves"
    name = "quarter" if below == 4 else ordinal(below)
    return f"{cardinal(above)} {name}{'' if above == 1 else 's'}"


def _mixed(match: re.Match[str]) -> str:
    whole, above, below = match.group(1), int(match.group(2)), int(match.group(3))
    if above >= below:
        return match.group()
    part = "a half" if (above, below) == (1, 2) else _fraction_words(above, below).replace("one quarter", "a quarter")
    return f"{amount(whole)} and {part}"


def _fraction(match: re.Match[str]) -> str:
    above, below = int(match.group(1)), int(match.group(2))
    if above == below or (above, below) in ((9, 11), (24, 7), (7, 11)):
        return f"{cardinal(above)} {cardinal(below)}"
    if 0 < above < below <= 20 or (above < below and below in (32, 50, 64, 100, 1000)):
        return _fraction_words(above, below)
    return f"{amount(match.group(1))} over {amount(match.group(2))}"


def _feet_inches(match: re.Match[str]) -> str:
    feet, inches = match.groups()
    return f"{amount(feet)} foot {amount(inches)}"


def _magnitude(match: re.Match[str]) -> str:
    return f"{amount(match.group(1))} {_WORDS[match.group(2)]}"


def _range(match: re.Match[str]) -> str:
    return f"{match.group(1)} to {match.group(2)}"


_UNIT = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
RULES: tuple[Rule, ...] = (
    rule(rf"{START}(\d)'\s?(\d{{1,2}})(?:\"|'')", _feet_inches),
    rule(rf"{START}({NUMBER})\s?(?:-|–|to)\s?({NUMBER})\s?%", _percent),
    rule(rf"{START}()({NUMBER})\s?%", _percent),
    rule(rf"{START}({NUMBER})\s?°(?:\s?([CF])\b)?", _degrees),
    rule(rf"{START}({NUMBER})\s?[–-]\s?(?={NUMBER}\s?(?:{_UNIT})\b)", r"\1 to "),
    rule(rf"{START}({NUMBER})\s?((?:sq|cu)\.?)\s?({_UNIT})\b\.?", _prefixed),
    rule(r"(?<![\w./])(\d+)[\s-](\d{1,3})/(\d{1,3})(?![\w/])", _mixed),
    rule(r"(?<![\w./])(\d{1,3})/(\d{1,4})(?![\w/])", _fraction),
    rule(rf"{START}({NUMBER})\s?(bn|mn)\b", _magnitude),
    rule(rf"{START}({NUMBER})([kKM])\b(?!/)", _magnitude),
    rule(rf"{START}({NUMBER})([\s-]?)((?:{_UNIT})(?:\^[23])?)(?![\w'’^/])(\.?)", _measure),
    rule(rf"{START}(\d+):(\d{{1,3}})(?![\d:])", _range),
    rule(rf"{START}({NUMBER})\s?(?:–|—)\s?(?={NUMBER}\b)", r"\1 to "),
    rule(rf"{START}({NUMBER})-(?={NUMBER}\b)(?!\d+-)", r"\1 to "),
)
