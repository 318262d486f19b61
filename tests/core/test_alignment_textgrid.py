"""Praat's TextGrid files."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowtts.alignment import Alignment, PhoneTime, TextGrid, read_textgrid, write_textgrid
from flowtts.alignment.textgrid import Interval, Tier, from_alignment
from flowtts.types import UserError, Word

GRID = TextGrid(
    0.0,
    1.5,
    (
        Tier("words", (Interval(0.0, 0.25, ""), Interval(0.25, 1.0, 'say "hé"'), Interval(1.0, 1.5, ""))),
        Tier("bells", (Interval(0.5, 0.5, "ding [1] 7"),), points=True),
        Tier("phones", (Interval(0.0, 1.5, "! not a comment\nbut two lines"),)),
    ),
)

# As the Montreal Forced Aligner writes them.
LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.05
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 2.05
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 1.5e-1
            text = ""
        intervals [2]:
            xmin = 0.15
            xmax = 2.05
            text = "hello"
    item [2]:
        class = "TextTier"
        name = "marks"
        xmin = 0
        xmax = 2.05
        points: size = 1
        points [1]:
            number = 1
            mark = "x"
"""


@pytest.mark.parametrize("short", [False, True])
def test_round_trip(short: bool, tmp_path: Path) -> None:
    write_textgrid(tmp_path / "a.TextGrid", GRID, short=short)
    assert read_textgrid(tmp_path / "a.TextGrid") == GRID
    assert [p.name for p in tmp_path.iterdir()] == ["a.TextGrid"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_long_format(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.TextGrid").write_bytes(LONG.encode(encoding))
    words = Tier("words", (Interval(0.0, 0.15, ""), Interval(0.15, 2.05, "hello")))
    assert read_textgrid(tmp_path / "a.TextGrid") == TextGrid(
        0.0, 2.05, (words, Tier("marks", (Interval(1.0, 1.0, "x"),), points=True))
    )


def test_short_format_with_comments(tmp_path: Path) -> None:
    text = '"ooTextFile"\n"TextGrid"\n0 ! from\n1 ! to\n<exists>\n1\n"IntervalTier" "phones" 0 1 1\n0 1 "AA1"\n'
    (tmp_path / "a.TextGrid").write_text(text)
    assert read_textgrid(tmp_path / "a.TextGrid").tiers == (Tier("phones", (Interval(0.0, 1.0, "AA1"),)),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: is no TextGrid"),
        (LONG.replace("TextGrid", "Pitch 1"), "another kind of Praat object"),
        (LONG[:400], "the end of the file"),
        (
            LONG.replace("xmax = 2.05\n            text", "xmax = 0.1\n            text"),
            "line 22: interval 'hello' ends before",
        ),
        (LONG.replace('"IntervalTier"', '"OtherTier"'), "unknown kind of tier 'OtherTier'"),
        (LONG.replace("size = 2\nitem", "size = 2.5\nitem"), "a count expected"),
    ],
)
def test_broken_files_say_where(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_textgrid(path)
    assert str(caught.value).startswith(str(path)) and problem in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_textgrid(tmp_path / "none.TextGrid")
    (tmp_path / "b.TextGrid").write_bytes(b"ooBinaryFile\x08TextGrid")
    with pytest.raises(UserError, match="binary"):
        read_textgrid(tmp_path / "b.TextGrid")
    (tmp_path / "c.TextGrid").write_bytes(LONG.replace("hello", "h\xe9").encode("latin-1"))
    with pytest.raises(UserError, match="neither UTF-8 nor UTF-16"):
        read_textgrid(tmp_path / "c.TextGrid")


def test_alignments_become_tiers_without_gaps() -> None:
    phones = (
        PhoneTime("SIL", -1, 0.0, 0.2), PhoneTime("HH_B", 0, 0.2, 0.3), PhoneTime("AY1_E", 0, 0.3, 0.5),
        PhoneTime("SIL", -1, 0.5, 0.5), PhoneTime("Y_B", 1, 0.5, 0.6), PhoneTime("UW1_E", 1, 0.6, 0.8),
        PhoneTime("SIL.", -1, 0.8, 1.0),
    )  # fmt: skip
    grid = from_alignment(Alignment((Word("Hi", 0.2, 0.5), Word("you", 0.5, 0.8)), phones))
    assert [(i.start, i.end, i.text) for i in grid.tiers[0].intervals] == [
        (0.0, 0.2, ""), (0.2, 0.5, "Hi"), (0.5, 0.8, "you"), (0.8, 1.0, ""),
    ]  # fmt: skip
    assert [i.text for i in grid.tiers[1].intervals] == ["", "HH_B", "AY1_E", "Y_B", "UW1_E", ""]
    assert grid.tier("phones") == grid.tiers[1] and grid.tier("none") is None
