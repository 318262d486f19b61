"""Money: signs, codes, magnitudes, cents, ranges, and pounds, shillings and pence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .numbers import NUMBER, START, amount, cardinal
from .rules import Rule, rule


@dataclass(frozen=True)
class Currency:
    """Names of a currency's units: one and many of the unit and of its hundredth."""

    one: str
    many: str
    part: str = ""
    parts: str = ""


_DOLLAR, _POUND = Currency("dollar", "dollars", "cent", "cents"), Currency("pound", "pounds", "penny", "pence")
_EURO, _YEN = Currency("euro", "euros", "cent", "cents"), Currency("yen", "yen")


_FARTHINGS = {"1/4": "farthing", "1/2": "halfpenny", "3/4": "three farthings"}


def _dollar(of: str) -> Currency:
    return Currency(f"{of} dollar", f"{of} dollars", "cent", "cents")


SIGNS: Mapping[str, Currency] = {
    "US$": _dollar("US"), "C$": _dollar("Canadian"), "CA$": _dollar("Canadian"), "A$": _dollar("Australian"),
    "AU$": _dollar("Australian"), "NZ$": _dollar("New Zealand"), "HK$": _dollar("Hong Kong"), "$": _DOLLAR,
    "£": _POUND, "€": _EURO, "¥": _YEN, "₹": Currency("rupee", "rupees", "paisa", "paise"), "₩": Currency("won", "won"),
    "₽": Currency("ruble", "rubles", "kopeck", "kopecks"),
}  # fmt: skip
CODES: Mapping[str, Currency] = {
    "USD": _dollar("US"), "EUR": _EURO, "GBP": _POUND, "JPY": _YEN, "CAD": _dollar("Canadian"),
    "AUD": _dollar("Australian"), "CHF": Currency("Swiss franc", "Swiss francs", "centime", "centimes"),
    "CNY": Currency("yuan", "yuan"), "INR": Currency("rupee", "rupees", "paisa", "paise"),
}  # fmt: skip
_MAGNITUDES: Mapping[str, str] = {
    "thousand": "thousand", "million": "million", "billion": "billion", "trillion": "trillion", "hundred": "hundred",
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "mm": "million", "b": "billion",
    "bn": "billion", "B": "billion", "tn": "trillion", "T": "trillion",
}  # fmt: skip

_SIGN = "|".join(re.escape(sign) for sign in sorted(SIGNS, key=len, reverse=True))
_MAGNITUDE = r"(?:[\s-]?(thousand|million|billion|trillion|hundred)\b|\s?(k|K|mn|mm|bn|tn|[mMbBT])\b)?"
_MINUS = r"(?:(?<![\w.])-\s?)?"


def say(text: str, currency: Currency, magnitude: str = "") -> str:
    """An amount of money: ("19.95", dollar) -> "nineteen dollars ninety-five cents"."""
    if magnitude:
        return f"{amount(text)} {_MAGNITUDES[magnitude]} {currency.many}"
    whole, point, decimals = text.partition(".")
    if not currency.parts or (point and len(decimals) != 2):
        return f"{amount(text)} {currency.one if text == '1' else currency.many}"
    units, parts = int(whole.replace(",", "") or 0), int(decimals or 0)
    said = []
    if units or not parts:
        said.append(f"{amount(whole)} {currency.one if units == 1 else currency.many}")
    if parts:
        said.append(f"{cardinal(parts)} {currency.part if parts == 1 else currency.parts}")
    return " ".join(said)


def _signed(match: re.Match[str]) -> str:
    minus = "minus " if match.group().startswith("-") else ""
    currency = SIGNS[match.group("sign")]
    magnitude = match.group(3) or match.group(4) or ""
    return minus + say(match.group(2), currency, magnitude)


def _range(match: re.Match[str]) -> str:
    currency = SIGNS[match.group("sign")]
    magnitude = match.group("word") or match.group("letter") or ""
    low = amount(match.group("low"))
    return f"{low} to {say(match.group('high'), currency, magnitude)}"


def _attributive(match: re.Match[str]) -> str:
    magnitude = match.group(3)
    of = f" {_MAGNITUDES[magnitude]}" if magnitude else ""
    gap = " " if match.group().endswith(("-", " ")) else ""
    return f"{amount(match.group(2))}{of} {SIGNS[match.group('sign')].one}{gap}"


def _per(match: re.Match[str]) -> str:
    return f"{say(match.group(2), SIGNS[match.group('sign')])} a "


def _coded(match: re.Match[str]) -> str:
    code, text = (match.group(1), match.group(2)) if match.group(1) else (match.group(4), match.group(3))
    return say(text, CODES[code])


def _old(match: re.Match[str]) -> str:
    """£3 10s. 6d. -> three pounds ten shillings six pence."""
    said = []
    for place, (one, many) in enumerate((("pound", "pounds"), ("shilling", "shillings"), ("penny", "pence")), start=1):
        text = match.group(place)
        if text:
            said.append(f"{amount(text)} {one if text == '1' else many}")
    half = match.group("half")
    return " ".join([*said, _FARTHINGS[half]] if half else said)


def _pence(match: re.Match[str]) -> str:
    return f"{amount(match.group(1))} {'penny' if match.group(1) == '1' else 'pence'}"


def _cents(match: re.Match[str]) -> str:
    return f"{amount(match.group(1))} {'cent' if match.group(1) == '1' else 'cents'}"


_PRICED = "bill|note|coin|fine|prize|reward|ticket|check|cheque|gift|tip|bet|fee|loan|deal|budget|bonus|deposit|bribe"
"""What a price is an attribute of: "a five dollar bill"."""
_S, _D = r"\s?s\.?", r"\s?d\b\.?(?!\w)"
_HALF = r"(?:\s?(?P<half>1/2|1/4|3/4))?"
RULES: tuple[Rule, ...] = (
    rule(rf"£\s?({NUMBER}),?\s(\d{{1,2}}){_S}(?:,?\s?(\d{{1,2}}){_HALF}{_D})?(?=\W|$)", _old),
    rule(rf"£\s?({NUMBER})(),?\s(\d{{1,2}}){_HALF}{_D}", _old),
    rule(rf"{START}()(\d{{1,2}})\s?s\.,?\s?(\d{{1,2}}){_HALF}{_D}", _old),
    rule(rf"{START}()(\d{{1,3}})s\.()(?P<half>(?!))?(?=\W|$)", _old),
    rule(rf"{START}()()(\d{{1,2}})d\.(?P<half>(?!))?(?=\W|$)", _old),
    rule(
        rf"(?P<sign>{_SIGN})\s?(?P<low>{NUMBER})\s?(?:-|–|—|to)\s?(?:{_SIGN})?(?P<high>{NUMBER})"
        r"(?:[\s-]?(?P<word>thousand|million|billion|trillion)\b|\s?(?P<letter>k|K|mn|bn|tn|[mMB])\b)?",
        _range,
    ),
    rule(rf"(?P<sign>{_SIGN})\s?({NUMBER})-a-(?=[a-z])", _per),
    rule(rf"(?P<sign>{_SIGN})\s?({NUMBER})-(?:(million|billion|thousand|hundred)\b[-\s]?)?(?=[a-z])", _attributive),
    rule(
        rf"(?P<sign>{_SIGN})\s?({NUMBER})(?:\s(million|billion|thousand|hundred))?(?=\s(?:{_PRICED})\b)", _attributive
    ),
    rule(rf"{_MINUS}(?P<sign>{_SIGN})\s?-?({NUMBER}){_MAGNITUDE}", _signed),
    rule(rf"\b({'|'.join(CODES)})\s?({NUMBER})|{START}({NUMBER})\s?({'|'.join(CODES)})\b", _coded),
    rule(rf"{START}({NUMBER})\s?([€])", lambda match: say(match.group(1), _EURO)),
    rule(rf"{START}({NUMBER})\s?¢", _cents),
    rule(rf"{START}(\d{{1,3}})p\b", _pence),
)
