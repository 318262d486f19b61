"""Words that are written alike and said differently, decided by the words around them.

Most are a noun or adjective with one stress and a verb with another ("a record", "to record"); ``context.is_verb``
decides those. A few need their own question; each such function answers whether the first sense of the table is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from .context import (
    ARTICLES,
    DETERMINERS,
    MODALS,
    OBJECTS,
    PLURAL_SUBJECTS,
    PREPOSITIONS,
    SINGULAR_SUBJECTS,
    TO_BE,
    TO_HAVE,
    Context,
    is_verb,
)
from .dictionary import Pronunciation
from .formation import plural_ending
from .rules import words

_UP_AND_DOWN = words("up down around round through along back out off apart away open across")
_METAL = words(
    "pipe pipes paint poisoning bullet bullets weight weights mine mines pencil pencils shot ore plate plates glass "
    "acid crystal coffin coffins sheet sheets zinc iron tin copper silver gold metal metals pounds ounces molten "
    "melted solder toxic mercury arsenic alloy alloys lead-free"
)
_PAST = words(
    "yesterday ago last was were had did said came went took saw told gave found made got knew thought asked left stood"
)
_SHOW = words(
    "wire wires music show shows broadcast broadcasts audience audiences concert concerts performance performances "
    "event events coverage album albums bait ammunition animal animals television tv radio stream streaming round "
    "rounds fish cattle coal coals version recording recordings bird birds video feed report reports action stock "
    "steam oak chat chickens shell shells demo session tree trees wood bullet bullets"
)
_PERFORMED = words("broadcast performed recorded go goes going went played streamed sang aired shown filmed are")
_ARCHERY = words(
    "arrow arrows tie ties string strings ribbon ribbons violin fiddle hair archer quiver bent knot lace cello"
)
_DEFERENCE = words(
    "low deep slight polite took take taking make made formal courteous graceful profound stately curtsy"
)
_SHIP = words("ship ship's boat boats stern port starboard vessel deck decks sail wave waves anchor hull captain sea")
_ANGLING = words("fish fishing sea striped largemouth caught lake river trout pond catch boat perch fried grilled")
_DETAIL = words(
    "details detail particles particle quantities quantity amount amounts examination inquiry description "
    "particulars attention fraction fractions scrutiny traces trace proportions scale portion portions differences "
    "organisms observation directions account study pieces fragments creatures objects knowledge inspection insects"
)
_NEARNESS = words(
    "to by friend friends relative relatives relationship contact attention together up call range proximity behind "
    "beside quarters look watch enough study examination inspection connection resemblance ties family race second "
    "ally allies confinement air observation companion companions formation combat season shave"
)
_SCHOLARLY = words(
    "friend gentleman man men judge counsel body society professor doctor author world lady profession societies "
    "lord brother brethren scholar scholars people person persons writers divine languages"
)

Chooser = Callable[[Context], bool]


def _adjective(context: Context) -> bool:
    """Stands between a determiner and what it describes, or alone as a noun ("the aged")."""
    return context.governor() in DETERMINERS or context.back() in ("most", "very", "more", "so")


def _read_past(context: Context) -> bool:
    governor = context.governor()
    if governor in MODALS or governor in DETERMINERS:
        return False
    if governor in TO_HAVE or governor in TO_BE or governor in SINGULAR_SUBJECTS or context.back(2) in TO_HAVE:
        return True
    if context.ahead() == "by" or context.back() in ("well", "widely"):
        return True
    if governor in ("i", "you", "we", "they", "and", "who", ""):
        if context.opens:
            return False
        past = context.near(_PAST, 12) or any(
            t.text.endswith("ed") for t in context.tokens[max(0, context.at - 12) : context.at]
        )
        return past
    return not governor.endswith("s") or context.near(_PAST, 12)


def _lead_metal(context: Context) -> bool:
    if context.governor() in MODALS or context.ahead() in OBJECTS or context.ahead() in ("to", "the", "a", "us"):
        return False
    if context.ahead() in _METAL or context.back() in _METAL:
        return True
    if context.back() in ("of", "with", "like", "contains", "contain", "contained", "is", "into"):
        return context.ahead() in ("", "and", "or", "in") or context.near(_METAL, 4)
    return context.back() in ("and", "or") and context.near(_METAL, 3)


def _live_adjective(context: Context) -> bool:
    if context.ahead() in _SHOW and context.governor() not in MODALS:
        return True
    if context.governor() in MODALS or context.governor() in ("i", "you", "we", "they", "who", "people"):
        return False
    if context.back() in _PERFORMED or context.governor() in TO_BE:
        return True
    return context.back() in ARTICLES


def _wind_air(context: Context) -> bool:
    verb = is_verb(context, context.written.lower().endswith("s"))
    if context.ahead() in _UP_AND_DOWN and context.governor() not in DETERMINERS | PREPOSITIONS:
        return False
    return not verb


def _tear_drop(context: Context) -> bool:
    if context.ahead() in ("gas", "drop", "drops"):
        return True
    if context.back(2) == "wear" or context.ahead() in _UP_AND_DOWN | {"it", "them", "him", "at"}:
        return False
    if context.ahead() == "in" and context.ahead(2) in ARTICLES and context.ahead(3) not in ("eye", "eyes"):
        return False
    return not is_verb(context, context.written.lower().endswith("s"))


def _wound_injury(context: Context) -> bool:
    if context.governor() in DETERMINERS or context.governor() in MODALS:
        return True
    if context.governor() in SINGULAR_SUBJECTS | PLURAL_SUBJECTS:
        return False
    return context.ahead() not in _UP_AND_DOWN | {"its", "itself", "his", "her", "their"}


def _bow_weapon(context: Context) -> bool:
    if context.near(_ARCHERY):
        return True
    if context.back() in _DEFERENCE or context.back(2) in _DEFERENCE or context.near(_SHIP):
        return False
    return not is_verb(context, context.written.lower().endswith("s"))


def _minute_time(context: Context) -> bool:
    if context.back() in ("very", "most", "more", "so", "too", "extremely", "exceedingly", "as"):
        return context.ahead() in ("a", "an")
    return context.ahead() not in _DETAIL


def _near(context: Context) -> bool:
    """Adjective or adverb "close"; the noun ("the close of") and the verb sound alike."""
    if context.governor() in MODALS and context.governor() not in ("not", "never"):
        return context.ahead() in ("to", "by", "behind") and context.governor() not in ("to", "will", "would", "shall")
    if context.ahead() == "of" or context.back() in ("at", "its", "their"):
        return False
    if context.ahead() in _NEARNESS:
        return True
    return not (is_verb(context, False) or (context.back() == "the" and context.ahead() in ("", "and")))


def _accustomed(context: Context) -> bool:
    if context.ahead() != "to":
        return False
    if context.governor() in TO_BE:
        # "was used to measure" is the verb, "was used to measuring" and "to the cold" the habit.
        following = context.ahead(2)
        return following.endswith("ing") or following in DETERMINERS or following in OBJECTS or following == ""
    return context.governor() not in ("be",) and context.back() not in ("is", "are")


def _contents(context: Context) -> bool:
    if context.governor() in TO_BE or context.back() in (
        "well",
        "quite",
        "feel",
        "felt",
        "seem",
        "seemed",
        "not",
        "rest",
        "be",
        "perfectly",
    ):
        return False
    return context.ahead() not in ("with", "himself", "herself", "themselves", "myself", "ourselves", "yourself")


def _sick_person(context: Context) -> bool:
    modifier = context.ahead() and context.ahead() not in PREPOSITIONS | TO_BE | TO_HAVE | {"who", "and", "or"}
    return context.governor() in DETERMINERS | {"poor", "confirmed", "chronic", "helpless", "an"} and not modifier


def _dove_bird(context: Context) -> bool:
    if context.governor() in DETERMINERS:
        return True
    return context.ahead() not in ("into", "in", "under", "off", "down", "for", "headfirst", "beneath", "from", "deep")


def _resume_paper(context: Context) -> bool:
    return context.governor() in ARTICLES and context.ahead() not in ARTICLES


def _learned_scholarly(context: Context) -> bool:
    return context.ahead() in _SCHOLARLY or (
        _adjective(context) and context.ahead() not in ("", "behaviour", "behavior", "by")
    )


def _aged_old(context: Context) -> bool:
    return _adjective(context) and context.ahead() not in ("beef", "cheese", "wine", "whisky")


def _blessed_holy(context: Context) -> bool:
    return context.governor() in DETERMINERS or (context.opens and context.ahead() in ("are", "is", "be"))


def _not_polish(context: Context) -> bool:
    if not context.written[0].isupper() or context.written.isupper():
        return True
    return context.opens and context.ahead() in ARTICLES


def _august_adjective(context: Context) -> bool:
    return context.written.islower()


def _noun_in_s(context: Context) -> bool:
    return not is_verb(context, inflected=True)


_CHOOSERS: Mapping[str, Chooser] = {
    "read": _read_past, "lead": _lead_metal, "live": _live_adjective, "wind": _wind_air, "tear": _tear_drop,
    "wound": _wound_injury, "bow": _bow_weapon, "minute": _minute_time, "close": _near, "used": _accustomed,
    "content": _contents, "invalid": _sick_person, "dove": _dove_bird, "resume": _resume_paper,
    "learned": _learned_scholarly, "aged": _aged_old, "blessed": _blessed_holy, "polish": _not_polish,
    "august": _august_adjective, "lives": _noun_in_s, "bass": lambda context: not context.near(_ANGLING),
}  # fmt: skip
_ONLY_BASE = words(
    "read lead close used minute content invalid learned aged blessed polish august house frequent perfect bass resume "
    "wound dove bow"
)
"""Words whose form in -s is no homograph, or has another entry."""


@dataclass(frozen=True)
class Homograph:
    """A line of the table, or the form in -s that follows from one.

    Attributes:
        base: the word of the line.
        first: noun or adjective, or the first sense.
        second: verb, or the second sense.
        inflected: whether it is the form in -s.
    """

    base: str
    first: Pronunciation
    second: Pronunciation
    inflected: bool


@cache
def table() -> Mapping[str, Homograph]:
    """The homographs by their lower-case spelling."""
    text = resources.files(__package__).joinpath("data", "homographs.tsv").read_text(encoding="utf-8")
    found: dict[str, Homograph] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        word, *senses = line.split("\t")
        first, second = (tuple(sense.split()) for sense in senses)
        found[word] = Homograph(word, first, second, inflected=False)
        # "refuses" and the like are verbs only; the noun has no such form or the dictionary knows it.
        if word not in _ONLY_BASE and first[-1] != "Z":
            forms = first + plural_ending(first), second + plural_ending(second)
            found[_form_in_s(word)] = Homograph(word, *forms, inflected=True)
    return found


def _form_in_s(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "sh", "ch")) else "s")


def choose(context: Context) -> Pronunciation:
    """The pronunciation of a homograph where it stands; empty if the word is none."""
    word = context.written.lower()
    found = table().get(word)
    if found is None:
        return ()
    chooser = _CHOOSERS.get(word) or _CHOOSERS.get(found.base)
    first = chooser(context) if chooser is not None else not is_verb(context, found.inflected)
    return found.first if first else found.second
