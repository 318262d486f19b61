"""Prompts: the shipped sets hold what their README says, and TSVs of users are read or refused in one line."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from flowtts.alignment.base import check_match
from flowtts.alignment.choose import english_aligner
from flowtts.audio.io import read, write
from flowtts.bench import read_sentences
from flowtts.compare.prompts import SETS, Asked, read_prompts, read_sets, shipped
from flowtts.edit.diff import diff, same_word
from flowtts.text import FrontEnd
from flowtts.types import Audio, UserError
from flowtts.voice import shipped as shipped_voices

FOLDER = shipped("english").parent
ENGINE = ("rms", "slt", "awb")


@pytest.fixture(scope="module")
def frontend() -> FrontEnd:
    return FrontEnd()


def tone(path: Path, seconds: float = 0.1) -> Path:
    write(path, Audio(np.full(int(16_000 * seconds), 0.1, np.float32), 16_000))
    return path


def table(path: Path, *rows: str) -> Path:
    path.write_bytes(("\n".join(rows) + "\n").encode())
    return path


def cells(name: str) -> list[dict[str, str]]:
    """A shipped set as another reader finds it."""
    with shipped(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def readme() -> str:
    return (FOLDER / "README.md").read_text(encoding="utf-8")


# --- shipped sets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_a_shipped_set_can_be_read_and_every_text_said(name: str, frontend: FrontEnd) -> None:
    found = read_prompts(name)
    assert [one.id for one in found] == [row["id"] for row in cells(name)]
    for one in found:
        assert (one.set, one.text) == (name, one.text.strip())
        for text in (one.text, *([] if one.voice_text is None else [one.voice_text])):
            assert frontend.analyse(text).words, one.id
            assert not re.search(r"[\d_@/\\]", frontend.analyse(text).normalised), one.id


def test_all_sets_together_have_different_ids_and_speakers() -> None:
    found, about = read_sets(SETS)
    assert len({one.id.casefold() for one in found}) == len(found) == sum(one["count"] for one in about)
    assert [one["name"] for one in about] == list(SETS)
    assert len({one["hash"] for one in about}) == len(SETS)
    # Prompts without a voice get their speaker with it.
    assert all(bool(one.speaker) == (one.voice is not None) for one in found)


def test_every_recording_is_used_readable_and_attributed() -> None:
    used = {path for name in SETS for one in read_prompts(name)
            for path in (one.voice, one.reference) if isinstance(path, Path)}  # fmt: skip
    assert used == {path for path in FOLDER.rglob("*") if path.suffix in (".flac", ".ogg")}
    for path in used:
        audio = read(path)
        assert audio.sample_rate == 16_000 and audio.samples.ndim == 1 and np.abs(audio.samples).max() > 0.01
    said, listed = readme(), set(re.findall(r"\d{9}", readme()))
    assert {path.stem for path in used if path.parent.name == "accents"} == listed
    assert "`english/eNN.flac`" in said and "flite" in said and "OpenSLR 101" in said and "CC BY 4.0" in said
    voices = (shipped_voices()["rms"].parent / "README.md").read_text(encoding="utf-8")
    named = {one.voice for name in SETS for one in read_prompts(name) if isinstance(one.voice, str)}
    assert all(f"`{voice}`" in voices for voice in named)


def test_the_english_set_has_each_voice_in_turn_and_references_of_it() -> None:
    found = read_prompts("english")
    assert [one.voice for one in found] == [ENGINE[i % 3] for i in range(40)]
    assert [(one.id, one.text) for one in read_sentences()] == [(one.id, one.text) for one in found]
    for one in found:
        assert one.reference == FOLDER / "english" / f"{one.id}.flac"
        assert soundfile.info(one.reference).subtype == "PCM_16"
        assert 1.5 < soundfile.info(one.reference).duration < 5
    assert sum(path.stat().st_size for path in (FOLDER / "english").iterdir()) < 4e6


@pytest.mark.parametrize("number", [0, 13, 26])
def test_a_reference_says_its_sentence(number: int, frontend: FrontEnd) -> None:
    one = read_prompts("english")[number]
    assert one.reference is not None
    check_match(english_aligner().align(read(one.reference), frontend.analyse(one.text)))


def test_the_english_set_holds_every_phone_as_often_as_its_readme_says(frontend: FrontEnd) -> None:
    phones = Counter(
        phone.rstrip("012") for one in read_prompts("english")
        for word in frontend.analyse(one.text).words for phone in word.phones
    )  # fmt: skip
    told = " ".join(line[2:] for line in readme().splitlines() if line.startswith("> "))
    assert {name: int(count) for name, count in re.findall(r"([A-Z]{1,2}) (\d+)", told)} == phones
    assert len(phones) == 39
    assert f"{phones.total():,} phones" in readme()


def test_the_hard_set_has_every_kind_and_pairs_of_homographs(frontend: FrontEnd) -> None:
    rows = cells("hard")
    texts = {kind: [row["text"] for row in rows if row["kind"] == kind] for kind in {row["kind"] for row in rows}}
    assert set(texts) == {
        "number", "date", "money", "unit", "abbreviation", "name", "homograph", "twister", "short", "long", "repeat",
        "punctuation", "capitals", "address", "code", "contraction",
    }  # fmt: skip
    assert all(len(text.split()) > 60 for text in texts["long"])
    assert any(len(text.split()) == 1 for text in texts["short"])
    assert all(text.isupper() for text in texts["capitals"])
    assert any("…" in text or "..." in text for text in texts["punctuation"])
    words = [{same_word(word.text) for word in frontend.analyse(text).words} for text in texts["homograph"]]
    assert all(
        first & second & {"live", "lead", "read", "wound"}
        for first, second in zip(words[::2], words[1::2], strict=True)
    )  # fmt: skip
    assert not any(one.voice for one in read_prompts("hard"))


def changes(source: Sequence[str], wanted: Sequence[str]) -> str:
    """Where and what changes, in the words of the column ``kind``."""
    found = diff([same_word(word) for word in source], [same_word(word) for word in wanted])
    if len(found) > 1:
        return "two" if len(found) == 2 else "more"
    (change,) = found
    if change.last - change.first > 5:
        return "long"
    if change.start == change.end or change.first == change.last:
        return "insertion" if change.start == change.end else "deletion"
    if change.start == 0 or change.end == len(source):
        return "first" if change.start == 0 else "last"
    return "substitution"


def test_edits_are_of_what_the_recordings_say_and_of_the_kind_that_they_claim(frontend: FrontEnd) -> None:
    english = {one.reference: one.text for one in read_prompts("english")}
    texts = {name: path.with_suffix(".txt").read_text().strip() for name, path in shipped_voices().items()}
    for one, row in zip(read_prompts("edits"), cells("edits"), strict=True):
        assert one.task == "edit"
        assert one.voice_text == (texts[one.voice] if isinstance(one.voice, str) else english[one.voice])
        before, after = ([w.text for w in frontend.analyse(text).words] for text in (one.voice_text, one.text))
        assert changes(before, after) == row["kind"], one.id
    assert {row["kind"] for row in cells("edits")} == {
        "substitution", "insertion", "deletion", "first", "last", "two", "long"
    }  # fmt: skip


def test_accents_are_of_twelve_people_none_of_whom_says_the_same_twice() -> None:
    found = read_prompts("accents")
    assert len({one.speaker for one in found}) == len(found) == 12
    for one in found:
        assert one.reference is not None
        assert isinstance(one.voice, Path) and one.voice != one.reference and one.voice_text != one.text
        # The corpus names utterances by the speaker.
        assert {one.voice.stem[:4], one.reference.stem[:4], one.voice.stem[1:5]} & {one.speaker}
        assert soundfile.info(one.voice).format == "OGG"
        assert f"| {one.speaker} |" in readme()
    assert sum(path.stat().st_size for path in (FOLDER / "accents").iterdir()) <= 0.7e6


# --- TSVs of users ---------------------------------------------------------------------------------------------------


def test_a_minimal_table_leaves_everything_else_open(tmp_path: Path) -> None:
    path = table(tmp_path / "mine.tsv", "id\ttext\tmood", "a\t Hello there. \tgood", "", "b-1\tBye.\tbad")
    assert read_prompts(path) == (Asked("a", "Hello there.", set="mine"), Asked("b-1", "Bye.", set="mine"))
    assert read_prompts(str(path), count=1) == read_prompts(path)[:1]


def test_voices_are_recordings_beside_the_table_or_shipped_names(tmp_path: Path) -> None:
    (tmp_path / "wavs").mkdir()
    her, said = tone(tmp_path / "wavs" / "her.wav"), tone(tmp_path / "said.flac")
    path = table(
        tmp_path / "p.tsv", "text\tid\tvoice\tvoice_text\treference\tspeaker\ttask",
        "Hello.\ta\twavs/her.wav\tI am she.\tsaid.flac\tanna\t", "Hello.\tb\twavs/her.wav\t\t\t\tsay",
        "Hello.\tc\tslt\t\t\t\t", f"Hello.\td\t{said}\tHallo.\t\t\tedit", "Hello.\te\t\t\t\t\t",
    )  # fmt: skip
    slt = shipped_voices()["slt"].with_suffix(".txt").read_text().strip()
    assert read_prompts(path) == (
        Asked("a", "Hello.", her, "I am she.", said, "anna", set="p"),
        Asked("b", "Hello.", her, None, None, "her", set="p"),
        Asked("c", "Hello.", "slt", slt, None, "slt", set="p"),
        Asked("d", "Hello.", said, "Hallo.", None, "said", "edit", "p"),
        Asked("e", "Hello.", set="p"),
    )


def test_an_audio_root_takes_the_place_of_the_tables_folder(tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    her = tone(tmp_path / "sounds" / "her.wav")
    path = table(tmp_path / "p.tsv", "id\ttext\tvoice", "a\tHello.\ther.wav")
    assert read_prompts(path, root=tmp_path / "sounds")[0].voice == her
    with pytest.raises(UserError, match="no recording"):
        read_prompts(path)


def test_a_shipped_name_goes_before_a_file_and_a_path_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table(Path("hard"), "id\ttext", "mine\tHello.")
    assert len(read_prompts("hard")) > 1
    assert [one.id for one in read_prompts("./hard")] == ["mine"]


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "w.tsv"
    path.write_bytes(b"\xef\xbb\xbfid\ttext\tvoice\r\na\tHello.\tslt\r\n\r\n")
    (one,) = read_prompts(path)
    assert (one.text, one.voice) == ("Hello.", "slt")


def test_hashes_of_sets_change_with_what_is_said(tmp_path: Path) -> None:
    def hashed(*rows: str) -> str:
        (about,) = read_sets([table(tmp_path / "p.tsv", "id\ttext\tvoice", *rows)])[1]
        return str(about["hash"])

    first = hashed("a\tHello.\tslt")
    assert hashed("a\tHello.\tslt") == first
    assert len({first, hashed("a\tHallo.\tslt"), hashed("a\tHello.\trms"), hashed("b\tHello.\tslt")}) == 4


HEAD = "id\ttext\tvoice\tvoice_text\treference\ttask\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no column 'id'"),
        ("id\tvoice\na\tslt\n", "no column 'text'"),
        ("id\ttext\ttext\na\tb\tc\n", "two columns 'text'"),
        ("id\ttext\tvoice-text\na\tHello.\tb\n", "line 1: has a column 'voice-text'; write 'voice_text'"),
        ("id\ttext\tVoice\na\tHello.\tslt\n", "write 'voice'"),
        ("id\ttext\n", "holds no prompt"),
        ("id\ttext\na\tHello.\nb\n", "line 3: has 1 columns, not 2"),
        ("id\ttext\na\tHello.\nb\tBye.\tslt\n", "line 3: has 3 columns, not 2"),
        ("id\ttext\na\t  \n", "line 2: a has no text"),
        ("id\ttext\n \tHello.\n", "line 2: has no id"),
        ("id\ttext\na/b\tHello.\n", "line 2: the id 'a/b' cannot name a file"),
        (
            f"id\ttext\n{'a' * 200}\tHello.\n",
            "line 2: the id 'aaaaaaaaaaaaaaaaaaaa' … cannot name a file: it is too long",
        ),
        ("id\ttext\na\tHello.\n\nA\tBye.\n", "line 4: the id 'A' comes twice"),
        ("id\ttext\na\tHel\rlo.\n", "line 2: holds a lone carriage return"),
        ("id\ttext\na\tHel\0lo.\n", "line 2: holds a lone carriage return or a zero byte"),
        (f"{HEAD}a\tHello.\tgone.wav\t\t\t\n", "line 2: no recording"),
        (f"{HEAD}a\tHello.\tstl\t\t\t\n", "no shipped voice 'stl'; there are accented-f, awb"),
        (f"{HEAD}a\tHello.\ttext.wav\t\t\t\n", "text.wav cannot be read as sound"),
        (f"{HEAD}a\tHello.\tempty.wav\t\t\t\n", "empty.wav holds no sound"),
        (f"{HEAD}a\tHello.\tslt\t\tgone.wav\t\n", "line 2: no recording"),
        (f"{HEAD}a\tHello.\tslt\t\ttext.wav\t\n", "line 2: "),
        (f"{HEAD}a\tHello.\t\tHi.\t\t\n", "line 2: has a voice_text but no voice"),
        (f"{HEAD}a\tHello.\tgood.wav\t\t\tedit\n", "line 2: the edit a has no voice_text"),
        (f"{HEAD}a\tHello.\t\t\t\tedit\n", "line 2: the edit a has no voice"),
        (f"{HEAD}a\tHello.\tgood.wav\tHello.\t\tedit\n", "line 2: the edit a changes nothing"),
        (f"{HEAD}a\tHello.\tslt\t\t\tsing\n", "line 2: no task 'sing'"),
        ("id\ttext\na\tHello.\n", "holds 1 prompts, not 2"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    tone(tmp_path / "good.wav")
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
    path = tmp_path / "p.tsv"
    path.write_bytes(content.encode())
    with pytest.raises(UserError) as caught:
        read_prompts(path, format="tsv", count=2 if "not 2" in said and "columns" not in said else None)
    assert str(caught.value).startswith(str(path)) and said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_wrong_sources_are_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.tsv"
    latin.write_bytes("id\ttext\na\tGrüße.\n".encode("latin-1"))
    good = table(tmp_path / "good.tsv", "id\ttext", "a\tHello.")
    for source, options, said in (
        (latin, {}, "not UTF-8"), (tmp_path, {"format": "tsv"}, "cannot be read"),
        ("englsh", {}, "did you mean english"), (tmp_path / "gone.tsv", {}, "no prompts"),
        (good, {"format": "csv"}, "no format of prompts 'csv'"), (good, {"root": tmp_path / "gone"}, "no such folder"),
        ("hard", {"count": 1000}, "holds 47 prompts, not 1000"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said) as caught:
            read_prompts(source, **options)
        assert "\n" not in str(caught.value)


def test_recordings_after_the_count_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    path = table(tmp_path / "p.tsv", "id\ttext\tvoice", "a\tHello.\tslt", "b\tHello.\ttext.wav")
    assert len(read_prompts(path, count=1)) == 1
    with pytest.raises(UserError, match="line 3"):
        read_prompts(path)
