"""Published test lists, in small, as they are published; and the protocol whose list was not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from flowtts.audio.io import write
from flowtts.compare.lists import continuation, cross_sentence, guess, librispeech_pc, said_within, seed_tts
from flowtts.compare.prompts import Asked, read_prompts
from flowtts.types import Audio, UserError
from flowtts.voice import shipped


def sound(path: Path, seconds: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, Audio(np.full(int(16_000 * seconds), 0.1, np.float32), 16_000))
    return path


def lines(path: Path, *rows: str, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(row + end for row in rows).encode())
    return path


# --- seed-tts-eval ---------------------------------------------------------------------------------------------------

SEED = (
    "voice_en_1-voice_en_2|We asked over twenty people.|prompt-wavs/voice_en_1.wav|Get the money to the bank early.",
    "voice_en_3-voice_en_4|How they pleased him.|prompt-wavs/voice_en_3.wav|Nobody, he said.|wavs/other.wav",
)


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    folder = tmp_path / "seedtts_testset" / "en"
    for name in ("prompt-wavs/voice_en_1", "prompt-wavs/voice_en_3", "wavs/voice_en_1-voice_en_2", "wavs/other"):
        sound(folder / f"{name}.wav")
    return lines(folder / "meta.lst", *SEED)


def test_a_list_of_seed_tts_is_read_with_and_without_references(seed: Path) -> None:
    wavs = seed.parent
    assert read_prompts(seed) == (
        Asked(
            "voice_en_1-voice_en_2", "Get the money to the bank early.", wavs / "prompt-wavs/voice_en_1.wav",
            "We asked over twenty people.", wavs / "wavs/voice_en_1-voice_en_2.wav", "voice_en_1",
            set="seed-tts-en-meta",
        ),
        Asked(
            "voice_en_3-voice_en_4", "Nobody, he said.", wavs / "prompt-wavs/voice_en_3.wav", "How they pleased him.",
            wavs / "wavs/other.wav", "voice_en_3", set="seed-tts-en-meta",
        ),
    )  # fmt: skip
    (wavs / "wavs" / "voice_en_1-voice_en_2.wav").unlink()
    assert read_prompts(seed, format="seed-tts")[0].reference is None


def test_the_recordings_of_a_list_may_lie_elsewhere(seed: Path, tmp_path: Path) -> None:
    moved = lines(tmp_path / "lists" / "mine.lst", *SEED)
    with pytest.raises(UserError, match="line 1: no recording"):
        read_prompts(moved)
    found = read_prompts(moved, root=seed.parent, count=1)
    assert [one.voice for one in found] == [seed.parent / "prompt-wavs/voice_en_1.wav"]


@pytest.mark.parametrize("given", ["../other.wav", "wavs/../../other.wav", "/etc/passwd", "../en-other/x.wav"])
@pytest.mark.parametrize("field", [2, 4])
def test_a_path_that_leaves_the_root_is_refused(seed: Path, given: str, field: int) -> None:
    sound(seed.parent.parent / "other.wav")
    cells = SEED[1].split("|")
    cells[field] = given
    with pytest.raises(UserError, match=r"line 2: .* leaves the folder"):
        read_prompts(lines(seed, SEED[0], "|".join(cells)))


def test_a_path_that_only_wanders_and_a_link_to_elsewhere_are_followed(seed: Path, tmp_path: Path) -> None:
    sound(tmp_path / "disk" / "far.wav")
    (seed.parent / "linked").symlink_to(tmp_path / "disk")
    cells = SEED[1].split("|")
    found = read_prompts(lines(seed, "|".join([*cells[:2], "wavs/../linked/far.wav", *cells[3:]])))
    assert found[0].voice == seed.parent / "linked" / "far.wav"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a|b|c.wav"], "line 1: has 3 fields, not 4 or 5"), ([SEED[0], "a|b|c|d|e|f"], "line 2: has 6 fields"),
        (["a||prompt-wavs/voice_en_1.wav|Hello."], "line 1: a field is empty"),
        (["../a|b|prompt-wavs/voice_en_1.wav|Hello."], "line 1: the id '../a' cannot name a file"),
        ([SEED[0], SEED[0]], "line 2: the id 'voice_en_1-voice_en_2' comes twice"),
        (["a|b|prompt-wavs/gone.wav|Hello."], "line 1: no recording"),
        (["a|b|prompt-wavs/voice_en_1.wav|Hello.|wavs/gone.wav"], "line 1: no recording"),
        ([], "holds no prompt"), ([SEED[0], "a|b\rc|d|e"], "line 2: holds a lone carriage return"),
    ],
)  # fmt: skip
def test_wrong_lists_of_seed_tts_are_refused(seed: Path, rows: Sequence[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        seed_tts(lines(seed, *rows))
    assert str(caught.value).startswith(str(seed)) and said in str(caught.value)


# --- LibriSpeech-PC --------------------------------------------------------------------------------------------------

PC = (
    "4992-41806-0009\t4.355\texclaimed Bill Harmon to his wife.\t4992-23283-0000\t6.645\tBut the more forgetfulness had"
    " then prevailed, the more powerful was the force of remembrance.",
    '4992-23283-0001\t2.71\tMiss Milner\'s health is not good"!\t4992-23283-0003\t4.645\tSo there is to me"! added he.',
)


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech" / "test-clean"
    for name in ("41806/4992-41806-0009", "23283/4992-23283-0000", "23283/4992-23283-0001", "23283/4992-23283-0003"):
        sound(root / "4992" / f"{name}.flac")
    return root


def test_the_list_of_f5_is_read_with_its_windows_line_ends(tmp_path: Path, librispeech: Path) -> None:
    path = lines(tmp_path / "f5.lst", *PC, end="\r\n")
    chapter = librispeech / "4992" / "23283"
    first, second = read_prompts(path, root=librispeech)
    assert first.voice == librispeech / "4992" / "41806" / "4992-41806-0009.flac"
    assert (first.id, first.voice_text) == ("4992-23283-0000", "exclaimed Bill Harmon to his wife.")
    assert second == Asked(
        "4992-23283-0003", 'So there is to me"! added he.', chapter / "4992-23283-0001.flac",
        'Miss Milner\'s health is not good"!', chapter / "4992-23283-0003.flac", "4992", set="librispeech-pc",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a\tb\tc"], "line 1: has 3 fields, not 6"), ([f"{PC[0]}\tmore"], "line 1: has 7 fields, not 6"),
        ([PC[0].replace("6.645", " ")], "line 1: a field is empty"),
        ([PC[0], PC[1].replace("4992-23283-0003", "..-..-0003")], "line 2: '..-..-0003' is no utterance"),
        ([PC[0].replace("4992-41806-0009", "4992/41806-0009")], "line 1: '4992/41806-0009' is no utterance"),
        ([PC[0].replace("0009", "0008")], "line 1: no recording"), ([PC[1], PC[1]], "line 2: the id"),
    ],
)  # fmt: skip
def test_wrong_lists_of_librispeech_pc_are_refused(
    tmp_path: Path, librispeech: Path, rows: Sequence[str], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        librispeech_pc(lines(tmp_path / "f5.lst", *rows), librispeech)
    assert said in str(caught.value)


def test_librispeech_pc_needs_the_folder_of_its_recordings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--audio-root"):
        read_prompts(lines(tmp_path / "f5.lst", *PC))


# --- the protocol of VALL-E and Voicebox -----------------------------------------------------------------------------

# Utterances of two speakers in three chapters, with seconds.
SECONDS = {
    "61-1-0000": 3.99, "61-1-0001": 4.0, "61-1-0002": 10.0, "61-2-0000": 10.01, "61-2-0001": 2.99, "61-2-0002": 3.0,
    "72-1-0000": 5.0, "72-1-0001": 6.0,
}  # fmt: skip
TESTED = ["61-1-0001", "61-1-0002", "72-1-0000", "72-1-0001"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("test-clean")
    said: dict[Path, list[str]] = {}
    for id, seconds in SECONDS.items():
        speaker, chapter, _ = id.split("-")
        folder = root / speaker / chapter
        sound(folder / f"{id}.flac", seconds)
        said.setdefault(folder / f"{speaker}-{chapter}.trans.txt", []).append(
            f"{id} I SAID I'M {speaker} AND {chapter}"
        )
    for path, rows in said.items():
        lines(path, *rows)
    return root


def test_utterances_of_4_to_10_s_are_said_in_the_voice_of_3_s_of_another(corpus: Path) -> None:
    found = cross_sentence(corpus)
    assert [one.id for one in found] == TESTED
    for one in found:
        assert isinstance(one.voice, Path) and one.reference is not None
        assert one.reference.stem == one.id and one.voice.stem != one.id
        assert one.voice.stem.split("-")[0] == one.speaker == one.id.split("-")[0]
        assert SECONDS[one.voice.stem] >= 3.0
        assert one.voice_span == (0.0, 3.0) and one.voice_text is None
        speaker, chapter, _ = one.voice.stem.split("-")
        assert one.whole_text == f"I said I'm {speaker} and {chapter}"
    # With two utterances there is no choice.
    assert [one.voice.stem for one in found[2:] if isinstance(one.voice, Path)] == ["72-1-0001", "72-1-0000"]


def test_a_seed_decides_the_prompts_and_a_count_does_not(corpus: Path) -> None:
    assert cross_sentence(corpus, 5) == cross_sentence(corpus, 5)
    assert cross_sentence(corpus, 5, count=2) == cross_sentence(corpus, 5)[:2]
    assert read_prompts(corpus, format="voicebox") == cross_sentence(corpus, 0)
    drawn = {one.voice for seed in range(40) for one in cross_sentence(corpus, seed, count=1)}
    # All others of at least 3 s, in either chapter, and none else.
    assert {path.stem for path in drawn if isinstance(path, Path)} == {
        "61-1-0000", "61-1-0002", "61-2-0000", "61-2-0002"
    }  # fmt: skip


def test_the_draw_is_the_one_that_is_documented(corpus: Path) -> None:
    others = ["61-1-0000", "61-1-0002", "61-2-0000", "61-2-0002"]
    wanted = random.Random("7 61-1-0001").choice(others)
    (one,) = cross_sentence(corpus, 7, count=1)
    assert isinstance(one.voice, Path) and one.voice.stem == wanted


def test_a_continuation_begins_with_the_utterances_own_first_3_s(corpus: Path) -> None:
    found = read_prompts(corpus, format="voicebox-continuation")
    assert [one.id for one in found] == TESTED
    assert all(one.voice == one.reference and one.voice_span == (0.0, 3.0) for one in found)
    assert all(one.whole_text == one.text and one.set == "voicebox-continuation" for one in found)
    assert continuation(corpus, 3) == found[:3]


def test_wrong_folders_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "test-clean"
    transcript = root / "61" / "1" / "61-1.trans.txt"
    with pytest.raises(UserError, match="no folder"):
        cross_sentence(root)
    root.mkdir()
    with pytest.raises(UserError, match=r"has no SPEAKER/CHAPTER"):
        cross_sentence(root)
    lines(transcript, "61-1-0000 HELLO")
    with pytest.raises(UserError, match=r"61-1\.trans\.txt line 1: no recording"):
        cross_sentence(root)
    sound(transcript.with_name("61-1-0000.flac"), 2.0)
    with pytest.raises(UserError, match="no utterance of 4 to 10 s"):
        cross_sentence(root)
    sound(transcript.with_name("61-1-0000.flac"), 5.0)
    with pytest.raises(UserError, match="speaker 61 has no other recording"):
        cross_sentence(root)
    assert len(continuation(root)) == 1
    with pytest.raises(UserError, match="holds 1 prompts, not 2"):
        continuation(root, 2)
    with pytest.raises(UserError, match="leave --audio-root out"):
        read_prompts(root, format="voicebox", root=tmp_path)
    for row in ("61-1-0001", "hello there"):
        lines(transcript, "61-1-0000 HELLO", row)
        with pytest.raises(UserError, match="line 2: should hold an utterance and its words"):
            continuation(root)


# --- formats ---------------------------------------------------------------------------------------------------------


def test_formats_are_told_by_what_a_file_holds_and_only_where_that_is_clear(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    for rows, wanted in (
        (["id\ttext", "a\tb|c|d|e"], "tsv"), (SEED, "seed-tts"), (PC, "librispeech-pc"), ([], "tsv"),
        # A published list with a wrong line: the reader of tables says what is missing.
        ((PC[0], "4992-1-1\t2.0\tx"), "tsv"),
    ):  # fmt: skip
        assert guess(lines(path, *rows)) == wanted
    for rows in (["a|b|c"], [SEED[0], "a|b"], ["Hello there."]):
        with pytest.raises(UserError, match="--format"):
            guess(lines(path, *rows))
    with pytest.raises(UserError, match="--format voicebox or voicebox-continuation"):
        guess(tmp_path)


# --- words of a part -------------------------------------------------------------------------------------------------


def test_the_words_of_a_part_are_found_by_alignment() -> None:
    recording = shipped()["slt"]
    text = recording.with_suffix(".txt").read_text(encoding="utf-8").strip()
    words = text.replace(",", "").rstrip(".").split()
    first = said_within(recording, text, (0.0, 3.0)).split()
    assert first == words[: len(first)] and 8 <= len(first) <= 12
    assert said_within(recording, text, (3.0, 100.0)).split() == words[len(first) :]


def test_a_text_that_a_recording_does_not_say_is_refused() -> None:
    with pytest.raises(UserError):
        said_within(shipped()["awb"], "Something else entirely is said about purple elephants in here.", (0.0, 3.0))
