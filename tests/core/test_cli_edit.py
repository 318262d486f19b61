"""The verbs that change recordings: what they ask of the pipeline, write and show. The pipeline is a stand-in here."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from flowtts import cli
from flowtts.alignment import read_textgrid
from flowtts.alignment.writers import write_words
from flowtts.types import PathLike, Word

SAID, WANTED = "The old cat sat.", "The young, sly cat sat."


@dataclass(frozen=True)
class Made:
    """Stands in for ``Edited`` and ``Speech``: one second of speech of two words."""

    seed: int = 7
    seconds: float = 1.0
    normalised: str = '"Sly," cat.'
    words: tuple[Word, ...] = (Word("Sly", 0.1, 0.4, 0.5), Word("cat", 0.5, 0.8))
    phones: tuple[dict[str, Any], ...] = (
        {"phone": "SIL", "word": None, "start": 0.0, "end": 0.1},
        {"phone": "S_B", "word": 0, "start": 0.1, "end": 0.4},
        {"phone": "K_B", "word": 1, "start": 0.5, "end": 0.8},
    )

    def info(self, audio: PathLike | None = None) -> dict[str, Any]:
        span = {
            "removed": "old", "inserted": "young, sly", "start": 0.31, "end": 0.62, "start_out": 0.31, "end_out": 0.95,
            "confidence": 0.5,
        }  # fmt: skip
        candidates = [{"seed": 7, "scores": {"wer": 0.0}}, {"seed": 8, "scores": {"wer": 0.5}}]
        return {
            "audio": None if audio is None else str(audio), "seconds": self.seconds, "normalised": self.normalised,
            "spans": [span], "candidates": candidates,
        }  # fmt: skip

    def save(self, path: PathLike, sidecar: bool = True) -> Path:
        soundfile.write(path, np.zeros(16_000), 16_000)
        if sidecar:
            Path(path).with_suffix(".json").write_text(json.dumps(self.info(path)), encoding="utf-8")
        return Path(path)


class Pipeline:
    """Records what it is asked for."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str | bool, ...]] = []
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def load(self, model: str, vocoder: str, device: str, engine: str, tag: bool) -> Pipeline:
        self.loaded.append((model, vocoder, device, engine, tag))
        return self

    def _made(self, verb: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Made:
        options.pop("progress")(1, 2)
        self.asked.append((verb, arguments, options))
        return Made()

    def edit(self, *arguments: Any, **options: Any) -> Made:
        return self._made("edit", arguments, options)

    def fill(self, *arguments: Any, **options: Any) -> Made:
        return self._made("fill", arguments, options)

    def denoise(self, *arguments: Any, **options: Any) -> Made:
        return self._made("denoise", arguments, options)

    def restyle(self, *arguments: Any, **options: Any) -> Made:
        return self._made("restyle", arguments, options)

    def continue_(self, *arguments: Any, **options: Any) -> Made:
        return self._made("continue_", arguments, options)

    def sample(self, *arguments: Any, **options: Any) -> list[Made]:
        self._made("sample", arguments, options)
        return [Made(seed) for seed in range(arguments[1])]


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A stand-in, in an empty folder with a recording ``in.wav`` and a style ``ref.wav``."""
    monkeypatch.chdir(tmp_path)
    for name in ("in.wav", "ref.wav"):
        soundfile.write(name, np.zeros(1600), 16_000)
    made = Pipeline()
    monkeypatch.setattr("flowtts.pipeline.load", made.load)
    return made


def names() -> list[str]:
    """What a verb added to the folder."""
    return sorted(path.as_posix() for path in Path().rglob("*") if path.name not in ("in.wav", "ref.wav"))


VERBS: list[tuple[str, tuple[str, ...], tuple[Any, ...], dict[str, Any], str]] = [
    ("edit", ("--to", WANTED), (SAID, WANTED), {}, "edited"),
    ("fill", ("--span", "0.01:0.05", "--span", "1:2"), (SAID, [(0.01, 0.05), (1.0, 2.0)]), {}, "filled"),
    ("denoise", (), (SAID, None), {}, "denoised"),
    ("denoise", ("--span", "0:1e-1"), (SAID, [(0.0, 0.1)]), {}, "denoised"),
    (
        "restyle",
        ("--style", "ref.wav"),
        (SAID, "ref.wav", None),
        {"timing": "kept", "accent": None, "accent_text": None},
        "restyled",
    ),
    (
        "restyle",
        ("--style", "slt", "--style-text", "Hi.", "--timing", "style", "--accent", "ref.wav", "--accent-text", "Hm."),
        (SAID, "slt", "Hi."),
        {"timing": "style", "accent": "ref.wav", "accent_text": "Hm."},
        "restyled",
    ),
    ("continue", ("--then", "And slept."), (SAID, "And slept."), {}, "continued"),
]


@pytest.mark.parametrize(
    ("verb", "words", "asked", "options", "done"), VERBS, ids=[" ".join(v[:1] + v[1]) for v in VERBS]
)
def test_each_verb_asks_its_method_and_names_its_output(
    pipeline: Pipeline, verb: str, words: Sequence[str], asked: tuple[Any, ...], options: dict[str, Any], done: str
) -> None:
    assert cli.main([verb, "in.wav", "--text", SAID, *words]) == 0
    assert pipeline.loaded == [("voicebox", "auto", "auto", "auto", True)]
    method = "continue_" if verb == "continue" else verb
    assert pipeline.asked == [(method, (Path("in.wav"), *asked), {"seed": 0, "best_of": 1, "rank": "wer", **options})]
    assert names() == [f"in.{done}.json", f"in.{done}.wav"]


@pytest.mark.parametrize("verb", ["edit", "fill", "denoise", "restyle", "continue"])
def test_common_options_reach_the_pipeline(pipeline: Pipeline, verb: str) -> None:
    Path("own.txt").write_text("cat K AE1 T\n", encoding="utf-8")
    own = {
        "edit": ("--to", WANTED), "fill": ("--span", "0:1"), "restyle": ("--style", "ref.wav"),
        "continue": ("--then", "And slept."),
    }.get(verb, ())  # fmt: skip
    common = (
        "--model", "M", "--vocoder", "V", "--device", "cpu", "--seed", "5", "--steps", "4", "--solver", "heun",
        "--grid", "sway", "--guidance", "2", "--best-of", "3", "--rank", "boundary", "--lexicon", "own.txt",
        "--engine", "int8", "--no-tag", "--no-sidecar", "-o", "new/a.flac",
    )  # fmt: skip
    assert cli.main([verb, "in.wav", "--text", SAID, *own, *common]) == 0
    assert pipeline.loaded == [("M", "V", "cpu", "int8", False)]
    options = pipeline.asked[0][2]
    wanted = {
        "seed": 5, "steps": 4, "solver": "heun", "grid": "sway", "guidance": "2", "best_of": 3, "rank": "boundary",
        "lexicon": Path("own.txt"),
    }  # fmt: skip
    assert {name: options[name] for name in wanted} == wanted
    assert names() == ["new", "new/a.flac", "own.txt"]


def test_json_is_one_object_with_all_candidates(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["edit", "in.wav", "--text", SAID, "--to", WANTED, "-o", "a.wav", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    assert json.loads(out) == Made().info("a.wav")


def test_a_person_sees_the_spans_and_the_name(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["edit", "in.wav", "--text", SAID, "--to", WANTED, "-o", "a.wav"]) == 0
    out, err = capsys.readouterr()
    row = next(line for line in out.splitlines() if line.startswith("old"))
    assert re.split(r"\s{2,}", row) == ["old", "young, sly", "0.31 – 0.62", "0.31 – 0.95", "0.50"]
    assert err == "a.wav: 1.00 s\n"


def test_a_lossy_output_is_called_so_and_never_chosen(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.wav").rename("in.mp3")
    assert cli.main(["edit", "in.mp3", "--text", SAID, "--to", WANTED]) == 0
    assert names() == ["in.edited.json", "in.edited.wav", "in.mp3"]
    capsys.readouterr()
    assert cli.main(["edit", "in.mp3", "--text", SAID, "--to", WANTED, "-o", "a.mp3"]) == 0
    assert "lossy" in capsys.readouterr().err


def test_long_texts_come_from_files_and_standard_input(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("said.txt").write_text("\ufeffThe old cat sat.\n", encoding="utf-8")
    Path("wanted.txt").write_text(WANTED + "\n", encoding="utf-8")
    assert cli.main(["edit", "in.wav", "--text-file", "said.txt", "--to-file", "wanted.txt"]) == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(WANTED.encode())))
    assert cli.main(["edit", "in.wav", "--text-file", "said.txt", "--to", "-"]) == 0
    assert [arguments[1:] for _, arguments, _ in pipeline.asked] == [(SAID, WANTED)] * 2


def test_sample_numbers_recordings_and_words(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("sample", "Hi.", "-n", "2", "-o", "out", "--durations", "flow", "--seed", "3", "--words", "subs/w.srt")
    assert cli.main([*words, "--json"]) == 0
    assert pipeline.asked == [("sample", ("Hi.", 2), {"durations": "flow", "seed": 3})]
    out = capsys.readouterr().out
    assert [json.loads(line)["audio"] for line in out.splitlines()] == ["out/0001.wav", "out/0002.wav"]
    assert names() == [
        "out", "out/0001.json", "out/0001.wav", "out/0002.json", "out/0002.wav",
        "subs", "subs/w.0001.srt", "subs/w.0002.srt",
    ]  # fmt: skip


# --- word times ------------------------------------------------------------------------------------------------------


def test_words_as_subtitles_have_the_texts_punctuation(pipeline: Pipeline) -> None:
    common = ("edit", "in.wav", "--text", SAID, "--to", WANTED)
    assert cli.main([*common, "--words", "w.srt"]) == 0
    assert Path("w.srt").read_text(encoding="utf-8") == '1\n00:00:00,100 --> 00:00:01,000\n"Sly," cat.\n'
    assert cli.main([*common, "--words", "w.vtt"]) == 0
    assert Path("w.vtt").read_text(encoding="utf-8") == 'WEBVTT\n\n00:00:00.100 --> 00:00:01.000\n"Sly," cat.\n'


def test_words_as_json_and_textgrid_leave_no_time_out(pipeline: Pipeline) -> None:
    common = ("edit", "in.wav", "--text", SAID, "--to", WANTED)
    assert cli.main([*common, "--words", "w.TextGrid"]) == 0
    grid = read_textgrid("w.TextGrid")
    words, phones = grid.tier("words"), grid.tier("phones")
    assert words is not None and phones is not None
    assert [(i.start, i.end, i.text) for i in words.intervals] == [
        (0.0, 0.1, ""), (0.1, 0.4, "Sly"), (0.4, 0.5, ""), (0.5, 0.8, "cat"), (0.8, 1.0, ""),
    ]  # fmt: skip
    assert [(i.start, i.text) for i in phones.intervals] == [(0, ""), (0.1, "S_B"), (0.4, ""), (0.5, "K_B"), (0.8, "")]
    assert cli.main([*common, "--words", "w.json"]) == 0
    found = json.loads(Path("w.json").read_text(encoding="utf-8"))
    assert found["words"][0] == {"text": "Sly", "start": 0.1, "end": 0.4, "confidence": 0.5}
    assert [(p["text"], p["word"], p["start"], p["end"]) for p in found["phones"]] == [
        ("SIL", -1, 0.0, 0.1), ("S_B", 0, 0.1, 0.4), ("SIL", -1, 0.4, 0.5), ("K_B", 1, 0.5, 0.8), ("SIL", -1, 0.8, 1.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("normalised", "words", "shown"),
    [
        ("Oh – well, (the) end!", ("Oh", "well", "the", "end"), "Oh – well, (the) end!"),
        # A text that lacks a word: it is shown bare, and those after it are still found.
        ("One, three.", ("One", "two", "three"), "One, two three."),
        # "the" must not be found inside "then".
        ("then the cat.", ("the", "cat"), "the cat."),
        # Of a long recording only some stretches have their words: those found again behind a gap get their marks.
        ("One. " + "Then the cat. " * 20 + "The dog, who barked!", ("One", "The", "dog", "who"), "One. The dog, who"),
    ],
)
def test_words_take_their_marks_from_the_text(
    tmp_path: Path, normalised: str, words: Sequence[str], shown: str
) -> None:
    times = [Word(text, 0.25 * i, 0.25 * (i + 1)) for i, text in enumerate(words)]
    write_words(tmp_path / "a.vtt", times, [], normalised, 2.0)
    blocks = (tmp_path / "a.vtt").read_text(encoding="utf-8").split("\n\n")[1:]
    assert " ".join(line for block in blocks for line in block.splitlines()[1:]) == shown


@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".json", ".TextGrid"])
def test_speech_without_words_gives_an_empty_file_of_its_kind(tmp_path: Path, suffix: str) -> None:
    write_words(tmp_path / f"a{suffix}", [], [], "", 1.0)
    assert (tmp_path / f"a{suffix}").exists()


@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".json", ".TextGrid"])
def test_say_writes_its_words_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["say", "She kept letters, too.", "--voice", "slt", "--steps", "1", "--solver", "euler", "--no-sidecar"]
    assert cli.main([*words, "--words", f"w{suffix}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in Path().iterdir()) == ["out.wav", f"w{suffix}"]
    text = Path(f"w{suffix}").read_text(encoding="utf-8")
    if suffix == ".json":
        times = [{key: word[key] for key in ("text", "start", "end")} for word in json.loads(text)["words"]]
        assert times == found["words"]
    elif suffix == ".TextGrid":
        tier = read_textgrid(f"w{suffix}").tier("words")
        assert tier is not None
        assert [(i.text, i.start, i.end) for i in tier.intervals if i.text] == [
            (word["text"], word["start"], word["end"]) for word in found["words"]
        ]
    else:
        assert "She kept letters, too." in text


def test_lines_have_their_words_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("Good morning.\n\nGood night.\n", encoding="utf-8")
    words = ["say", "--lines", "lines.txt", "-o", "out", "--voice", "slt", "--steps", "1", "--solver", "euler"]
    assert cli.main([*words, "--no-sidecar", "--words", "out/w.srt"]) == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["0001.wav", "0003.wav", "w.0001.srt", "w.0003.srt"]
    assert "Good night." in Path("out/w.0003.srt").read_text(encoding="utf-8")


# --- mistakes that the command line alone can see --------------------------------------------------------------------


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("edit", "gone.wav", "--text", "a", "--to", "b"), "gone.wav"),
    (("edit", "folder", "--text", "a", "--to", "b"), "folder"),
    (("edit", "in.wav", "--to", "b"), "--text-file"),
    (("edit", "in.wav", "--text", "a"), "--to-file"),
    (("edit", "in.wav", "--text", " ", "--to", "b"), "--text is empty"),
    (("edit", "in.wav", "--text", "a", "--to", ""), "--to is empty"),
    (("edit", "in.wav", "--text", "-", "--to", "-"), "only once"),
    (("edit", "in.wav", "--text", "a", "--text-file", "said.txt", "--to", "b"), "not both"),
    (("edit", "in.wav", "--text-file", "gone.txt", "--to", "b"), "gone.txt: no such text file"),
    (("edit", "in.wav", "--text-file", "blank.txt", "--to", "b"), "blank.txt"),
    (("edit", "in.wav", "--text-file", "latin.txt", "--to", "b"), "UTF-8"),
    (("edit", "in.wav", "--text", "a", "--to-file", "folder"), "folder"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "-o", "in.wav"), "overwrite the input"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "-o", "link.wav"), "overwrite the input"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "-o", "a.doc"), ".doc"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "-o", "folder"), "folder"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "-o", "said.txt/a.wav"), "said.txt"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "-o", "taken.wav"), "--no-sidecar"),
    (("edit", "in.wav", "--text-file", "in.edited.json", "--to", "b"), "overwrite the input"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "--words", "w.doc"), ".doc"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "--words", "in.edited.json"), "--words"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "--lexicon", "w.json", "--words", "w.json"), "--words"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "--lexicon", "gone.txt"), "gone.txt: no such lexicon"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "--rank", "beauty"), "boundary"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "--best-of", "0"), "--best-of"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "--steps", "0"), "--steps"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "--guidance", "nan"), "--guidance"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "--guidance", "2,star=1"), "write star"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "--seed", "-1"), "--seed"),
    (("edit", "in.wav", "--text", "a", "--to", "b", "--sped", "2"), "--sped"),
    (("fill", "in.wav", "--text", "a"), "--span START:END"),
    (("fill", "in.wav", "--text", "a", "--span", "1"), "START:END"),
    (("fill", "in.wav", "--text", "a", "--span", "1:2:3"), "START:END"),
    (("fill", "in.wav", "--text", "a", "--span", "one:two"), "START:END"),
    (("fill", "in.wav", "--text", "a", "--span", ":"), "START:END"),
    (("fill", "in.wav", "--text", "a", "--span", "0:nan"), "START:END"),
    (("fill", "in.wav", "--text", "a", "--span", "0:inf"), "START:END"),
    (("fill", "in.wav", "--text", "a", "--span", "2:1"), "ends before it begins"),
    (("fill", "in.wav", "--text", "a", "--span", "1:1"), "ends before it begins"),
    (("fill", "in.wav", "--text", "a", "--span", "-1:1"), "begins before the recording"),
    (("fill", "in.wav", "--text", "a", "--span", "0:1", "--span", "x"), "'x'"),
    (("denoise", "in.wav", "--text", "a", "--span", "2:1"), "ends before it begins"),
    (("denoise", "in.wav"), "--text"),
    (("restyle", "in.wav", "--text", "a"), "--style"),
    (("restyle", "in.wav", "--text", "a", "--style", "folder"), "folder"),
    (("restyle", "in.wav", "--text", "a", "--style", "ref.wav", "-o", "ref.wav"), "overwrite the input"),
    (("restyle", "in.wav", "--text", "a", "--style", "ref.wav", "--style-text", " "), "--style-text is empty"),
    (("restyle", "in.wav", "--text", "-", "--style", "ref.wav", "--style-text", "-"), "only once"),
    (("restyle", "in.wav", "--text", "a", "--style", "ref.wav", "--timing", "early"), "predicted"),
    (("restyle", "in.wav", "--text", "a", "--style", "ref.wav", "--accent", "folder"), "--accent"),
    (("restyle", "in.wav", "--text", "a", "--style", "ref.wav", "--accent-text", "b"), "--accent"),
    (("continue", "in.wav", "--text", "a"), "--then"),
    (("continue", "in.wav", "--text", "a", "--then", ""), "--then is empty"),
    (("continue", "in.wav", "--text", "-", "--then", "-"), "only once"),
    (("continue", "gone.wav", "--text", "a", "--then", "b"), "gone.wav"),
    (("sample", "hello", "-n", "2"), "-o"),
    (("sample", "hello", "-o", "new"), "-n"),
    (("sample", "hello", "-n", "0", "-o", "new"), "-n"),
    (("sample", "hello", "-n", "two", "-o", "new"), "-n"),
    (("sample", "", "-n", "2", "-o", "new"), "TEXT is empty"),
    (("sample", "hello", "-n", "2", "-o", "said.txt"), "said.txt"),
    (("sample", "hello", "-n", "2", "-o", "new", "--durations", "long"), "regression"),
    (("sample", "hello", "-n", "2", "-o", "new", "--words", "w.doc"), ".doc"),
    (("replay", "edit.json", "-o", "in.wav"), "overwrite the input"),
    (("replay", "edit.json", "-o", "edit.wav"), "compare"),
    (("replay", "w.json"), "w.json"),
    (("say", "hello", "--words", "w.doc"), ".doc"),
    (("say", "hello", "--words", "out.json"), "sidecar"),
    (("say", "hello", "--words", "w.srt", "--dry-run"), "--dry-run"),
    (("say", "hello", "--rank", "loudest"), "wer"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_line_before_anything_is_loaded(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    files = {"said.txt": b"a", "blank.txt": b" \n", "latin.txt": b"caf\xe9", "in.edited.json": b"a", "w.json": b"a A"}
    files["edit.json"] = b'{"audio": "edit.wav", "recording": {"name": "in.wav", "hash": "0"}}'
    files["edit.wav"] = Path("ref.wav").read_bytes()
    for name, content in files.items():
        Path(name).write_bytes(content)
    Path("folder").mkdir()
    Path("taken.json").mkdir()
    Path("link.wav").symlink_to("in.wav")
    before = contents()
    status = cli.main(words)
    out, err = capsys.readouterr()
    assert (status, out) == (2, ""), err
    assert err.startswith("flowtts: ") and err.endswith("\n") and err.count("\n") == 1
    assert said in err
    assert pipeline.loaded == [] and contents() == before


def contents() -> dict[str, bytes]:
    """Everything in the folder."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in Path().rglob("*")}


@pytest.mark.parametrize("verb", ["edit", "sample"])
def test_help_needs_no_torch(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    assert "--json" in capsys.readouterr().out
