"""Edit real recordings and measure what came of it.

    python benchmarks/edits.py real TABLE OUT [--count 100]
    python benchmarks/edits.py engine SENTENCES OUT [--count 100]

``real``: TABLE is a tab-separated table with the columns id, audio and text, as ``flowtts prepare table`` takes it.
Insertions, deletions, replacements, several at once, first words, last words and whole sentences, in fixed proportions,
each with another recording; wanted texts are built from the recording's own words, common words and other sentences.
``engine``: SENTENCES is a table with the columns id and text (``python -m flowtts.recipes.voicebox.corpus heldout``),
which flite speaks; it also speaks the wanted sentences, so that the edit has a reference in the same voice.

Writes the edits with their sidecars, ``scores.json`` and ``report.html`` into OUT. May be interrupted: what is done is
not done again. Every figure is from ``flowtts.eval``.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from edit_cases import Case, Source, make_cases
from edits_report import page

import flowtts
from flowtts.audio.io import read
from flowtts.data.rows import Broken, read_rows
from flowtts.edit.result import Edited
from flowtts.eval.bootstrap import mean_interval, ratio_interval
from flowtts.eval.edit_items import EditItem, from_sidecar
from flowtts.eval.edits import METRICS, evaluate_edits
from flowtts.registry import load_metric
from flowtts.speech import write_json
from flowtts.types import Item, PathLike, Score, UserError

VOICES = ("rms", "slt", "awb")


class Editor(Protocol):
    """What is measured."""

    def edit(self, recording: PathLike, text: str, to: str, *, seed: int, steps: int | None) -> Edited:
        """Change what a recording says."""
        ...


class Voicebox:
    """The shipped pipeline, or another model's."""

    def __init__(self, model: str, vocoder: str) -> None:
        self.pipeline = flowtts.load(model, vocoder=vocoder)

    def edit(self, recording: PathLike, text: str, to: str, *, seed: int, steps: int | None) -> Edited:
        """Change what a recording says."""
        made: Edited = self.pipeline.edit(recording, text, to, seed=seed, steps=steps)
        return made


def real_cases(table: Path, count: int, seed: int) -> list[Case]:
    """Edits of the recordings of a table.

    Raises:
        UserError: the table is none, or has too few rows with text.
    """
    rows = [row for row in read_rows("table", table) if not isinstance(row, Broken)]
    whole = [Source(row.id, str(row.audio), row.text) for row in rows if row.text and row.end is None]
    try:
        return make_cases(whole, count, seed)
    except ValueError as error:
        raise UserError(f"{table}: {error}; give a table with more recordings") from error


def engine_cases(sentences: Path, out: Path, count: int, seed: int) -> list[Case]:
    """Edits of sentences spoken by flite, with the wanted sentences spoken too; what is there is not spoken again.

    Raises:
        UserError: flite is not installed.
    """
    from flowtts.recipes.voicebox.corpus import speak_flite

    if shutil.which("flite") is None:
        raise UserError("flite is not installed; install it with your package manager, or measure real recordings")
    with sentences.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        texts = [(row["id"], row["text"]) for row in rows if 30 <= len(row["text"]) <= 90]
    sources = [Source(name, VOICES[i % len(VOICES)], text) for i, (name, text) in enumerate(texts[: 3 * count])]
    made = []
    for case in make_cases(sources, count, seed):
        voice, folder = case.audio, out / "engine"
        audio, reference = folder / f"{case.id}.flac", folder / f"{case.id}-wanted.flac"
        for path, text in ((audio, case.text), (reference, case.to)):
            if not path.exists():
                speak_flite(voice, text, path)
        made.append(Case(case.id, case.kind, str(audio), case.text, case.to, str(reference)))
    return made


def run(editor: Editor, cases: Sequence[Case], out: Path, seed: int, steps: int | None) -> dict[str, dict[str, Any]]:
    """Make the edits that are not made yet.

    Returns:
        Of each edit: ``took`` and ``seconds``, or ``error`` and whether it is a ``crash`` rather than a refusal.
    """
    (out / "edits").mkdir(parents=True, exist_ok=True)
    log = out / "results.jsonl"
    done = {row.pop("id"): row for row in map(json.loads, log.read_text().splitlines())} if log.exists() else {}
    for number, case in enumerate(cases, 1):
        if case.id in done:
            continue
        started = time.perf_counter()
        result: dict[str, Any]
        try:
            made = editor.edit(case.audio, case.text, case.to, seed=seed, steps=steps)
            # WAV holds the samples of a lossy recording exactly too, as floats.
            made.save(out / "edits" / f"{case.id}.wav")
            took = time.perf_counter() - started
            result = {"took": round(took, 3), "seconds": round(soundfile.info(case.audio).duration, 3)}
        except UserError as error:
            result = {"error": str(error), "crash": False}
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}", "crash": True, "trace": traceback.format_exc()}
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"id": case.id, **result}) + "\n")
        done[case.id] = result
        said = result.get("error") or f"{result['took']:.1f} s"
        print(f"{number}/{len(cases)} {case.id}: {said}", file=sys.stderr, flush=True)
    return done


def edit_items(cases: Sequence[Case], results: Mapping[str, Mapping[str, Any]], out: Path) -> list[EditItem]:
    """The edits that were made, as metrics take them."""
    items = []
    for case in cases:
        if "error" in results[case.id]:
            continue
        path = out / "edits" / f"{case.id}.wav"
        sidecar = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        reference = case.reference or None
        items.append(
            from_sidecar(case.audio, path, sidecar, text=case.text, to=case.to, id=case.id, reference=reference)
        )
    return items


def score(items: Sequence[EditItem], out: Path, metrics: Sequence[str]) -> dict[str, Score]:
    """Judge by one family of metrics after the other; what was judged of the same edits is read again."""
    names = [item.id for item in items]
    path = out / "judged.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("items") != names:
        kept = {"items": names, "scores": {}}
    found: dict[str, Score] = {}
    for name in metrics:
        if name not in kept["scores"]:
            print(f"judging {name}", file=sys.stderr, flush=True)
            made = _sentences(items) if name == "sentence" else evaluate_edits(items, [name])
            kept["scores"][name] = {key: asdict(value) for key, value in made.items()}
            write_json(path, kept)
        found |= {key: Score(**value) for key, value in kept["scores"][name].items()}
    return found


def _sentences(items: Sequence[EditItem]) -> dict[str, Score]:
    """Closed-vocabulary error rates of whole wanted sentences: as edited, and as the engine itself says them."""
    pairs = [(item, item.reference) for item in items if item.reference is not None]
    edited = [Item(read(Path(str(item.output))), item.to, id=item.id) for item, _ in pairs]
    spoken = [Item(read(Path(str(reference))), item.to, id=item.id) for item, reference in pairs]
    return {
        "wer-sentence-closed": load_metric("wer-closed")(edited),
        "wer-engine-closed": load_metric("wer-closed")(spoken),
    }


def by_kind(cases: Sequence[Case], scores: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    """The mean of every score's values by item, for each kind of edit."""
    found: dict[str, dict[str, float]] = {}
    for kind in dict.fromkeys(case.kind for case in cases):
        own = [case.id for case in cases if case.kind == kind]
        for name, value in scores.items():
            values = [value.items[i] for i in own if i in value.items]
            if values:
                found.setdefault(kind, {})[name] = float(np.mean(values))
    return found


def summary(
    cases: Sequence[Case], results: Mapping[str, Mapping[str, Any]], scores: Mapping[str, Score]
) -> dict[str, Any]:
    """``scores.json``."""
    failed = {case.id: results[case.id] for case in cases if "error" in results[case.id]}
    made = [results[case.id] for case in cases if case.id not in failed]
    took = mean_interval([r["took"] for r in made])
    factor = ratio_interval([r["took"] for r in made], [r["seconds"] for r in made])
    found = {
        "edits": len(cases),
        "crashes": sum(bool(result["crash"]) for result in failed.values()),
        "refused": sum(not result["crash"] for result in failed.values()),
        "failed": {name: result["error"] for name, result in failed.items()},
        "seconds_per_edit": asdict(took),
        "seconds_per_second": asdict(factor),
        "flowtts": flowtts.__version__,
        "metrics": {name: asdict(value) for name, value in scores.items()},
        "kinds": by_kind(cases, scores),
    }
    return dict(_finite(found))


def _finite(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """For the terminal."""
    yield f"edits {found['edits']}, crashes {found['crashes']}, refused {found['refused']}"
    yield "seconds per edit {value:.2f} [{low:.2f}, {high:.2f}]".format(**found["seconds_per_edit"])
    for name, s in found["metrics"].items():
        value, low, high = (math.nan if s[key] is None else s[key] for key in ("value", "low", "high"))
        yield f"{name}: {value:.4f} [{low:.4f}, {high:.4f}] of {s['count']} ({len(s['dropped'])} dropped)"


def measure(editor: Editor | None, cases: Sequence[Case], out: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Edit, judge and report.

    Raises:
        UserError: OUT holds other edits.
    """
    out.mkdir(parents=True, exist_ok=True)
    plan, known = [asdict(case) for case in cases], out / "cases.json"
    if known.exists() and json.loads(known.read_text(encoding="utf-8")) != plan:
        raise UserError(f"{out}: holds other edits; give the same table, count and seed, or another folder")
    write_json(known, plan)
    results = run(editor or Voicebox(given.model, given.vocoder), cases, out, given.seed, given.steps)
    items = edit_items(cases, results, out)
    if not items:
        raise UserError(f"{out}: no edit could be made; see results.jsonl")
    has_reference = any(item.reference is not None for item in items)
    metrics = given.metrics or [m for m in (*METRICS, "sentence") if has_reference or m not in ("duration", "sentence")]
    found = summary(cases, results, score(items, out, metrics))
    write_json(out / "scores.json", found)
    part = out / "report.html.part"
    part.write_text(page(cases, items, found, given.players), encoding="utf-8")
    os.replace(part, out / "report.html")
    return found


def options() -> argparse.ArgumentParser:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["real", "engine"])
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--model", default="voicebox")
    parser.add_argument("--vocoder", default="vocos")
    parser.add_argument("--metrics", nargs="+", choices=[*METRICS, "sentence"], help="all that apply by default")
    parser.add_argument("--players", type=int, default=21, help="edits in the report with sound")
    return parser


def main() -> int:
    """Command line: see the module's head."""
    given = options().parse_args()
    try:
        if given.what == "real":
            cases = real_cases(given.table, given.count, given.seed)
        else:
            cases = engine_cases(given.table, given.out, given.count, given.seed)
        found = measure(None, cases, given.out, given)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
