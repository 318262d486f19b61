"""The front end: pronunciations, homographs, pauses, spans, and what it refuses."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtts.text import SYMBOLS, Analysis, FrontEnd, ids
from flowtts.text.dictionary import cmudict, parse_phones, read_lexicon
from flowtts.text.formation import form, past_ending, plural_ending
from flowtts.text.homographs import table
from flowtts.text.network import spelling_network
from flowtts.text.symbols import PAUSES, PHONES, bare, positioned
from flowtts.types import UserError

LINES = Path(__file__).with_name("text_homographs.tsv").read_text(encoding="utf-8").splitlines()
HOMOGRAPHS = [tuple(line.split("\t")) for line in LINES if not line.startswith("#")]
FRONT_END = FrontEnd()


def said(text: str) -> str:
    """Phones of all words, words apart by " | "."""
    return " | ".join(" ".join(word.phones) for word in FRONT_END.analyse(text).words)


def pauses(text: str) -> list[str]:
    return [phone.symbol for phone in FRONT_END.analyse(text).phones if phone.word == -1]


def check_layout(analysis: Analysis) -> None:
    """What every analysis must satisfy."""
    phones = analysis.phones
    assert phones[0].symbol == "SIL" and phones[-1].symbol in PAUSES
    assert all(0 < identity < len(SYMBOLS) for identity in ids(phone.symbol for phone in phones))
    assert not any(letter.isalpha() for letter in analysis.normalised[phones[-1].start : phones[-1].end])
    seen = 0
    for before, after in pairwise(phones):
        assert before.end <= after.start or (before.start, before.end) == (after.start, after.end)
        # Exactly one pause between two words, never two in a row.
        assert not (before.word == after.word == -1)
        assert before.word == after.word or -1 in (before.word, after.word)
    for index, word in enumerate(analysis.words):
        assert analysis.normalised[word.start : word.end] == word.text
        mine = [phone for phone in phones if phone.word == index]
        assert tuple(phone.symbol for phone in mine) == positioned(word.phones)
        assert all((phone.start, phone.end) == (word.start, word.end) for phone in mine)
        seen += len(mine)
    assert seen + len(analysis.words) + 1 == len(phones)


def test_vocabulary() -> None:
    assert SYMBOLS[:6] == ("PAD", "SIL", "SIL,", "SIL.", "SIL?", "SIL!")
    assert len(PHONES) == 24 + 15 * 3 and len(SYMBOLS) == 6 + 4 * len(PHONES) == len(set(SYMBOLS))
    assert ids(SYMBOLS) == list(range(len(SYMBOLS)))
    assert [bare(symbol) for symbol in ("AH0_B", "SIL,", "T_S")] == ["AH0", "SIL,", "T"]
    with pytest.raises(UserError, match="XX_B"):
        ids(["SIL", "XX_B"])


def test_layout_of_a_sentence() -> None:
    analysis = FRONT_END.analyse("Hello, a cat?")
    assert [phone.symbol for phone in analysis.phones] == [
        "SIL", "HH_B", "AH0_I", "L_I", "OW1_E", "SIL,", "AH0_S", "SIL", "K_B", "AE1_I", "T_E", "SIL?",
    ]  # fmt: skip
    assert [(w.text, w.start, w.end) for w in analysis.words] == [("Hello", 0, 5), ("a", 7, 8), ("cat", 9, 12)]
    check_layout(analysis)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [
                    "Hello",
                    "don't",
                    "well-known",
                    "$5.50",
                    "12:30",
                    "Dr.",
                    "FBI",
                    "{HH AY1}",
                    "zyxo",
                    "O'Neil's",
                    "'tis",
                    "the",
                    "end.",
                ]
            ),
            st.text(alphabet="abtz' -,.;:!?()\"—", min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_layout_of_any_text(parts: list[str]) -> None:
    text = " ".join(parts)
    try:
        analysis = FRONT_END.analyse(text)
    except UserError as error:
        assert "nothing to say" in str(error) and not re.search(r"[a-zA-Z0-9]", text)
    else:
        check_layout(analysis)
        assert analysis.source == text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One two", ["SIL", "SIL", "SIL"]),
        ("One, two.", ["SIL", "SIL,", "SIL."]),
        ("One; two: three - four — five (six) [seven]!", ["SIL", *["SIL,"] * 6, "SIL!"]),
        ("One? Two! Three.", ["SIL", "SIL?", "SIL!", "SIL."]),
        ("One... two... Three...", ["SIL", "SIL,", "SIL.", "SIL."]),
        ("What?! No!!", ["SIL", "SIL?", "SIL!"]),
        ('"One," he "two" said.', ["SIL", "SIL,", "SIL", "SIL", "SIL."]),
        ("snow-white it's", ["SIL", "SIL", "SIL", "SIL"]),
        ("Mr. Smith left", ["SIL"] * 4),
        ("A heading\n\nThe text", ["SIL", "SIL", "SIL.", "SIL", "SIL"]),
    ],
)
def test_pauses_follow_punctuation(text: str, wanted: list[str]) -> None:
    assert pauses(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cat's dogs' grumpet's", "K AE1 T S | D AO1 G Z | G R AH1 M P EH2 T S"),
        ("x-ray t-shirt", "EH1 K S R EY2 | T IY1 SH ER2 T"),
        ("snow-white", "S N OW1 | W AY1 T"),
        ("BBC", "B IY2 B IY0 S IY1"),
        ("QZX's", "K Y UW1 Z IY1 EH1 K S IH0 Z"),
        ("the NGOs are", "DH IY0 | EH1 N JH IY1 OW1 Z | AA1 R"),
        ("the US and us", "DH AH0 | Y UW1 EH1 S | AH0 N D | AH1 S"),
        ("vitamin A", "V AY1 T AH0 M AH0 N | EY1"),
        ("A cat", "AH0 | K AE1 T"),
        ("at 5 p.m.", "AE1 T | F AY1 V | P IY1 EH1 M"),
        ("the end, the cat", "DH IY0 | EH1 N D | DH AH0 | K AE1 T"),
        ("HELLO THERE MY FRIEND US", "HH AH0 L OW1 | DH EH1 R | M AY1 | F R EH1 N D | AH1 S"),
        ("'Tis 'hello'", "T IH1 Z | HH AH0 L OW1"),
        ("FlowTTS", "F L OW1 T IY1 T IY1 EH1 S"),
        ("McDonald", "M AH0 K D AA1 N AH0 L D"),
        ("café", "K AH0 F EY1"),
        ("it’s", "IH1 T S"),
    ],
)
def test_words(text: str, wanted: str) -> None:
    assert said(text) == wanted


@pytest.mark.parametrize(("sentence", "word", "wanted"), HOMOGRAPHS)
def test_homographs(sentence: str, word: str, wanted: str) -> None:
    found = [" ".join(w.phones) for w in FRONT_END.analyse(sentence).words if w.text.lower() == word]
    assert found == wanted.split("|")


def test_homograph_table_is_sound() -> None:
    assert len(HOMOGRAPHS) >= 40
    for word, found in table().items():
        assert found.first != found.second, word
        assert set(found.first + found.second) <= set(PHONES), word


def test_inline_phones() -> None:
    analysis = FRONT_END.analyse("Say {hh ah0 l ow1}, 5 times")
    assert analysis.words[1].phones == ("HH", "AH0", "L", "OW1")
    assert analysis.normalised == "Say {hh ah0 l ow1}, five times"
    check_layout(analysis)
    with pytest.raises(UserError, match=r"unknown phone 'QQ'"):
        FRONT_END.analyse("Say {HH QQ} now")
    with pytest.raises(UserError, match="no phones"):
        FRONT_END.analyse("Say {} now")


def test_stress_may_be_left_out() -> None:
    assert parse_phones("HH AH L OW", "here") == ("HH", "AH1", "L", "OW0")
    assert parse_phones("HH AH L OW1", "here") == ("HH", "AH0", "L", "OW1")
    with pytest.raises(UserError, match="here: unknown phone 'T1'; T is a consonant"):
        parse_phones("K AE1 T1", "here")
    with pytest.raises(UserError, match="stress of AE is 0, 1 or 2"):
        parse_phones("K AE3 T", "here")


def test_lexicon_wins(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text(
        "# mine\n\nTomato\tT AH0 M AA1 T OW2\nzyxo  Z IH K S OW\nread R IY1 D\nÉclair IH0 K L EH1 R\n", encoding="utf-8"
    )
    words = FrontEnd(lexicon=path).analyse("Tomato, zyxo's: I have read éclair").words
    assert [" ".join(word.phones) for word in words] == [
        "T AH0 M AA1 T OW2", "Z IH1 K S OW0 Z", "AY1", "HH AE1 V", "R IY1 D", "IH0 K L EH1 R",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat K AE1 T\ndog D QQ G\n", "line 2: unknown phone 'QQ'"),
        ("cat\n", "line 1: no phones"),
        ("42 F AO1 R\n", "line 1: '42' is not a word"),
    ],
)
def test_wrong_lexicon_names_the_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_lexicon(path)
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_or_binary_lexicon(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the lexicon"):
        FrontEnd(lexicon=tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="not UTF-8"):
        FrontEnd(lexicon=tmp_path / "binary")


@pytest.mark.parametrize("text", ["", "  \n", "...", "?!", "— – (", "🙂", "' '"])
def test_nothing_to_say(text: str) -> None:
    with pytest.raises(UserError, match="nothing to say"):
        FRONT_END.analyse(text)


def test_other_scripts_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="cannot pronounce 'мир'"):
        FRONT_END.analyse("Hello мир")


def test_dictionary_is_whole() -> None:
    dictionary = cmudict()
    assert len(dictionary.entries) > 120_000
    assert dictionary.lookup("read") == (("R", "EH1", "D"), ("R", "IY1", "D"))
    assert dictionary.lookup("zyxophant") == () and dictionary.best("zyxophant") == ()
    unknown = {phone for entry in dictionary.entries.values() for phone in entry.replace("|", " ").split()} - set(
        PHONES
    )
    assert not unknown


def test_network_agrees_with_published_example() -> None:
    # The output that g2p-en's README shows.
    assert " ".join(spelling_network()("activationist")) == "AE2 K T IH0 V EY1 SH AH0 N IH0 S T"
    assert spelling_network()("") == () and spelling_network()("é") == ()


@pytest.mark.parametrize(
    ("base", "plural", "past"),
    [
        ("K AE1 T", "S", "IH0 D"),
        ("D AO1 G", "Z", "D"),
        ("B AH1 Z", "IH0 Z", "D"),
        ("L AE1 F", "S", "T"),
        ("G OW1", "Z", "D"),
    ],
)
def test_endings(base: str, plural: str, past: str) -> None:
    assert " ".join(plural_ending(base.split())) == plural
    assert " ".join(past_ending(base.split())) == past


def test_word_formation() -> None:
    known = {
        "hop": "HH AA1 P",
        "hope": "HH OW1 P",
        "fall": "F AO1 L",
        "carry": "K EH1 R IY0",
        "room": "R UW1 M",
        "light": "L AY1 T",
    }

    def read(word: str) -> str:
        return " ".join(form(word, lambda part: tuple(known.get(part, "").split())))

    assert read("hopping") == "HH AA1 P IH0 NG" and read("hoping") == "HH OW1 P IH0 NG"
    assert read("falling") == "F AO1 L IH0 NG" and read("carried") == "K EH1 R IY0 D"
    assert read("lightroom") == "L AY1 T R UW2 M" and read("unlighted") == "AH0 N L AY1 T IH0 D"
    assert read("xyz") == ""


def test_other_languages_need_a_vocabulary() -> None:
    with pytest.raises(UserError, match="collected from texts"):
        _ = FrontEnd(language="de").symbols
    assert FrontEnd(language="de", symbols=("PAD", "SIL")).symbols == ("PAD", "SIL")
    assert FRONT_END.symbols == FRONT_END.collect(["anything"]) == SYMBOLS


def test_german() -> None:
    pytest.importorskip("phonemizer")
    front_end = FrontEnd(language="de")
    try:
        analysis = front_end.analyse("Grüß Gott, „schöne“ Welt: 25 Äpfel!")
    except UserError as error:
        pytest.skip(f"espeak-ng is not usable here: {error}")
    assert [word.text for word in analysis.words] == ["Grüß", "Gott", "schöne", "Welt", "fünfundzwanzig", "Äpfel"]
    assert analysis.words[1].phones == ("ɡ", "ˈɔ", "t")
    assert [p.symbol for p in analysis.phones if p.word == -1] == ["SIL", "SIL", "SIL,", "SIL", "SIL,", "SIL", "SIL!"]
    vocabulary = front_end.collect(["Grüß Gott, schöne Welt: 25 Äpfel!"])
    assert vocabulary[:6] == SYMBOLS[:6] and ids((p.symbol for p in analysis.phones), vocabulary)
    with pytest.raises(UserError, match="no language 'xx'"):
        FrontEnd(language="xx").analyse("word")


def test_missing_espeak_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("phonemizer", "phonemizer.backend"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"flowtts\[espeak\]"):
        FrontEnd(language="sw").analyse("habari")
