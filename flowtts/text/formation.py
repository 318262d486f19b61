"""Word formation: unknown words made of known ones by endings, prefixes and compounding."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from .dictionary import Pronunciation
from .rules import words
from .symbols import is_vowel

Lookup = Callable[[str], Pronunciation]
"""The usual pronunciation of a known lower-case word, empty for others."""

_SIBILANTS = frozenset(["S", "Z", "SH", "ZH", "CH", "JH"])
_VOICELESS = frozenset(["P", "T", "K", "F", "TH", "S", "SH", "CH"])
_VOWEL_LETTERS = "aeiou"
_SHORTEST_STEM = 3
_SHORTEST_PART = 3
_SHORT_PARTS = words(
    "air arm art bar bed bee big bow box boy bug bus can cap car cat cow cup cut day dog ear egg end eye far fat "
    "fin fir fly fog fox fur gas god gun ham hat hay hen hip hog hot ice ink jam jar jaw jet key kit lap law leg "
    "lid lip log low mad man map mat men mud net new nut oak oat off oil old one owl pan paw pay pea pen pet pie "
    "pig pin pit pot pub rag rat raw red rib rod row rug run rye saw sea set six sky son sun tar tax tea ten tie "
    "tin tip toe top toy tub two van war wax way web wet wig win yet you any all for her him his how non not out "
    "own per the too who why"
)
"""Short words that do make compounds; the dictionary's other words of three letters are mostly names."""
_NO_LAST_PARTS = words(
    "ally ance ates ative atory ence eral ered eres erie erous eral etta ette iade ical icks ious ists ites itis "
    "izer lings ness ogram osis ster tion ture ured ures uria uses ular ison ions ials ates ares aria arian ator "
    "ators inger"
)
"""Names in the dictionary that are endings in almost every word."""

_ENDINGS: Mapping[str, str] = {
    "ness": "N AH0 S", "less": "L AH0 S", "ly": "L IY0", "ful": "F AH0 L", "ment": "M AH0 N T", "ments": "M AH0 N T S",
    "ship": "SH IH0 P", "ships": "SH IH0 P S", "like": "L AY2 K", "ward": "W ER0 D", "wards": "W ER0 D Z",
    "ing": "IH0 NG", "ings": "IH0 NG Z", "ingly": "IH0 NG L IY0", "edly": "AH0 D L IY0", "er": "ER0", "ers": "ER0 Z",
    "est": "AH0 S T", "eth": "AH0 TH", "ish": "IH0 SH", "able": "AH0 B AH0 L", "ably": "AH0 B L IY0",
    "ability": "AH0 B IH1 L AH0 T IY0", "dom": "D AH0 M", "hood": "HH UH2 D", "man": "M AH0 N", "men": "M EH0 N",
    "woman": "W UH2 M AH0 N", "women": "W IH2 M AH0 N", "some": "S AH0 M", "ism": "IH2 Z AH0 M", "ist": "AH0 S T",
    "ists": "AH0 S T S", "ize": "AY2 Z", "izing": "AY2 Z IH0 NG", "ized": "AY2 Z D", "ization": "AH0 Z EY1 SH AH0 N",
    "y": "IY0", "in'": "IH0 N",
}  # fmt: skip
_PREFIXES: Mapping[str, str] = {
    "un": "AH0 N", "re": "R IY0", "non": "N AA2 N", "over": "OW2 V ER0", "out": "AW2 T", "under": "AH2 N D ER0",
    "dis": "D IH0 S", "mis": "M IH0 S", "pre": "P R IY0", "anti": "AE2 N T IY0", "inter": "IH2 N T ER0",
    "super": "S UW2 P ER0", "fore": "F AO2 R", "semi": "S EH2 M IY0", "multi": "M AH2 L T IY0", "sub": "S AH2 B",
    "counter": "K AW2 N T ER0", "micro": "M AY2 K R OW0", "auto": "AO2 T OW0", "hyper": "HH AY2 P ER0",
    "mini": "M IH2 N IY0", "ultra": "AH2 L T R AH0", "mid": "M IH2 D", "up": "AH2 P", "down": "D AW2 N",
}  # fmt: skip
_BRITISH = (
    (r"is(e[srd]?|ing|ation|ations)$", r"iz\1"), (r"our", "or"), (r"tre(s?)$", r"ter\1"),
    (r"ll(ed|ing|er|ers)$", r"l\1"), (r"ogue(s?)$", r"og\1"), (r"ence(s?)$", r"ense\1"),
    (r"xion(s?)$", r"ction\1"),
)  # fmt: skip
"""British spellings and the American ones that CMUdict has."""


def form(word: str, known: Lookup) -> Pronunciation:
    """Phones of a word by its parts; empty if it does not fall into known ones.

    Args:
        word: lower case.
        known: looks a word up.
    """
    for way in WAYS.values():
        found = way(word, known)
        if found:
            return found
    return ()


def plural_ending(base: Sequence[str]) -> Pronunciation:
    """How a plural or possessive s sounds after ``base``."""
    if base[-1] in _SIBILANTS:
        return ("IH0", "Z")
    return ("S",) if base[-1] in _VOICELESS else ("Z",)


def past_ending(base: Sequence[str]) -> Pronunciation:
    """How -ed sounds after ``base``."""
    if base[-1] in ("T", "D"):
        return ("IH0", "D")
    return ("T",) if base[-1] in _VOICELESS else ("D",)


def _possessive(word: str, known: Lookup) -> Pronunciation:
    stem, apostrophe, ending = word.rpartition("'")
    if not apostrophe or ending not in ("s", ""):
        return ()
    base = known(stem) or form(stem, known)
    return base + plural_ending(base) if base and ending else base


def _inflected(word: str, known: Lookup) -> Pronunciation:
    if word.endswith("s") and not word.endswith("ss"):
        for stem in _plural_stems(word):
            base = known(stem)
            if base:
                return base + plural_ending(base)
    if word.endswith("ed"):
        for stem in _stems(word[:-2], vowel=True):
            base = known(stem)
            if base:
                return base + past_ending(base)
    return ()


def _plural_stems(word: str) -> Iterator[str]:
    if len(word) > _SHORTEST_STEM:
        yield word[:-1]
    if word.endswith("ies") and len(word) > _SHORTEST_STEM + 2:
        yield word[:-3] + "y"
    if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        yield word[:-2]


def _stems(stem: str, vowel: bool) -> Iterator[str]:
    """Spellings of the word in front of an ending; a vowel doubles consonants, takes a mute e and turns y to i."""
    if len(stem) < _SHORTEST_STEM:
        return
    if stem.endswith("i"):
        yield stem[:-1] + "y"
    if not vowel:
        yield stem
        return
    doubled = stem[-1] == stem[-2] and stem[-1] not in _VOWEL_LETTERS
    short = stem[-1] not in _VOWEL_LETTERS + "wxy" and stem[-2] in _VOWEL_LETTERS and stem[-3] not in _VOWEL_LETTERS
    # "hoping" comes from hope, "hopping" from hop, "falling" from fall.
    yield from (stem + "e", stem) if short and not doubled else (stem, stem + "e")
    if doubled:
        yield stem[:-1]


def _suffixed(word: str, known: Lookup) -> Pronunciation:
    if word.endswith("ically") and known(word[:-4]):
        return (*known(word[:-4]), "AH0", "L", "IY0")
    for ending in sorted(_ENDINGS, key=len, reverse=True):
        if word.endswith(ending):
            for stem in _stems(word[: -len(ending)], vowel=ending[0] in _VOWEL_LETTERS + "y"):
                base = known(stem)
                if base:
                    return _join_suffix(base, tuple(_ENDINGS[ending].split()))
    return ()


def _join_suffix(base: Pronunciation, ending: Pronunciation) -> Pronunciation:
    """A stem and its ending: "ful" and "ly" share their l, "happy" changes its vowel in "happily"."""
    if ending == ("L", "IY0") and base[-1] == "IY0":
        return (*base[:-1], "AH0", *ending)
    return _merge(base, ending) if ending == ("L", "IY0") else base + ending


def _merge(first: Pronunciation, second: Pronunciation) -> Pronunciation:
    """Two parts whose touching consonants, if equal, are said once."""
    return first + (second[1:] if first[-1] == second[0] else second)


def _prefixed(word: str, known: Lookup) -> Pronunciation:
    for prefix, phones in _PREFIXES.items():
        rest = word[len(prefix) :]
        if word.startswith(prefix) and len(rest) > _SHORTEST_STEM:
            base = known(rest) or _inflected(rest, known) or _suffixed(rest, known)
            if base:
                return tuple(phones.split()) + base
    return ()


def _inflected_formed(word: str, known: Lookup) -> Pronunciation:
    return _inflected(word, lambda stem: _suffixed(stem, known) or _prefixed(stem, known) or _compound(stem, known))


def _respelled(word: str, known: Lookup) -> Pronunciation:
    """British spelling of a word that is known in the American one."""
    for british, american in _BRITISH:
        respelled = re.sub(british, american, word)
        if respelled != word:
            found = known(respelled) or _inflected(respelled, known) or _suffixed(respelled, known)
            if found:
                return found
    return ()


def _compound(word: str, known: Lookup) -> Pronunciation:
    """Two known words; the more even their lengths, the likelier they are the right ones."""
    places = range(_SHORTEST_PART, len(word) - _SHORTEST_PART + 1)
    for place in sorted(places, key=lambda at: abs(2 * at - len(word))):
        first, second = word[:place], word[place:]
        if not (_is_part(first) and _is_part(second)) or second in _NO_LAST_PARTS:
            continue
        front, back = known(first), known(second)
        if front and back and any(map(is_vowel, front)) and any(map(is_vowel, back)):
            return _merge(front, tuple(phone.replace("1", "2") for phone in back))
    return ()


def _is_part(part: str) -> bool:
    return len(part) > _SHORTEST_PART or part in _SHORT_PARTS


WAYS: Mapping[str, Callable[[str, Lookup], Pronunciation]] = {
    "possessive": _possessive, "inflected": _inflected, "respelled": _respelled, "suffixed": _suffixed,
    "prefixed": _prefixed, "inflected, formed": _inflected_formed, "compound": _compound,
}  # fmt: skip
"""Ways of forming words, the surest first."""
