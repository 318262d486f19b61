"""Everything that was made and judged, put together as ``report.json`` has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from flowtts.bench.store import key_of, machine, versions
from flowtts.compare.judging import EDITS, SET, Scores, name_of
from flowtts.compare.plan import Cell, Job, Plan
from flowtts.compare.result import FORMAT, Figure, MetricInfo, Result, Row, System
from flowtts.compare.statistics import Values, cluster_interval, compare_all
from flowtts.compare.store import Store
from flowtts.compare.systems import System as Asked
from flowtts.compare.systems import identity, licence
from flowtts.registry import edit_info, edit_names, metric_info

Records = Mapping[str, Mapping[str, Mapping[str, Any]]]

UNJUDGED = "it could not be made: "
"""What stands before the reason of a recording that failed, where its scores would be."""


def assemble(job: Job, plan: Plan, store: Store, records: Records, scores: Scores, created: str) -> Result:
    """The whole report as plain values.

    Args:
        job: what was asked for.
        plan: what that meant.
        store: where recordings lie.
        records: how each was made, or {"error": why not}.
        scores: of each, see ``judging.Scores``.
        created: when.
    """
    table = _flat(job, plan, records, scores)
    infos = _infos(job, table)
    rows = {name: [_row(cell, records[name][cell.item], table[name]) for cell in cells]
            for name, cells in plan.cells.items()}  # fmt: skip
    found, differences = compare_all(infos, {name: _values(plan.cells[name], table[name]) for name in plan.cells})
    device = torch.device(_device(job))
    return Result(
        format=FORMAT, title=job.title, command=job.command, created=created,
        machine={**machine(device), "processes": job.jobs}, versions=versions(), tagged=job.tag,
        sets=[dict(one) for one in job.sets], prompts=[said.info(store) for said in plan.said],
        systems=[_system(one, plan.cells[one.name], records[one.name]) for one in job.systems], metrics=infos,
        scores=found, differences=differences, items=[row for one in job.systems for row in rows[one.name]],
        ratings=None,
    )  # fmt: skip


def _device(job: Job) -> str:
    if job.device != "auto":
        return job.device
    return "cuda" if torch.cuda.is_available() else "cpu"


Table = dict[str, dict[str, dict[str, Any]]]
"""By metric and item, or under ``SET``, with failures among the dropped."""


def _flat(job: Job, plan: Plan, records: Records, scores: Scores) -> dict[str, Table]:
    """Scores by system; the family of edits spread out, recordings that failed filled in."""
    found: dict[str, Table] = {}
    for name, cells in plan.cells.items():
        mine = {name_of(metric): dict(scores[name].get(metric, {})) for metric in job.metrics}
        whole = scores[name].get(EDITS, {}).get(SET, {})
        # A judge that failed failed for all of its scores.
        edits = whole.get("scores") or dict.fromkeys(edit_names() if whole else (), whole)
        for metric, score in edits.items():
            mine[f"edit-{metric}"] = {SET: score}
        failed = {
            cell.item: UNJUDGED + error
            for cell in cells if (error := records[name][cell.item].get("error")) is not None
        }  # fmt: skip
        for by_item in mine.values():
            if SET in by_item and isinstance(by_item[SET]["dropped"], Mapping):
                by_item[SET] = {**by_item[SET], "dropped": {**by_item[SET]["dropped"], **failed}}
            elif SET not in by_item:
                empty = {"backend": "", "sample_rate": 0}
                by_item.update({item: {"dropped": reason, **empty} for item, reason in failed.items()})
        found[name] = mine
    return found


def _infos(job: Job, table: Mapping[str, Table]) -> list[MetricInfo]:
    """Every metric with its judge, which only judging can tell."""
    spellings = {name_of(metric): metric for metric in job.metrics}
    names = list(dict.fromkeys([*spellings, *(metric for mine in table.values() for metric in mine)]))
    found: list[MetricInfo] = []
    for name in names:
        about = metric_info(spellings[name]) if name in spellings else edit_info(name.removeprefix("edit-"))
        judged = [one for mine in table.values() for one in mine.get(name, {}).values() if one.get("backend")]
        first: Mapping[str, Any] = judged[0] if judged else {"backend": "", "sample_rate": 0}
        found.append(MetricInfo(
            name=name, label=about["label"], unit=about["unit"], higher_is_better=about["higher_is_better"],
            rate=about["rate"], level=about["level"], backend=first["backend"], sample_rate=first["sample_rate"],
            paper=about["paper"],
        ))  # fmt: skip
    return found


def _values(cells: Sequence[Cell], table: Table) -> dict[str, Values]:
    """What the statistics need of a system, by metric."""
    found = {}
    for metric, by_item in table.items():
        whole = by_item.get(SET)
        if whole is None:
            values = {item: one["value"] for item, one in by_item.items() if "value" in one}
            weights = {item: one["weight"] for item, one in by_item.items() if "value" in one}
            dropped = {item: one["dropped"] for item, one in by_item.items() if "dropped" in one}
        else:
            values, weights = dict(whole.get("items", {})), dict(whole.get("weights", {}))
            why = whole["dropped"]
            dropped = dict(why) if isinstance(why, Mapping) else {cell.item: str(why) for cell in cells}
        found[metric] = Values(
            values=values, weights=weights, prompts={cell.item: cell.said.id for cell in cells},
            speakers={cell.item: cell.said.asked.speaker for cell in cells}, dropped=dropped, whole=whole,
        )  # fmt: skip
    return found


def _row(cell: Cell, record: Mapping[str, Any], table: Table) -> Row:
    made = {metric: by_item[cell.item] for metric, by_item in table.items() if cell.item in by_item}
    for metric, by_item in table.items():
        value = by_item.get(SET, {}).get("items", {}).get(cell.item)
        if value is not None:
            made[metric] = {"value": value}
    clock = record.get("clock") or {}
    return Row(
        system=cell.system.name, prompt=cell.said.id, item=cell.item, seed=cell.seed, audio=record.get("audio"),
        audio_hash=record.get("audio_hash"), seconds=record.get("seconds"), sample_rate=record.get("sample_rate"),
        error=record.get("error"), nfe=record.get("nfe"), network_calls=record.get("network_calls"),
        took=clock.get("took"), heard={metric: one["heard"] for metric, one in made.items() if "heard" in one},
        scores={metric: one.get("value") for metric, one in made.items()},
        dropped={metric: one["dropped"] for metric, one in made.items() if "dropped" in one},
        words=list(record.get("words", [])), spans=list(record.get("spans", [])),
    )  # fmt: skip


def _system(asked: Asked, cells: Sequence[Cell], records: Mapping[str, Mapping[str, Any]]) -> System:
    good = [records[cell.item] for cell in cells if records[cell.item].get("error") is None]
    errors = [str(records[cell.item]["error"]) for cell in cells if records[cell.item].get("error") is not None]
    decides = identity(asked)
    settings = dict(next((record["settings"] for record in good if "settings" in record), {}))
    return System(
        name=asked.name, label=asked.label, kind=asked.kind, source=asked.source,
        hash="" if asked.kind in ("recordings", "folder") else key_of(decides), licence=licence(asked),
        settings={**asked.settings, **settings}, seeds=list(asked.seeds), made=len(good), failed=len(errors),
        # One line for the many: a model that could not be loaded fails everywhere for the same reason.
        error=errors[0] if errors and not good and len(set(errors)) == 1 else None,
        seconds=sum(record["seconds"] for record in good), nfe=_mean(good, "nfe"),
        network_calls=_mean(good, "network_calls"), times=_times(good),
    )  # fmt: skip


def _mean(records: Sequence[Mapping[str, Any]], key: str) -> float | None:
    known = [record[key] for record in records if record.get(key) is not None]
    return sum(known) / len(known) if known else None


def _times(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How long it took. ``rtf`` is over recordings that waited for nothing: model loaded, voice known."""
    known = [(record["clock"], record["seconds"]) for record in records if record.get("clock")]
    if not known:
        return None
    warm = [(clock["took"], seconds) for clock, seconds in known if clock["warm"] and seconds > 0]
    loads = [clock["load"] for clock, _ in known if clock["load"] is not None]
    cold = [clock["load"] + clock["took"] for clock, _ in known if clock["load"] is not None]
    memory = [clock["memory"] for clock, _ in known if clock["memory"] is not None]
    every = [(clock["took"], seconds) for clock, seconds in known if seconds > 0]
    return {
        "rtf": _ratio(every), "warm_rtf": _ratio(warm)["value"], "cold_seconds": _middle(cold),
        "load_seconds": _middle(loads), "peak_memory_mb": max(memory, default=None),
    }  # fmt: skip


def _ratio(pairs: Sequence[tuple[float, float]]) -> Figure:
    """Seconds of computing over seconds of sound; recordings are drawn for the interval."""
    if not pairs:
        return Figure(value=None, low=None, high=None)
    names = [str(number) for number in range(len(pairs))]
    rates = {name: took / seconds for name, (took, seconds) in zip(names, pairs, strict=True)}
    weights = {name: seconds for name, (_, seconds) in zip(names, pairs, strict=True)}
    return cluster_interval(rates, weights, {name: name for name in names})


def _middle(values: Sequence[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None
