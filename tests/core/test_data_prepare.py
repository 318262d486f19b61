"""Corpora to manifests: every kind of broken row, interruption, alignments from elsewhere."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from flowtts.alignment import Alignment, PhoneTime, PocketsphinxAligner
from flowtts.alignment.base import gather_words
from flowtts.alignment.textgrid import Interval, TextGrid, Tier, write_textgrid
from flowtts.data import prepare
from flowtts.data.manifest import Timed, read_cuts
from flowtts.text import Analysis
from flowtts.types import Audio, UserError

pytest.importorskip("lhotse")

ASSETS = Path(__file__).parents[1] / "assets"
SPOKEN = json.loads((ASSETS / "spoken.json").read_text())


@dataclass
class EvenAligner:
    """Gives all phones the same time; counts what it was asked to do in a file, across processes."""

    log: str
    deficit: float = 1.0
    name: str = "even"
    broken: list[str] = field(default_factory=list)

    def align(self, audio: Audio, analysis: Analysis) -> Alignment:
        with open(self.log, "a") as file:
            file.write(analysis.source + "\n")
        if "explode" in analysis.source:
            raise ZeroDivisionError("a bug")
        step = audio.seconds / len(analysis.phones)
        phones = [PhoneTime(p.symbol, p.word, i * step, (i + 1) * step) for i, p in enumerate(analysis.phones)]
        deficit = 9.0 if "liar" in analysis.source else self.deficit
        words, losses = gather_words(analysis, phones, [deficit] * len(phones), lambda d: 0.5)
        return Alignment(words, tuple(phones), losses, limit=5.0, slope=2.0)


@pytest.fixture
def aligner(tmp_path: Path) -> EvenAligner:
    return EvenAligner(str(tmp_path / "aligned.log"))


def sound(path: Path, seconds: float = 1.0, rate: int = 8000, channels: int = 1) -> None:
    shape = (round(seconds * rate), channels)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(shape).astype(np.float32), rate)


def table(folder: Path, *rows: str, header: str = "audio\ttext\tspeaker") -> Path:
    (folder / "t.tsv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / "t.tsv"


def rejected(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "row\treason"
    return dict(line.split("\t") for line in lines[1:])


def phones_of(cut: Timed) -> tuple[PhoneTime, ...]:
    made = cut.alignment()
    assert made is not None
    return made.phones


def test_every_kind_of_bad_row_is_reported_and_none_stops_the_run(tmp_path: Path, aligner: EvenAligner) -> None:
    sound(tmp_path / "good.wav")
    sound(tmp_path / "blink.wav", 0.1)
    sound(tmp_path / "epic.wav", 4.0)
    sound(tmp_path / "cut.flac")
    whole = (tmp_path / "cut.flac").read_bytes()
    soundfile.write(tmp_path / "mute.wav", np.zeros(8000, np.float32), 8000)
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    nan = np.full(8000, np.nan, np.float32)
    soundfile.write(tmp_path / "nan.wav", nan, 8000, subtype="FLOAT")
    names = ["good", "blink", "epic", "mute", "text", "missing", "nan"]
    rows = [f"{n}.wav\tHello there.\tann" for n in names]
    rows += ["cut.flac\tHello there.\tann", "good.wav\tAgain.\tann", "a\tb", "sub.wav\t\tann"]
    sound(tmp_path / "sub.wav")
    for name, text in (("liar", "I am a liar."), ("bomb", "Things explode."), ("dots", "…")):
        sound(tmp_path / f"{name}.wav")
        rows.append(f"{name}.wav\t{text}\tann")
    report = prepare("table", table(tmp_path, *rows), tmp_path / "out", aligner=aligner, max_seconds=3.0)
    reasons = rejected(report.rejections)
    assert {n: r.split(str(tmp_path))[-1] for n, r in reasons.items()} == {
        "blink": "0.10 s is shorter than 0.4 s",
        "epic": "4.00 s is longer than 3 s",
        "mute": "/mute.wav: is silent there",
        "text": reasons["text"].split(str(tmp_path))[-1],
        "missing": "/missing.wav: no such file",
        "nan": "/nan.wav: holds NaN or infinite samples",
        "cut": reasons["cut"].split(str(tmp_path))[-1],
        "good": "another row has the same id",
        "t.tsv:11": "2 fields instead of 3",
        "sub": "no transcript",
        "liar": "the transcript does not fit the recording: confidence 0.00",
        "bomb": "ZeroDivisionError: a bug",
        "dots": reasons["dots"],
    }
    assert "cannot be read as sound" in reasons["text"] and "cut.flac" in reasons["cut"]
    assert "nothing to say" in reasons["dots"]
    assert (report.accepted, report.rejected, report.seconds) == (1, 13, pytest.approx(1.0))
    assert report.faults == {"duration": 2, "audio": 5, "row": 2, "text": 2, "match": 1, "error": 1}
    assert [c.id for c in read_cuts(report.cuts)] == ["good"]


def test_manifests_are_valid_and_hold_the_alignment(tmp_path: Path, aligner: EvenAligner) -> None:
    import lhotse

    sound(tmp_path / "long.wav", 3.0, channels=2)
    source = table(tmp_path, "long.wav\tHi, 2 cats!\tann\t1.0\t2.5", "long.wav\tNo.\tbob\t\t",
                   header="audio\ttext\tspeaker\tstart\tend")  # fmt: skip
    report = prepare("table", source, tmp_path / "out", aligner=aligner)
    cuts = lhotse.CutSet.from_file(report.cuts)
    recordings = lhotse.RecordingSet.from_file(tmp_path / "out" / "recordings.jsonl.gz")
    supervisions = lhotse.SupervisionSet.from_file(tmp_path / "out" / "supervisions.jsonl.gz")
    lhotse.validate(cuts)
    lhotse.qa.validate_recordings_and_supervisions(recordings, supervisions)
    assert len(recordings) == 1 and len(supervisions) == len(cuts) == 2
    cut = next(iter(cuts))
    assert (cut.id, cut.start, cut.duration, cut.load_audio().shape) == ("long@1", 1.0, 1.5, (2, 12_000))
    said = cut.supervisions[0]
    assert (said.speaker, said.text, said.normalised) == ("ann", "Hi, 2 cats!", "Hi, two cats!")
    phones = said.alignment["phone"]
    assert phones[0].symbol == "SIL" and phones[-1].symbol == "SIL!"
    assert phones[0].start == 1.0 and phones[-1].end == pytest.approx(2.5, abs=1e-4), "from the recording's start"
    assert [w.symbol for w in said.alignment["word"]] == ["Hi", "two", "cats"]
    apart = next(s for s in supervisions if s.id == "long@1")
    assert apart.start == 1.0 and apart.alignment["phone"] == phones
    timed = phones_of(next(read_cuts(report.cuts)))
    assert timed[0].start == 0 and timed[-1].end == pytest.approx(1.5), "from the cut's"
    assert timed[1].start == pytest.approx(phones[1].start - 1.0)


def test_a_rerun_does_only_what_is_left(tmp_path: Path, aligner: EvenAligner) -> None:
    rows = []
    for n in range(5):
        sound(tmp_path / f"{n}.wav")
        rows.append(f"{n}.wav\tSay word number {n}.\tann")
    rows[3] = "missing.wav\tNo.\tann"
    source = table(tmp_path, *rows)
    first = prepare("table", source, tmp_path / "out", aligner=aligner)
    log = Path(aligner.log)
    assert (first.accepted, first.resumed, len(log.read_text().splitlines())) == (4, 0, 4)
    before = (tmp_path / "out" / "cuts.jsonl.gz").read_bytes()
    again = prepare("table", source, tmp_path / "out", aligner=aligner)
    assert (again.accepted, again.resumed, again.rejected) == (4, 4, 1)
    assert len(log.read_text().splitlines()) == 4, "nothing was aligned again"

    # One row corrected, the missing recording found, the journal cut in the middle of its last line.
    sound(tmp_path / "missing.wav")
    source = table(tmp_path, *([*rows[:2], "2.wav\tSay something else.\tann", *rows[3:]]))
    journal = tmp_path / "out" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().rstrip(b"\n")[:-9])
    third = prepare("table", source, tmp_path / "out", aligner=aligner)
    assert (third.accepted, third.resumed, third.rejected) == (5, 3, 0)
    assert log.read_text().splitlines()[4:] == ["Say something else.", "No."]
    assert [c.id for c in read_cuts(third.cuts)] == ["0", "1", "2", "missing", "4"]
    assert (tmp_path / "out" / "cuts.jsonl.gz").read_bytes() != before
    assert not [p for p in os.listdir(tmp_path / "out") if "part" in p]


def test_other_options_need_another_folder(tmp_path: Path, aligner: EvenAligner) -> None:
    sound(tmp_path / "a.wav")
    source = table(tmp_path, "a.wav\tYes.\tann")
    prepare("table", source, tmp_path / "out", aligner=aligner)
    with pytest.raises(UserError, match=r"begun with min_confidence=0\.5, now it is 0\.9"):
        prepare("table", source, tmp_path / "out", aligner=aligner, min_confidence=0.9)
    (tmp_path / "out" / "journal.jsonl").write_text('{"format": 99}\n')
    with pytest.raises(UserError, match="not a journal of this version"):
        prepare("table", source, tmp_path / "out", aligner=aligner)


def test_nothing_usable_and_wrong_requests(tmp_path: Path, aligner: EvenAligner) -> None:
    source = table(tmp_path, "none.wav\tYes.\tann")
    with pytest.raises(UserError, match=r"no usable row; .*rejected\.tsv says why"):
        prepare("table", source, tmp_path / "out", aligner=aligner)
    assert "no such file" in rejected(tmp_path / "out" / "rejected.tsv")["none"]
    for problem, more in (
        ("jobs must be at least 1", {"jobs": 0}),
        ("must be below max_seconds", {"min_seconds": 9.0, "max_seconds": 2.0}),
        ("between 0 and 1", {"min_confidence": 2.0}),
        ("no such folder of TextGrids", {"textgrids": tmp_path / "none"}),
    ):
        with pytest.raises(UserError, match=problem):
            prepare("table", source, tmp_path / "other", aligner=aligner, **more)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no model or folder"):
        prepare("table", source, tmp_path / "other", aligner="kaldi")


def test_worker_processes_give_the_same(tmp_path: Path) -> None:
    aligner = PocketsphinxAligner()
    soundfile.write(tmp_path / "b.wav", *soundfile.read(ASSETS / "spoken.flac"))
    rows = [f"{ASSETS / 'spoken.flac'}\t{SPOKEN['text']}\trms", f"b.wav\t{SPOKEN['text']}\trms", "c.wav\tNo.\trms"]
    source = table(tmp_path, *rows)
    one = prepare("table", source, tmp_path / "one", aligner=aligner, jobs=1)
    two = prepare("table", source, tmp_path / "two", jobs=2)
    assert (one.accepted, one.faults) == (two.accepted, two.faults) == (2, {"audio": 1})
    for a, b in zip(read_cuts(one.cuts), read_cuts(two.cuts), strict=True):
        assert (a.id, a.speaker, a.symbols) == (b.id, b.speaker, b.symbols) and np.array_equal(a.ends, b.ends)


def test_sound_alone(tmp_path: Path, aligner: EvenAligner) -> None:
    (tmp_path / "src" / "ann").mkdir(parents=True)
    sound(tmp_path / "src" / "ann" / "1.wav")
    report = prepare("folder", tmp_path / "src", tmp_path / "out", aligner=aligner)
    cut = next(read_cuts(report.cuts))
    assert (cut.id, cut.speaker, cut.symbols, cut.alignment()) == ("ann/1", "ann", (), None)
    assert not Path(aligner.log).exists()


def test_engine_labels_are_taken_as_they_are(tmp_path: Path) -> None:
    row = {**SPOKEN, "id": "a", "audio": str(ASSETS / "spoken.flac")}
    (tmp_path / "rms.jsonl").write_text(
        json.dumps(row) + "\n" + json.dumps({**row, "id": "b", "text": "Not at all."}) + "\n"
    )
    report = prepare("engine", tmp_path, tmp_path / "out")
    assert rejected(report.rejections) == {
        "rms/b": "the labelled phones do not fit the text; give the words that were said"
    }
    cut = next(read_cuts(report.cuts))
    phones = phones_of(cut)
    spoken = [(p.start, p.end) for p in phones if not p.symbol.startswith("SIL")]
    truth = [(a, b) for label, a, b in SPOKEN["phones"] if label != "pau"]
    assert np.allclose(spoken, truth, atol=1e-4)
    assert [p.symbol for p in phones[:4]] == ["SIL", "DH_B", "IY0_E", "SIL"]


def test_textgrids_are_imported(tmp_path: Path, aligner: EvenAligner) -> None:
    sound(tmp_path / "a.wav")
    sound(tmp_path / "b.wav")
    (tmp_path / "grids" / "ann").mkdir(parents=True)
    phones = (Interval(0, 0.25, ""), Interval(0.25, 0.5, "N"), Interval(0.5, 0.75, "OW1"), Interval(0.75, 1, "sil"))
    grid = TextGrid(0.0, 1.0, (Tier("words", (Interval(0.25, 0.75, "no"),)), Tier("phones", phones)))
    write_textgrid(tmp_path / "grids" / "ann" / "a.TextGrid", grid)
    source = table(tmp_path, "a.wav\tNo.\tann", "b.wav\tNo.\tann")
    report = prepare("table", source, tmp_path / "out", aligner=aligner, textgrids=tmp_path / "grids")
    assert "holds no TextGrid named b.TextGrid" in rejected(report.rejections)["b"]
    cut = next(read_cuts(report.cuts))
    assert [(p.symbol, p.start, p.end) for p in phones_of(cut)] == [
        ("SIL", 0.0, 0.25), ("N_B", 0.25, 0.5), ("OW1_E", 0.5, 0.75), ("SIL.", 0.75, 1.0),
    ]  # fmt: skip


def test_broken_manifests(tmp_path: Path, aligner: EvenAligner) -> None:
    with pytest.raises(UserError, match="no such manifest"):
        list(read_cuts(tmp_path / "cuts.jsonl.gz"))
    (tmp_path / "cuts.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(UserError, match="is broken"):
        list(read_cuts(tmp_path))
    sound(tmp_path / "a.wav")
    report = prepare("table", table(tmp_path, "a.wav\tYes.\tann"), tmp_path / "out", aligner=replace(aligner))
    report.cuts.write_bytes(report.cuts.read_bytes()[:-20])
    with pytest.raises(UserError, match="is broken"):
        list(read_cuts(report.cuts))
