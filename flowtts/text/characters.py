"""Characters: one form for quotation marks, dashes, ligatures and spaces; letters that English knows."""

from __future__ import annotations

import re
import unicodedata

_SAME = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "´": "'", "`": "'", "ʼ": "'",
        "“": '"', "”": '"', "„": '"', "‟": '"', "«": '"', "»": '"', "″": '"',
        "‐": "-", "‑": "-", "‒": "–", "―": "—", "−": "-", "⁻": "-", "－": "-",
        "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ð": "d", "Ð": "D",
        "þ": "th", "Þ": "Th", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "ħ": "h", "Ħ": "H",
        "•": ",", "·": ",", "¡": "", "¿": "", "\u00ad": "", "\u200b": "", "\u200d": "", "\ufeff": "", "\ufe0f": "",
        "™": "", "®": "", "©": "",
    }
)  # fmt: skip
_FRACTIONS = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
    "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}  # fmt: skip
_FRACTION = re.compile(rf"(\d?)([{''.join(_FRACTIONS)}])")
_POWERS = str.maketrans({"²": "^2", "³": "^3"})
_KEPT_SIGNS = frozenset("°£€¥₹₩₽¢×÷±§µΩ")


def clean(text: str) -> str:
    """Unicode to the characters that the rules know: accents off letters, typographic signs to plain ones.

    Emoji and other signs that nobody reads out become spaces; letters of other scripts stay.
    """
    text = _FRACTION.sub(lambda match: f"{match[1]} {_FRACTIONS[match[2]]}".strip(), text)
    text = unicodedata.normalize("NFKC", text.translate(_SAME).translate(_POWERS)).translate(_SAME)
    return "".join(_plain(letter) for letter in unicodedata.normalize("NFC", text))


def _plain(letter: str) -> str:
    if letter.isascii():
        return " " if letter.isspace() or not letter.isprintable() else letter
    base = unicodedata.normalize("NFD", letter)[0]
    if base.isascii():
        return base
    # Marks outside precomposed Latin letters belong to their script and stay with it.
    return letter if letter in _KEPT_SIGNS or unicodedata.category(letter)[0] in "LNMP" else " "
