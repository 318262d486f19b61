"""The benchmark itself: load, fit, say, judge, compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowtts.bench.job import Job, Outline, Watch, check_early, outline
from flowtts.bench.measure import Measurement
from flowtts.bench.models import Loaded, load_all
from flowtts.bench.scoring import Task, score_all
from flowtts.bench.settings import Setting
from flowtts.bench.statistics import POINT, difference, fewest, judging_rate
from flowtts.bench.store import Store, key_of, machine, versions


def load(job: Job) -> Loaded:
    """The models and prompts of a job.

    Raises:
        UserError: an unknown name, a broken checkpoint, a recording that is no voice, a setting that makes no sense.
    """
    check_early(job)
    return load_all(job.models, job.sentences, job.voices, job.vocoder, job.device, job.seed, job.engine)


def bench(job: Job, folder: Path, watch: Watch) -> dict[str, Any]:
    """Measure everything that is not measured yet.

    Args:
        job: what.
        folder: of the results; see ``store.Store``.
        watch: is told about it.

    Returns:
        The content of ``bench.json``.

    Raises:
        UserError: as ``load`` and ``outline``, or the folder cannot be written. A setting that fails while speaking
            becomes a row with its reason.
    """
    loaded = load(job)
    plan, store = outline(job, loaded), Store(folder)
    if job.fit is not None:
        _fit(job.fit, plan, loaded, store, watch)
    entries = Measurement(job, plan, loaded, store, watch).speak_all()
    _judge(job, plan, loaded, entries, store, watch)
    return _result(job, plan, loaded, entries)


def _fit(path: Path, plan: Outline, loaded: Loaded, store: Store, watch: Watch) -> None:
    """Fit a grid, unless it is there from before; then look at the settings that use it."""
    from flowtts.bench.fitting import fit

    first = plan.settings[0]
    key = key_of({**loaded.identity(first), **first.as_json(), "utterances": plan.said()})
    done = store.load("fit-grid", key, ())
    if done is None or done["grid"] != _digest(path):
        watch.set(0, None, "fitting a grid")
        speaker = loaded.speakers[first.model]
        path.parent.mkdir(parents=True, exist_ok=True)
        fit(speaker, loaded.voices(first.model), plan.utterances, first.sampling, path)
        store.save("fit-grid", {"key": key, "grid": _digest(path)})
        watch.message(f"{path}: a grid fitted to {first.model}, guidance {first.sampling.guidance}")
    for setting in plan.settings:
        loaded.check(setting)


def _digest(path: Path) -> str:
    return key_of({"text": path.read_text(encoding="utf-8") if path.is_file() else ""})


def _judge(
    job: Job, plan: Outline, loaded: Loaded, entries: Mapping[Setting, dict[str, Any]], store: Store, watch: Watch
) -> None:
    """Add the scores that are missing to the entries and to their files."""
    good = {setting.name: entry for setting, entry in entries.items() if entry["error"] is None}

    def task(name: str, metric: str) -> Task:
        said = (
            (one.id, store.audio(name, one), one.sentence.text, loaded.prompt(one.voice)) for one in plan.utterances
        )
        return Task(name, metric, tuple(said), str(loaded.device))

    tasks = [task(name, metric) for name in good for metric in job.metrics if metric not in good[name]["scores"]]
    ended = 0

    def done(task: Task, score: dict[str, Any] | None, reason: str | None) -> None:
        nonlocal ended
        ended += 1
        watch.set(ended, len(tasks), "judging")
        entry = good[task.setting]
        if score is None:
            entry["unjudged"] = {**entry.get("unjudged", {}), task.metric: reason}
            watch.message(f"{task.setting}: {task.metric} failed: {reason}")
            return
        entry["scores"][task.metric] = score
        store.save(task.setting, {key: value for key, value in entry.items() if key != "unjudged"})

    watch.set(0, len(tasks), "judging")
    score_all(tasks, job.jobs, done)


def _result(job: Job, plan: Outline, loaded: Loaded, entries: Mapping[Setting, dict[str, Any]]) -> dict[str, Any]:
    """The content of ``bench.json``; scores of single utterances stay in the settings' own files."""
    rows = [_row(job, plan, one, entries) for one in plan.settings]
    rate = judging_rate(job.metrics)
    enough = {} if rate is None else fewest([row for row in rows if row["error"] is None], rate)
    return {
        "machine": machine(loaded.device), "versions": versions(), "models": loaded.hashes(), "vocoder": job.vocoder,
        "seed": job.seed, "voices": list(dict.fromkeys(one.voice for one in plan.utterances)),
        "sentences": [{"id": one.id, "text": one.text} for one in job.sentences], "metrics": list(job.metrics),
        "grid": None if job.fit is None else str(job.fit), "rows": rows,
        "enough": None if rate is None else {
            "metric": rate, "within": POINT,
            "models": {
                model: None if row is None else {key: row[key] for key in ("name", "nfe", "network_calls")}
                for model, row in enough.items()
            },
        },
    }  # fmt: skip


def _row(job: Job, plan: Outline, setting: Setting, entries: Mapping[Setting, dict[str, Any]]) -> dict[str, Any]:
    reference, entry = plan.reference[setting], entries[setting]
    row = {
        "name": setting.name, **setting.as_json(), "reference": reference == setting,
        "compared_with": reference.name, "error": entry["error"],
    }  # fmt: skip
    if entry["error"] is not None:
        return row
    scores, theirs = entry["scores"], entries[reference].get("scores", {})
    texts = {one.id: one.sentence.text for one in plan.utterances}
    made = entry["made"]
    mel = None if made["mel"] is None else _without_items(made["mel"])
    return {
        **row, **made, "mel": mel,
        "metrics": {name: _without_items(scores[name]) for name in job.metrics if name in scores},
        "differences": {
            name: difference(name, scores[name], theirs[name], texts)
            for name in job.metrics if name in scores and name in theirs and reference != setting
        },
        "unjudged": entry.get("unjudged", {}),
    }  # fmt: skip


def _without_items(score: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in score.items() if key != "items"}
