"""Evaluation of a set: names, JSON, table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from flowtts.audio.io import write
from flowtts.eval.bootstrap import NOTHING
from flowtts.eval.intelligibility import ErrorRate
from flowtts.eval.judging import item_names, score
from flowtts.eval.metrics import load, load_all, names
from flowtts.eval.report import evaluate
from flowtts.types import Audio, Item, Metric, Score, UserError


@dataclass
class Fixed:
    """A metric that says what it is told to."""

    result: Score
    name: str = "fixed"
    higher_is_better: bool = True

    def __call__(self, items: Sequence[Item]) -> Score:
        return self.result


@pytest.fixture
def items(noise: Callable[[float, int], Audio]) -> list[Item]:
    wide, narrow = noise(1.0, 24_000), noise(1.0, 8_000)
    return [Item(wide, "x", wide, id="wide"), Item(narrow, "y", narrow, id="narrow"), Item(wide, "z", id="alone")]


def test_json_has_the_documented_keys_and_counts(items: list[Item]) -> None:
    report = evaluate(items, ["mel"])
    found = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert found["items"] == 3
    assert found["dropped"] == 1
    assert found["low_rate"] == {"narrow": 8000}
    mel = found["metrics"]["mel"]
    assert set(mel) == {
        "value", "low", "high", "backend", "sample_rate", "count", "dropped", "items", "higher_is_better",
    }  # fmt: skip
    assert (mel["value"], mel["count"], mel["sample_rate"]) == (0.0, 2, 16_000)
    assert mel["dropped"] == {"alone": "it has no reference"}
    assert mel["items"] == {"wide": 0.0, "narrow": 0.0}
    assert "items" not in report.as_json(per_item=False)["metrics"]["mel"]


def test_nothing_judged_is_null_not_nan(items: list[Item]) -> None:
    report = evaluate(items[2:], ["mel"])
    found = json.loads(json.dumps(report.as_json(), allow_nan=False))["metrics"]["mel"]
    assert (found["value"], found["low"], found["high"], found["count"]) == (None, None, None, 0)
    assert math.isnan(report.scores["mel"].value)


def test_manifest_timings_reach_rtf(items: list[Item], tmp_path: Path) -> None:
    write(tmp_path / "a.wav", items[0].audio)
    (tmp_path / "set.tsv").write_text("audio\ttext\ttook\na.wav\tx\t0.5\n")
    assert evaluate(tmp_path / "set.tsv", ["rtf"]).scores["rtf"].value == pytest.approx(0.5)


def test_own_metrics_mix_with_names_in_the_order_given(items: list[Item]) -> None:
    own = Fixed(score(NOTHING, {}, {"wide": "because"}, "nobody"))
    report = evaluate(items, [own, "mel"])
    assert list(report.scores) == ["fixed", "mel"]
    assert report.dropped == ["wide", "alone"]


def test_table_shows_values_drops_and_low_rates(items: list[Item]) -> None:
    wer = Fixed(Score(0.125, 0.1, 0.15, "judge 1.0", 16_000, 3), "wer", False)
    console = Console(width=140, record=True, file=None, quiet=False, no_color=True)
    with console.capture() as capture:
        console.print(evaluate(items, [wer, "mel"]).table())
    shown = capture.get()
    for part in (
        "wer ↓",
        "12.5 %",
        "10.0 % – 15.0 %",
        "judge 1.0",
        "mel dropped 1: it has no reference",
        "from 8000 Hz",
    ):
        assert part in shown


def test_every_name_is_listed_and_loads_or_says_what_is_missing() -> None:
    assert {"wer", "cer", "wer-closed", "wer-whisper", "wer-hubert", "sim", "sim-o", "sim-r", "pesq"} <= set(names())
    for name in names():
        try:
            metric: Metric = load(name)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert metric.name in names()


def test_rates_of_one_recogniser_share_it_and_others_do_not() -> None:
    words, characters, closed = load_all(["wer", "cer", "wer-closed"])
    assert isinstance(words, ErrorRate) and isinstance(characters, ErrorRate) and isinstance(closed, ErrorRate)
    assert words.transcripts is characters.transcripts
    assert words.transcripts is not closed.transcripts


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["wers"], "unknown metric 'wers'; did you mean 'wer'"),
        (["wer-"], "unknown metric 'wer-'"),
        (["sim", "sim-o"], "'sim-o' is asked for twice"),
        (["wer:base"], "'wer' takes no option"),
        (["mel:x"], "'mel' takes no option"),
    ],
)
def test_wrong_names(wanted: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_all(wanted)


def test_nothing_to_evaluate(items: list[Item]) -> None:
    for some, metrics in (([], ["mel"]), (items, [])):
        with pytest.raises(UserError, match="nothing to evaluate"):
            evaluate(some, metrics)


def test_items_without_or_with_equal_names_stay_apart(noise: Callable[[float, int], Audio]) -> None:
    sound = noise(0.1, 16_000)
    assert item_names([Item(sound, "", id=name) for name in ("", "a", "a", "")]) == ["#1", "a", "a#3", "#4"]
