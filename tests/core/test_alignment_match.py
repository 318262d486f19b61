"""Labels of engines and aligners on an analysed text."""

from __future__ import annotations

import pytest

from flowtts.alignment import TextGrid, from_textgrid, impose
from flowtts.alignment.match import to_phones
from flowtts.alignment.textgrid import Interval, Tier
from flowtts.text.analysis import Analysis, TextWord, assemble
from flowtts.types import UserError


def analysed(*words: str, pauses: tuple[str, ...] | None = None) -> Analysis:
    """Words given as "text=P H O1 N"."""
    text, made = "", []
    for word in words:
        name, _, phones = word.partition("=")
        made.append(TextWord(name, len(text), len(text) + len(name), tuple(phones.split())))
        text += name + " "
    return assemble(text.strip(), text.strip(), tuple(made), pauses or ("SIL",) * (len(words) - 1) + ("SIL.",))


def labelled(text: str, step: float = 0.1) -> list[Interval]:
    return [Interval(round(i * step, 3), round((i + 1) * step, 3), label) for i, label in enumerate(text.split())]


def symbols(text: str, analysis: Analysis) -> list[str]:
    labels = labelled(text)
    made, alignment = impose(analysis, labels, labels[-1].end)
    assert [(p.symbol, p.word) for p in alignment.phones] == [(p.symbol, p.word) for p in made.phones]
    assert [w.text for w in alignment.words] == [w.text for w in analysis.words]
    return [p.symbol for p in alignment.phones]


def test_stress_and_words_come_from_the_text_sounds_from_the_engine() -> None:
    analysis = analysed("the=DH AH0", "Roman=R OW1 M AH0 N")
    assert symbols("pau dh iy r ow m ax n pau", analysis) == [
        "SIL", "DH_B", "IY0_E", "SIL", "R_B", "OW1_I", "M_I", "AH0_I", "N_E", "SIL.",
    ]  # fmt: skip


def test_times_are_kept_and_ghosts_last_no_time() -> None:
    analysis = analysed("a=AH0", "cat=K AE1 T", "sat=S AE1 T", pauses=("SIL", "SIL,", "SIL."))
    labels = labelled("pau ax k ae t pau s ae t pau")
    _, made = impose(analysis, labels, 0.95)
    times = [(p.symbol, round(p.start, 3), round(p.end, 3)) for p in made.phones]
    assert times[:4] == [("SIL", 0.0, 0.1), ("AH0_S", 0.1, 0.2), ("SIL", 0.2, 0.2), ("K_B", 0.2, 0.3)]
    assert times[6] == ("SIL,", 0.5, 0.6) and times[-1] == ("SIL.", 0.9, 0.95)


def test_what_the_engine_swallows_or_adds_is_followed() -> None:
    analysis = analysed("the=DH AH0", "effort=EH1 F ER0 T", "is=IH1 Z")
    assert symbols("dh eh f ax r t s ih z", analysis) == [
        "SIL", "DH_S", "SIL", "EH1_B", "F_I", "AH0_I", "R_I", "T_I", "S_E", "SIL", "IH1_B", "Z_E", "SIL.",
    ]  # fmt: skip


def test_a_pause_never_falls_into_a_word() -> None:
    analysis = analysed("so=S OW1", "own=OW1 N")
    assert symbols("s ow pau ow n", analysis) == ["SIL", "S_B", "OW1_E", "SIL", "OW1_B", "N_E", "SIL."]
    analysis = analysed("bad=B AE1 D", "day=D EY1")
    assert symbols("b ae pau d ey", analysis)[3:6] == ["SIL", "D_B", "EY1_E"]


def test_engine_labels() -> None:
    assert to_phones("ax") == ("AH0",) and to_phones("el") == ("AH0", "L") and to_phones("dx") == ("T",)
    assert to_phones("AA1") == ("AA1",) and to_phones("ng") == ("NG",) and to_phones("ɐ") == ("",)


def test_other_texts_are_refused() -> None:
    analysis = analysed("cat=K AE1 T", "sat=S AE1 T")
    with pytest.raises(UserError, match="do not fit the text"):
        impose(analysis, labelled("m uw hh er jh oy b l w"), 0.9)
    with pytest.raises(UserError, match="no phones"):
        impose(analysis, labelled("pau pau"), 0.2)
    with pytest.raises(UserError, match="the word 'a' was not said"):
        impose(analysed("cat=K AE1 T", "a=AH0", "sat=S AE1 T"), labelled("k ae t s ae t"), 0.6)


def test_textgrid_in_unknown_phones_takes_those_of_the_text() -> None:
    analysis = analysed("thin=TH IH1 N", "air=EH1 R")
    phones = tuple(labelled("sil θ ɪ n ɛ ɹ sp"))
    words = Tier("words", (Interval(0.1, 0.4, "thin"), Interval(0.4, 0.6, "air")))
    grid = TextGrid(0.0, 0.7, (words, Tier("phones", phones)))
    made, alignment = from_textgrid(grid, analysis, 0.7)
    assert made.phones == analysis.phones
    assert [(w.text, w.start, w.end) for w in alignment.words] == [("thin", 0.1, 0.4), ("air", 0.4, 0.6)]


def test_textgrid_with_stress_keeps_it_and_needs_phones() -> None:
    analysis = analysed("record=R EH1 K ER0 D")
    grid = TextGrid(0.0, 0.6, (Tier("phones", tuple(labelled("R IH0 K AO1 R D"))),))
    made, _ = from_textgrid(grid, analysis, 0.6)
    assert made.words[0].phones == ("R", "IH0", "K", "AO1", "R", "D")
    with pytest.raises(UserError, match="no tier 'phones'"):
        from_textgrid(TextGrid(0.0, 0.6, (Tier("words", ()),)), analysis, 0.6)
