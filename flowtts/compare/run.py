"""The comparison itself: speak, judge, compare, write."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from flowtts import crew
from flowtts.compare.assemble import assemble
from flowtts.compare.judging import Judge, Scores, check, recordings
from flowtts.compare.plan import Cell, Job, Plan, plan
from flowtts.compare.ranks import Ranks
from flowtts.compare.result import Result
from flowtts.compare.speaking import Speaking
from flowtts.compare.store import Store
from flowtts.compare.systems import System
from flowtts.device import choose_device
from flowtts.types import UserError


class Watch(Protocol):
    """Who is told how far it is."""

    def set(self, done: int, total: int | None = None, description: str | None = None) -> None:
        """So much of so much is done."""
        ...

    def message(self, text: str) -> None:
        """A line worth keeping."""
        ...


Records = dict[str, dict[str, dict[str, Any]]]
"""By system and item: how a recording was made, or {"error": why not}."""


def prepare(job: Job, folder: Path) -> Store:
    """The folder of a comparison, once everything is found in order that can be found early.

    Raises:
        UserError: a metric or the device cannot be had, there is nothing to say, or the folder is something else's.
    """
    check(job.metrics)
    choose_device(job.device)
    if not job.prompts:
        raise UserError("no prompts to say")
    store = Store(folder)
    if store.foreign():
        raise UserError(f"{folder} holds other things than a comparison; give a new folder with --out")
    return store


def compare(job: Job, folder: Path, watch: Watch, ranks: Ranks | None = None) -> Result | None:
    """Make and judge everything that is not there yet.

    Args:
        job: what.
        folder: of the results, see ``store.Store``; it may hold a part of them, or those of another comparison.
        watch: is told about it.
        ranks: processes that share the work, possibly on several machines with one folder.

    Returns:
        The content of ``report.json``, in the first process alone.

    Raises:
        UserError: see ``prepare`` and ``plan.plan``. A recording or a score that fails is a row with its reason.
    """
    ranks = ranks or Ranks()
    store = prepare(job, folder)
    if ranks.main:
        # Before the others come: it takes away what nobody finished.
        store.begin()
        made_plan = plan(job, store)
        store.sweep({name: {cell.item for cell in cells} for name, cells in made_plan.cells.items()})
    ranks.wait()
    if not ranks.main:
        made_plan = plan(job, store)
    records = _speak(job, made_plan, store, ranks, watch)
    ranks.wait()
    if ranks.world > 1:
        records = _gather(made_plan, store, ranks, records)
    scores = _judge(job, made_plan, records, store, ranks, watch)
    ranks.wait()
    if not ranks.main:
        return None
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return assemble(job, made_plan, store, records, scores, created)


def _speak(job: Job, whole: Plan, store: Store, ranks: Ranks, watch: Watch) -> Records:
    """Make what is missing, one system after the other, so that each has the machine to itself."""
    found: Records = {}
    missing: dict[System, list[Cell]] = {}
    for system in job.systems:
        known = {cell.item: store.record(system.name, cell.item, cell.key) for cell in whole.cells[system.name]}
        found[system.name] = {item: record for item, record in known.items() if record is not None}
        missing[system] = ranks.share([cell for cell in whole.cells[system.name] if known[cell.item] is None])
    progress = _Progress(watch, sum(map(len, missing.values())))
    numbers = {said.id: number for number, said in enumerate(whole.said)}
    for system, cells in missing.items():

        def done(item: str, record: dict[str, Any] | None, reason: str | None, system: System = system) -> None:
            found[system.name][item] = {"error": reason} if record is None else record
            if reason is not None:
                watch.message(f"{system.label}: {item} failed: {reason}")
            progress.tick(system.label)

        device = ranks.device or job.device
        several = max(1, min(job.jobs, len(cells)))
        jobs = [
            crew.Job(
                Speaking({cell.item: cell for cell in part}, store, device, job.engine, job.tag, numbers),
                tuple(cell.item for cell in part), 1 if several > 1 else 0,
            )
            for part in (cells[i::several] for i in range(several)) if part
        ]  # fmt: skip
        progress.begin(system.label)
        crew.run(jobs, several, done)
    return found


class _Progress:
    """Counts recordings and says, system by system, how long the rest may take."""

    def __init__(self, watch: Watch, total: int) -> None:
        self._watch, self._total, self._done, self._begun = watch, total, 0, time.monotonic()

    def begin(self, label: str) -> None:
        self._watch.set(self._done, self._total, f"speaking: {label}")

    def tick(self, label: str) -> None:
        self._done += 1
        self._watch.set(self._done, self._total, f"speaking: {label}")


def _gather(whole: Plan, store: Store, ranks: Ranks, mine: Records) -> Records:
    """The records of all processes; what another one could not make it tells the others."""
    failures = {
        (name, item): record["error"]
        for name, by_item in mine.items() for item, record in by_item.items() if record.get("error") is not None
    }  # fmt: skip
    told: dict[tuple[str, str], str] = {}
    for some in ranks.gather(failures):
        told |= some
    found: Records = {}
    for name, cells in whole.cells.items():
        found[name] = {}
        for cell in cells:
            record = store.record(name, cell.item, cell.key)
            found[name][cell.item] = record or {"error": told.get((name, cell.item), "it is missing")}
    return found


def _judge(job: Job, whole: Plan, records: Records, store: Store, ranks: Ranks, watch: Watch) -> Scores:
    good: Mapping[str, Mapping[str, Any]] = {
        name: {item: record for item, record in by_item.items() if record.get("error") is None}
        for name, by_item in records.items()
    }
    texts = tuple(dict.fromkeys(said.asked.text for said in whole.said))
    judge = Judge(
        store, job.metrics, texts, ranks.device or job.device, job.jobs,
        lambda done, total, what: watch.set(done, total, what), watch.message,
    )  # fmt: skip
    systems = {
        system: recordings(whole.cells[system.name], good[system.name], store) for system in job.systems
    }  # fmt: skip
    if ranks.world == 1:
        return judge(systems)
    judge({system: systems[system] for system in ranks.share(list(systems))})
    ranks.wait()
    # All others have kept theirs: what is left to do is what failed, once more, here.
    return judge(systems) if ranks.main else {}
