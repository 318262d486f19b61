"""Abbreviations: titles, streets, months, Latin, companies, dotted initials."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .rules import Reader, Rule, after, rule

TITLES: Mapping[str, str] = {
    "Mr": "Mister", "Mrs": "Missus", "Messrs": "Messrs", "Mmes": "Mesdames", "Dr": "Doctor", "Drs": "Doctors",
    "Prof": "Professor", "Rev": "Reverend", "Hon": "Honorable", "Gen": "General", "Col": "Colonel", "Maj": "Major",
    "Capt": "Captain", "Lt": "Lieutenant", "Lieut": "Lieutenant", "Sgt": "Sergeant", "Cpl": "Corporal",
    "Pvt": "Private", "Cmdr": "Commander", "Adm": "Admiral", "Gov": "Governor", "Sen": "Senator",
    "Rep": "Representative", "Pres": "President", "Supt": "Superintendent", "Insp": "Inspector", "Ald": "Alderman",
    "Bp": "Bishop", "Fr": "Father", "St": "Saint", "Ste": "Sainte", "Mt": "Mount", "Ft": "Fort", "Wm": "William",
    "Chas": "Charles", "Geo": "George", "Jas": "James", "Thos": "Thomas", "Robt": "Robert", "Jos": "Joseph",
    "Benj": "Benjamin", "Ms": "Ms", "Mme": "Madame", "Mlle": "Mademoiselle",
}  # fmt: skip
"""Stand before a name, with or without their dot, and never end a sentence."""

STREETS: Mapping[str, str] = {
    "St": "Street", "Ave": "Avenue", "Av": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Ln": "Lane", "Dr": "Drive",
    "Hwy": "Highway", "Pkwy": "Parkway", "Sq": "Square", "Ct": "Court", "Pl": "Place", "Ter": "Terrace",
}  # fmt: skip
ENDINGS: Mapping[str, str] = {
    "Jr": "Junior", "Sr": "Senior", "Esq": "Esquire", "Co": "Company", "Cos": "Companies", "Corp": "Corporation",
    "Inc": "Incorporated", "Ltd": "Limited", "Bros": "Brothers", "Bart": "Baronet", "etc": "et cetera",
}  # fmt: skip
WORDS: Mapping[str, str] = {
    "vs": "versus", "viz": "viz", "approx": "approximately", "dept": "department", "Dept": "Department",
    "govt": "government", "Govt": "Government", "univ": "university", "Univ": "University", "assn": "association",
    "Assn": "Association", "Assoc": "Association", "Natl": "National", "Intl": "International", "ext": "extension",
    "misc": "miscellaneous", "est": "established", "Est": "Established", "incl": "including", "excl": "excluding",
    "fig": "figure", "Fig": "Figure", "figs": "figures", "Figs": "Figures", "vol": "volume", "Vol": "Volume",
    "vols": "volumes", "Vols": "Volumes", "chap": "chapter", "Chap": "Chapter", "eqn": "equation", "Eqn": "Equation",
    "Xmas": "Christmas", "wk": "week", "wks": "weeks", "hrs": "hours", "mins": "minutes", "secs": "seconds",
    "yrs": "years", "avg": "average", "tel": "telephone", "Tel": "Telephone", "temp": "temperature",
}  # fmt: skip
MONTHS: Mapping[str, str] = {
    "Jan": "January", "Feb": "February", "Mar": "March", "Apr": "April", "Jun": "June", "Jul": "July",
    "Aug": "August", "Sep": "September", "Sept": "September", "Oct": "October", "Nov": "November", "Dec": "December",
}  # fmt: skip
DAYS: Mapping[str, str] = {"Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday",
         "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday"}  # fmt: skip
STATES: Mapping[str, str] = {
    "Ala": "Alabama", "Ariz": "Arizona", "Ark": "Arkansas", "Calif": "California", "Colo": "Colorado",
    "Conn": "Connecticut", "Fla": "Florida", "Ga": "Georgia", "Ill": "Illinois", "Ind": "Indiana", "Kans": "Kansas",
    "Ky": "Kentucky", "La": "Louisiana", "Mass": "Massachusetts", "Md": "Maryland", "Mich": "Michigan",
    "Minn": "Minnesota", "Miss": "Mississippi", "Mo": "Missouri", "Mont": "Montana", "Neb": "Nebraska",
    "Nev": "Nevada", "Okla": "Oklahoma", "Ore": "Oregon", "Pa": "Pennsylvania", "Tenn": "Tennessee", "Tex": "Texas",
    "Va": "Virginia", "Vt": "Vermont", "Wash": "Washington", "Wis": "Wisconsin", "Wyo": "Wyoming",
}  # fmt: skip

STARTERS = re.compile(
    r"[\s\"')\]]*(?:The|A|An|He|She|It|They|We|I|You|This|That|These|Those|There|His|Her|Its|Their|Our|My|Your|In|On|At"
    r"|By|For|From|But|And|So|Then|When|While|As|If|After|Before|However|No|Not|What|Who|Why|How|Where|One|Some|All"
    r"|Many|Most|Both|Each|Although|Though|Since|Because|With|Without|To|Yet|Now|Here|Once|During|Is|Are|Was|Did|Do)\b"
)
"""A word that begins a sentence more often than it follows an abbreviation inside one."""

_UNDOTTED = {"vs": "versus", "etc": "et cetera", "approx": "approximately", "Xmas": "Christmas", "govt": "government",
             "Jr": "Junior", "Sr": "Senior"}  # fmt: skip
_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"


def _names(table: Mapping[str, str]) -> str:
    return "|".join(sorted(table, key=len, reverse=True))


def stop_after(match: re.Match[str]) -> str:
    """The full stop that an abbreviation's own dot also is: "." where the sentence ends with it, else nothing."""
    rest = after(match)
    ends = not rest.strip(" \"')]") or STARTERS.match(rest) is not None
    return "." if ends else ""


def _from(table: Mapping[str, str], suffix: str = "") -> Reader:
    """Look the first group up."""
    return lambda match: table[match.group(1)] + suffix


def _from_stopping(table: Mapping[str, str]) -> Reader:
    """Look the first group up; its dot may end the sentence."""
    return lambda match: table[match.group(1)] + stop_after(match)


def _street(match: re.Match[str]) -> str:
    name, short, rest = match.group(1), match.group(2), after(match)
    # "Good St. Nicholas", "old Dr. Grant": a name follows, so it is a title.
    if short in TITLES and re.match(r"\s[A-Z][a-z]", rest) and not STARTERS.match(rest):
        return match.group()
    return f"{name} {STREETS[short]}{stop_after(match) if match.group(3) else ''}"


def _initialism(match: re.Match[str]) -> str:
    return match.group().replace(".", "").upper() + stop_after(match)


def _degree(match: re.Match[str]) -> str:
    return re.sub(r"[.\s]", "", match.group()) + stop_after(match)


def _initial(match: re.Match[str]) -> str:
    # "Plan B. The next step": a sentence ends after the letter.
    return match.group() if STARTERS.match(after(match)) else match.group(1)


def _number(match: re.Match[str]) -> str:
    return ("N" if match.group(1) == "N" else "n") + ("umbers " if match.group(2) else "umber ")


LATIN: tuple[Rule, ...] = (
    rule(r"\bi\.\s?e\.", "that is"),
    rule(r"\bI\.e\.", "That is"),
    rule(r"\be\.\s?g\.", "for example"),
    rule(r"\bE\.g\.", "For example"),
    rule(r"\b(et al)\.", lambda match: match.group(1) + stop_after(match)),
    rule(r"\b[Cc]f\.(?=\s)", "compare"),
    rule(r"\b(?:ca|c)\.\s?(?=\d{4}\b)", "circa "),
)
REFERENCES: tuple[Rule, ...] = (
    rule(r"\b([Nn])o(s?)\.\s?(?=\d)", _number),
    rule(r"\bNo\s?(?=\d)", "Number "),
    rule(r"\bpp\.?\s?(?=\d)", "pages "),
    rule(r"\bp\.\s?(?=\d)", "page "),
    rule(r"\b[Cc]h\.\s?(?=\d|[IVX]+\b)", "chapter "),
    rule(r"\b[Ss]ect?\.\s?(?=\d|[IVX]+\b)", "section "),
    rule(r"\b[Aa]rt\.\s?(?=\d|[IVX]+\b)", "article "),
)
CALENDAR: tuple[Rule, ...] = (
    rule(
        rf"\b({_names(MONTHS)})\.?\s?[–-]\s?({_names(MONTHS)})\b\.?",
        lambda match: f"{MONTHS[match[1]]} to {MONTHS[match[2]]}",
    ),
    rule(rf"\b({_MONTH})\s?–\s?(?=(?:{_MONTH})\b)", r"\1 to "),
    rule(
        rf"\b({_names(DAYS)})\.?\s?[–-]\s?({_names(DAYS)})\b\.?", lambda match: f"{DAYS[match[1]]} to {DAYS[match[2]]}"
    ),
    rule(rf"\b({_names(MONTHS)})\.?(?=\s\d{{1,4}}\b|\s\d{{1,2}}(?:st|nd|rd|th)\b)", _from(MONTHS)),
    rule(rf"(?<=\d\s)({_names(MONTHS)})\b\.?", _from(MONTHS)),
    rule(rf"(?<=(?:st|nd|rd|th)\s)({_names(MONTHS)})\b\.?", _from(MONTHS)),
    rule(rf"\b({_names(MONTHS)})\.(?=\s[a-z]|,)", _from(MONTHS)),
    rule(rf"\b({_names(DAYS)})(?:\.,?|,)(?=\s(?:{_MONTH}|\d))", _from(DAYS, ",")),
    rule(rf"\b({_names(DAYS)})\.(?=\s[a-z]|,)", _from(DAYS)),
)
NAMES: tuple[Rule, ...] = (
    rule(rf"(?<=[a-z],\s)({_names(STATES)})\.", _from_stopping(STATES)),
    rule(rf"\b([A-Z][a-z']+|\d+(?:st|nd|rd|th))\s({_names(STREETS)})\b(\.?)", _street),
    rule(rf"\b({_names(TITLES)})\.\s?(?=[A-Z\"'{{])", _from(TITLES, " ")),
    rule(r"\b(Mr|Mrs|Dr|Prof|St|Sgt|Capt|Lt|Col|Gen)\s(?=[A-Z][a-z])", _from(TITLES, " ")),
    rule(r"\b(Mr|Mrs|Messrs)\.", _from(TITLES)),
    rule(rf"\b({_names(ENDINGS)})\.", _from_stopping(ENDINGS)),
    rule(rf"\b({_names(WORDS)})\.(?=\s*[a-z0-9,;:(]|\s[IVX]+\b)", _from(WORDS)),
    rule(r"\bvs?\.(?=\s)", "versus"),
    rule(rf"\b({_names(_UNDOTTED)})\b", _from(_UNDOTTED)),
)
LETTERS: tuple[Rule, ...] = (
    rule(
        r"(?<=\d)\s?[AaPp]\.\s[Mm]\.",
        lambda match: " " + re.sub(r"[.\s]", "", match.group()).upper() + stop_after(match),
    ),
    rule(r"\bPh\.\s?D\.", _degree),
    rule(r"\b(?:LL\.[DBM]|[BM]\.Sc|D\.Phil|Ed\.D)\.", _degree),
    rule(r"\b(?:[A-Za-z]\.)+[A-Za-z]\.(?!\w)", _initialism),
    rule(r"\b(?:[A-Z]\.)+[A-Z]\b", lambda match: match.group().replace(".", "")),
    rule(r"\b([A-Z])\.(?=\s?[A-Z][a-z]|\s?[A-Z]\.|,|\s[a-z])", _initial),
    rule(r"(?<=\w)\s?'n'\s?(?=\w)", " and "),
    rule(r"\bw/o\b", "without"),
    rule(r"\bw/\s?", "with "),
    rule(r"\bc/o\b", "care of"),
    rule(r"\b[nN]/[aA]\b", "NA"),
)

RULES: tuple[Rule, ...] = (*LATIN, *REFERENCES, *CALENDAR, *NAMES, *LETTERS)
"""In order: Latin and degrees have dots inside, so they go before what one dot ends."""
