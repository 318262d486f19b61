"""What is written but not spelled for speech: addresses of the internet, telephone numbers, codes, signs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .numbers import NUMBER, amount, cardinal, digits
from .rules import Rule, rule

_ADDRESS_SIGNS: Mapping[str, str] = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", ":": "colon", "?": "question mark", "=": "equals",
    "&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde", "@": "at", ",": "comma", ";": "semicolon",
}  # fmt: skip
_SPELLED = re.compile(r"[b-df-hj-np-tv-xz]{2,}|io|ai|uk|eu|us|au|edu|ac|tv|www", re.IGNORECASE)
_TLD = r"(?:com|org|net|edu|gov|mil|int|io|ai|app|dev|info|biz|tv|me|co|uk|de|fr|eu|us|ca|au|jp|ch|nl|ac|ly|fm|gg|xyz)"


def _address(text: str) -> str:
    """An address word by word: "www.example.com/a-b" -> "W W W dot example dot com slash A dash b"."""
    said = []
    for part in re.findall(r"[A-Za-z]+|\d+|[^A-Za-z\d]", text):
        if part in _ADDRESS_SIGNS:
            said.append(_ADDRESS_SIGNS[part])
        elif part.isdecimal():
            said.append(digits(part) if len(part) > 2 or part[0] == "0" else cardinal(int(part)))
        elif part.isalpha():
            said.append(" ".join(part.upper()) if len(part) == 1 or _SPELLED.fullmatch(part) else part)
    return " ".join(said)


def _trimmed(match: re.Match[str]) -> str:
    """Read an address; the sentence's own punctuation behind it stays."""
    text = match.group("address")
    kept = text.rstrip(".,;:!?)'\"/")
    closing = text[len(kept) :].replace("/", "")
    return _address(kept) + closing


def _telephone(match: re.Match[str]) -> str:
    text = match.group()
    country = "plus " if text.lstrip("(").startswith("+") else ""
    groups = [digits(group) for group in re.findall(r"\d+", text)]
    return country + ", ".join(groups)


def _hashtag(match: re.Match[str]) -> str:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", match.group(1))
    return "hashtag " + " ".join(words)


def _code(match: re.Match[str]) -> str:
    """Letters and digits mixed: "C2766" -> "C two seven six six", "MP3" -> "M P three"."""
    said = []
    for part in re.findall(r"[A-Za-z]+|\d+", match.group()):
        if part.isdecimal():
            long = len(part) > 2 or (len(part) > 1 and part[0] == "0")
            said.append(digits(part) if long else cardinal(int(part)))
        elif len(part) <= 3 and (part.isupper() or len(part) == 1):
            said.append(" ".join(part.upper()))
        else:
            said.append(part)
    return " ".join(said)


def _power(match: re.Match[str]) -> str:
    named = {"2": "squared", "3": "cubed"}
    exponent = match.group(2)
    if exponent in named:
        return f"{match.group(1)} {named[exponent]}"
    minus = "minus " if exponent.startswith("-") else ""
    return f"{match.group(1)} to the power of {minus}{amount(exponent.lstrip('-'))}"


def _scientific(match: re.Match[str]) -> str:
    minus = "minus " if match.group(2) == "-" else ""
    return f"{amount(match.group(1))} times ten to the power of {minus}{amount(match.group(3).lstrip('0') or '0')}"


ADDRESSES: tuple[Rule, ...] = (
    rule(r"(?P<address>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)", _trimmed),
    rule(r"\b(?:https?|ftp)://(?P<address>[^\s<>\"{}]+)", _trimmed, re.IGNORECASE),
    rule(r"\b(?P<address>www\.[^\s<>\"{}]+)", _trimmed, re.IGNORECASE),
    rule(rf"(?<![\w.@])(?P<address>(?:[A-Za-z\d-]+\.)+{_TLD}(?:/[^\s<>\"{{}}]*)?)(?![\w@])", _trimmed),
)
TELEPHONES: tuple[Rule, ...] = (
    rule(r"(?<![\w.-])0\d{1,4}(?:[\s-]\d{3,4}){1,3}(?![\w-])", _telephone),
    rule(r"(?<![\w.])\+\d{1,3}(?:[\s.-]?\(?\d{1,5}\)?){2,5}(?![\w-])", _telephone),
    rule(r"(?<![\w.-])(?:1[\s.-])?\(\d{3}\)\s?\d{3}[\s.-]\d{4}(?![\w-])", _telephone),
    rule(r"(?<![\w.-])(?:1[\s.-])?\d{3}([\s.-])\d{3}\1\d{4}(?![\w-])", _telephone),
    rule(r"(?<![\w.-])\d{3}-\d{4}(?![\w-])", _telephone),
)
CODES: tuple[Rule, ...] = (
    rule(rf"(?<![\w.])({NUMBER})[eE]([+-]?)(\d+)\b", _scientific),
    rule(r"(?<!\w)(\w+)\^(-?\d+)\b", _power),
    rule(r"\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])(?!\d+(?:st|nd|rd|th|ST|ND|RD|TH|s|x)\b)[A-Za-z\d]+\b", _code),
    rule(r"\b(\d+)x\b", lambda match: f"{cardinal(int(match[1]))} times" if len(match[1]) < 10 else match.group()),
    rule(r"\b([A-Z][A-Za-z]*)-(?=\d)", r"\1 "),
)
LEADING: tuple[Rule, ...] = (
    rule(r"(?<!\w)#(?=\d)", "number "),
    rule(r"(?:~|≈)\s?(?=[\d$£€])", "about "),
    rule(r"(?<![\w.,)])[-–](?=\.?\d)", "minus "),
)
"""Signs in front of a number, whatever is counted or measured."""
SIGNS: tuple[Rule, ...] = (
    rule(r"\b([CF])#(?!\w)", r"\1 sharp"),
    rule(r"(?<!\w)#([A-Za-z]\w*)", _hashtag),
    rule(r"(?<!\w)@(?=\w)", "at "),
    rule(r"(?<=\w)(&)(?=\w)|\s?&\s?", lambda match: " and "),
    rule(r"(?<=\d)\s?×\s?(?=\d)|(?<=\d)\s\*\s(?=\d)|(?<=\d)\*(?=\d)", " times "),
    rule(r"(?<=\d)\s?x\s?(?=\d)", " by "),
    rule(r"\s?÷\s?", " divided by "),
    rule(r"\s?±\s?", " plus or minus "),
    rule(r"(?<=\w)\s?[!=]=\s?(?=\w)", " equals "),
    rule(r"\s?=\s?", " equals "),
    rule(r"\s?<=\s?|\s?≤\s?", " at most "),
    rule(r"\s?>=\s?|\s?≥\s?", " at least "),
    rule(r"(?<=[\w)])\s<\s(?=[\w(])|<(?=\d)", " less than "),
    rule(r"(?<=[\w)])\s>\s(?=[\w(])|>(?=\d)", " greater than "),
    rule(r"(?<=\w)\s?\+\s?(?=\w)|(?<!\w)\+(?=\d)", " plus "),
    rule(r"(?<=\w)\+\+", " plus plus"),
    rule(r"(?<=\w)\+", " plus"),
    rule(r"(?<=\d)\s-\s(?=\d)", " minus "),
    rule(r"§\s?", "section "),
    rule(r"(?<=\w)\s?@\s?(?=\w)", " at "),
    rule(r"(?<=\w)\s?%", " percent"),
    rule(r"(?<=[A-Za-z])\s?/\s?(?=[A-Za-z])", " "),
)
LEFTOVERS: tuple[Rule, ...] = (
    rule(r"°", " degrees "),
    rule(r"\s?‰", " per mille"),
    rule(r"\s?%", " percent"),
    rule(r"\$", " dollars "), rule("£", " pounds "), rule("€", " euros "), rule("¥", " yen "), rule("¢", " cents "),
    rule(r"[*_~^`|\\<>#@+=\"/]+", lambda match: '"' if match.group() == '"' else " "),
)  # fmt: skip
"""Signs that no rule understood: currency is named, marks of markup vanish."""
