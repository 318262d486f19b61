"""The benchmark of edits: which edits it makes, and that it counts, resumes and reports, with an editor of its own."""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from flowtts.edit.diff import diff
from flowtts.edit.recording import Patch, Recording
from flowtts.edit.result import Edited, Span
from flowtts.recognise import spoken_words
from flowtts.types import PathLike, UserError
from flowtts.voice import shipped

FOLDER = Path(__file__).parents[2] / "benchmarks"
SENTENCES = (
    "The old captain counted seven lanterns, and the river was quiet.",
    "Nobody believed him until the tide brought his ship home.",
    "Breakfast is served in the garden, if the weather allows it.",
    "Then it would all be over before we knew.",
    "She closed the window and sat down near the fire again.",
    "It was good for me.",
    "We have climbed one step up the long ladder today.",
)


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ModuleType]]:
    """``edit_cases`` and ``edits``, as a run of the script sees them."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("edit_cases"), importlib.import_module("edits")
    patch.undo()


@dataclass
class Careful:
    """An editor that replaces half a second in the middle by silence, and breaks when told to."""

    refuses: str = "-"
    breaks: str = "-"
    touches: bool = False
    calls: list[str] = field(default_factory=list)

    def edit(self, recording: PathLike, text: str, to: str, *, seed: int, steps: int | None) -> Edited:
        self.calls.append(to)
        if self.refuses in text:
            raise UserError("the transcript does not fit the recording")
        if self.breaks in text:
            raise ZeroDivisionError("broken")
        source = Recording.open(recording)
        middle, rate = source.length // 2, source.sample_rate
        new = np.zeros((rate // 2, source.channels), np.float32)
        patch = Patch(middle - self.touches, middle + 100, new, 0, 0)
        span = Span("", to, middle, middle + 100, middle, middle + rate // 2, rate)
        return Edited(source, (patch,), (span,), (), (), to, {}, seed, 0, 0, 1.0)


def test_cases_are_fixed_in_kind_and_change_something(scripts: tuple[ModuleType, ModuleType]) -> None:
    cases = scripts[0]
    assert Counter(cases.kinds(100)) == cases.SHARES
    assert len(cases.kinds(7)) == 7 and len(cases.kinds(33)) == 33
    sources = [cases.Source(f"s{n}", f"{n}.wav", text) for n, text in enumerate(SENTENCES)]
    made = cases.make_cases(sources, 100, seed=1)
    assert made == cases.make_cases(sources[::-1], 100, seed=1) != cases.make_cases(sources, 100, seed=2)
    assert len({case.id for case in made}) == 100
    assert Counter(case.kind for case in made) == cases.SHARES
    for case in made:
        old, new = spoken_words(case.text), spoken_words(case.to)
        found = diff(old, new)
        assert found and new
        first, last = found[0], found[-1]
        if case.kind == "several":
            assert len(found) >= 2
        elif case.kind == "delete":
            assert len(new) < len(old) and first.start > 0 and last.end <= len(old)
        elif case.kind == "insert":
            assert len(new) > len(old) and all(c.start == c.end for c in found)
        elif case.kind == "replace":
            assert len(new) == len(old)
        elif case.kind == "first":
            assert first.start == 0
        elif case.kind == "last":
            assert last.end == len(old)
    # Each recording is edited before any is edited twice.
    few = cases.make_cases(sources, 7)
    assert len({case.text for case in few}) == 7
    with pytest.raises(ValueError, match="6 words"):
        cases.make_cases([cases.Source("s", "s.wav", "It was good.")], 20)


def table(folder: Path) -> Path:
    rows = [f"{name}\t{path}\t{path.with_suffix('.txt').read_text().strip()}" for name, path in shipped().items()]
    made = folder / "table.tsv"
    made.write_text("\n".join(["id\taudio\ttext", *rows]) + "\n")
    return made


def given(scripts: tuple[ModuleType, ModuleType], *extra: str) -> argparse.Namespace:
    found: argparse.Namespace = scripts[1].options().parse_args(["real", "t", "o", "--players", "1", *extra])
    return found


def test_a_run_counts_resumes_and_reports(
    scripts: tuple[ModuleType, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edits = scripts[1]
    cases = edits.real_cases(table(tmp_path), 5, 0)
    options = given(scripts, "--metrics", "untouched", "sim")
    texts = [case.text for case in cases]
    assert len(set(texts)) == 5
    editor = Careful(refuses=texts[0], breaks=texts[1])
    found = edits.measure(editor, cases, tmp_path / "out", options)
    assert (found["edits"], found["crashes"], found["refused"]) == (5, 1, 1)
    assert found["failed"][cases[1].id] == "ZeroDivisionError: broken"
    assert found["metrics"]["untouched"]["value"] == 0 and found["metrics"]["untouched"]["count"] == 3
    assert found["metrics"]["sim-span"]["dropped"] == {case.id: "the patch is silent" for case in cases[2:]}
    assert found["metrics"]["sim-span"]["value"] is None
    assert found["kinds"][cases[2].kind]["differing"] == 0
    assert len(editor.calls) == 5
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == found
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<section>") == 3 and page.count("<img") == 3 and page.count("<audio") == 2
    assert "broken" in page and not re.search(r"(src|href)=[\"'](?!data:)", page)
    # What is done is not done again, neither editing nor judging.
    capsys.readouterr()
    assert edits.measure(editor, cases, tmp_path / "out", options) == found
    assert len(editor.calls) == 5 and capsys.readouterr().err == ""
    assert any("crashes 1" in line for line in edits.lines(found))
    with pytest.raises(UserError, match="holds other edits"):
        edits.measure(editor, cases[:2], tmp_path / "out", options)


def test_a_careless_editor_is_found_out(scripts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    edits = scripts[1]
    cases = edits.real_cases(table(tmp_path), 2, 0)
    # It replaces one sample more than its span says, so that what follows is out of step.
    found = edits.measure(Careful(touches=True), cases, tmp_path / "out", given(scripts, "--metrics", "untouched"))
    assert found["metrics"]["differing"]["value"] > 1000
    with pytest.raises(UserError, match="no edit could be made"):
        edits.measure(Careful(breaks=""), cases, tmp_path / "none", given(scripts))


def test_an_engine_that_is_missing_is_named(
    scripts: tuple[ModuleType, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="flite is not installed"):
        scripts[1].engine_cases(tmp_path / "sentences.tsv", tmp_path, 1, 0)
