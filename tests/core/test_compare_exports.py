"""A comparison written for other programs reads back as it was, and as LaTeX it compiles."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from comparison import example

from flowtts.compare import exports
from flowtts.compare.exports import SCORES, latex, score_lines, tex, write_exports
from flowtts.compare.figures import Figures
from flowtts.compare.result import Result
from flowtts.types import UserError

NASTY = r'100%_of #1 {a} $b$ & \c ~ ^ <d> "e" — “f” [g] *h* é ß λ 日本'


@pytest.fixture
def result(tmp_path: Path) -> Result:
    """With numbers that short decimals cannot hold, and text that separators are in."""
    found: Any = example(tmp_path)
    for row in found["items"]:
        row["scores"] = {name: value if value is None else value / 3 for name, value in row["scores"].items()}
    found["items"][1]["heard"]["wer"] = 'a, "young"\nfox; ü'
    found["scores"]["voicebox"]["wer"]["value"] = 1 / 3
    return found


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float | None:
    return float(text) if text else None


def test_the_report_is_the_result(result: Result, tmp_path: Path) -> None:
    assert write_exports(result, tmp_path) == []
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == result
    assert not list(tmp_path.glob(".*.part"))


def test_scores_read_back_to_the_last_digit(result: Result, tmp_path: Path) -> None:
    write_exports(result, tmp_path)
    read = lines(tmp_path / "scores.csv")
    assert list(read[0]) == list(SCORES) and len(read) == len(result["items"]) * 2
    at = iter(read)
    for row in result["items"]:
        for metric in ("wer", "sim-o"):
            line = next(at)
            assert (line["system"], line["item"], line["metric"]) == (row["system"], row["item"], metric)
            assert number(line["value"]) == row["scores"][metric] and int(line["seed"]) == row["seed"]
            assert line["heard"] == row["heard"].get(metric, "")
            assert line["dropped"] == row["dropped"].get(metric, "")
    assert {(line["set"], line["speaker"]) for line in read} == {("english", "rms"), ("english", "slt")}
    assert [line["dropped"] for line in read if not line["value"]] == ["it could not be said: too long"] * 2


def test_parquet_holds_the_same_with_types(result: Result, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_exports(result, tmp_path)
    table = parquet.read_table(tmp_path / "scores.parquet")
    assert {field.name: {"double": "float64"}.get(str(field.type), str(field.type)) for field in table.schema} == SCORES
    rows = table.to_pylist()
    assert rows == score_lines(result)
    for line, row in zip(lines(tmp_path / "scores.csv"), rows, strict=True):
        assert {name: "" if value is None else str(value) for name, value in row.items()} == line


def test_a_recording_without_a_score_says_why(result: Result) -> None:
    raw: Any = result
    raw["items"][0] |= {
        "error": "the process ended",
        "scores": {},
        "dropped": {"wer": "it could not be made"},
        "heard": {},
    }
    raw["metrics"].append({**raw["metrics"][0], "name": "fsd", "level": "set"})
    wer, sim, *rest = score_lines(result)
    assert (wer["value"], wer["dropped"], sim["value"], sim["dropped"]) == (
        None, "it could not be made", None, "the process ended",
    )  # fmt: skip
    assert {line["metric"] for line in rest} == {"wer", "sim-o"} and rest[0]["heard"] == 'a, "young"\nfox; ü'


def test_the_summary_has_a_line_for_each_system(result: Result, tmp_path: Path) -> None:
    write_exports(result, tmp_path)
    read = {line["system"]: line for line in lines(tmp_path / "summary.csv")}
    assert list(read) == ["voicebox", "tortoise", "recordings"]
    for name, line in read.items():
        for metric, score in result["scores"][name].items():
            for key in ("low", "high", "speaker_low", "speaker_high", "count", "rank"):
                assert number(line[f"{metric}_{key}"]) == score[key]  # type: ignore[literal-required]
            assert number(line[metric]) == score["value"] and int(line[f"{metric}_dropped"]) == len(score["dropped"])
    assert [read["tortoise"][key] for key in ("label", "made", "failed", "wer_count")] == ["Tortoise", "3", "1", "3"]
    assert [read["voicebox"][key] for key in exports.COSTS] == ["0.5", "0.4", "0.6", "0.45", "4.0", "2.0", "700.0"]
    assert [read["recordings"][key] for key in ("nfe", *exports.COSTS)] == [""] * 8


def test_differences_read_back(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    raw["differences"][0] |= {"value": None, "p": None}
    write_exports(result, tmp_path)
    for line, difference in zip(lines(tmp_path / "differences.csv"), result["differences"], strict=True):
        assert {name: "" if value is None else str(value) for name, value in difference.items()} == line


def test_a_system_without_scores_keeps_its_place(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    raw["scores"]["tortoise"] = {}
    raw["systems"][1]["times"] = None
    write_exports(result, tmp_path)
    line = lines(tmp_path / "summary.csv")[1]
    assert line["system"] == "tortoise" and line["wer"] == line["wer_count"] == line["rtf"] == ""
    assert r"Tortoise & -- & -- \\" in (tmp_path / "table.tex").read_text(encoding="utf-8")


def test_without_pyarrow_the_rest_is_written_and_the_old_file_goes(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str, extra: str) -> Any:
        raise UserError(f"{module} needs the extra {extra!r}")

    (tmp_path / "scores.parquet").write_bytes(b"of an earlier run")
    monkeypatch.setattr(exports, "require", missing)
    assert write_exports(result, tmp_path) == ["scores.parquet was not written: pyarrow needs the extra 'compare'"]
    assert not (tmp_path / "scores.parquet").exists()
    assert all((tmp_path / name).is_file() for name in ("report.json", "scores.csv", "summary.csv", "table.tex"))


def test_the_same_result_is_the_same_bytes(result: Result, tmp_path: Path) -> None:
    names = ("report.json", "scores.csv", "scores.parquet", "summary.csv", "differences.csv", "table.tex")
    write_exports(result, tmp_path)
    first = {name: (tmp_path / name).read_bytes() for name in names if (tmp_path / name).exists()}
    write_exports(result, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in first} == first and len(first) >= 5


def test_without_metrics_there_are_still_files(result: Result, tmp_path: Path) -> None:
    result["metrics"], result["scores"], result["differences"] = [], {}, []
    assert write_exports(result, tmp_path) == []
    assert lines(tmp_path / "scores.csv") == [] and len(lines(tmp_path / "summary.csv")) == 3
    assert r"\begin{tabular}{l}" in (tmp_path / "table.tex").read_text(encoding="utf-8")


# --- LaTeX -----------------------------------------------------------------------------------------------------------


def test_the_table_has_values_with_intervals_and_the_best_in_bold(result: Result) -> None:
    raw: Any = result
    raw["scores"]["voicebox"]["wer"]["value"] = 0.05
    text = latex(Figures.of(result))
    assert r"System & WER (\%) $\downarrow$ & SIM-o $\uparrow$ \\" in text
    assert r"Voicebox & $\mathbf{5.0}_{[3.0,\,7.0]}$ & $\mathbf{0.850}_{[0.830,\,0.870]}$ \\" in text
    assert r"Tortoise & $25.0_{[23.0,\,27.0]}^{\dagger}$ & " in text
    assert r"recordings & $0.0_{[-2.0,\,2.0]}$ & " in text
    (caption,) = re.findall(r"\\caption\{(.*)\}", text)
    for said in (
        "$n=4$",
        "english (4)",
        "WER by pocketsphinx 5.1.0",
        "SIM-o by Resemblyzer 0.1.4",
        "Tortoise WER 3 of 4",
    ):
        assert said in caption


def test_text_is_escaped() -> None:
    assert tex("100%_of #1 & {x}") == r"100\%\_of \#1 \& \{x\}"
    assert tex("a\\b~c^d") == r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"
    assert tex("[x] *") == "{[}x{]} {*}" and tex("é Łódź") == "é Łódź" and tex("日") == "{[}U+65E5{]}"
    assert tex("two\nlines") == "two lines"


def nasty(result: Result) -> str:
    raw: Any = result
    raw["systems"][0]["label"], raw["metrics"][0]["label"], raw["metrics"][0]["backend"] = NASTY, NASTY, NASTY
    raw["sets"][0]["name"], raw["systems"][1]["label"] = NASTY, "[starts with a bracket]"
    raw["metrics"][1]["unit"] = NASTY
    return latex(Figures.of(result))


def test_only_commands_that_every_paper_has_are_used(result: Result) -> None:
    text = nasty(result)
    used = set(re.findall(r"\\([A-Za-z]+)", re.sub(r"(?m)^%.*$", "", text)))
    assert used <= {
        "begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule", "mathbf", "dagger", "uparrow",
        "downarrow", "textbackslash", "textasciitilde", "textasciicircum",
    }  # fmt: skip
    assert len(re.findall(r"(?<!\\)&", text)) == 2 * (1 + len(result["systems"]))
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    # After the end of a row a bracket would be an argument.
    assert not re.search(r"\\\\\s*[\[*]", text)


def test_the_table_compiles(result: Result, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    (tmp_path / "table.tex").write_text(nasty(result), encoding="utf-8")
    paper = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\end{document}"
    (tmp_path / "paper.tex").write_text(paper, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    if b"booktabs.sty' not found" in done.stdout:
        pytest.skip("booktabs is not installed")
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000
