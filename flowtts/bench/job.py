"""What a benchmark is asked for, and what follows from that before anything is spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from flowtts.bench.models import Loaded
from flowtts.bench.sentences import Sentence
from flowtts.bench.settings import Choices, Cost, Setting, estimate, expand, reference_of
from flowtts.bench.speak import Utterance, solves
from flowtts.registry import load_metric
from flowtts.request import check
from flowtts.types import Sampling, UserError


class Watch(Protocol):
    """Who is told how far it is."""

    def set(self, done: int, total: int | None = None, description: str | None = None) -> None:
        """So much of so much is done."""
        ...

    def message(self, text: str) -> None:
        """A line worth keeping."""
        ...


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        rows: settings to multiply, each with at least ``model``.
        sentences: what is said.
        voices: shipped names or recordings; every sentence is said in every one.
        metrics: names of ``flowtts evaluate``.
        reference: what to change about the converged run, by key of a setting.
        seed: of durations and noise.
        jobs: processes that judge.
        vocoder: name or folder.
        device: as everywhere.
        engine: as everywhere.
        fit: where to write a grid fitted to the (only) model, before anything else.
    """

    rows: tuple[Choices, ...]
    sentences: tuple[Sentence, ...]
    voices: tuple[str, ...]
    metrics: tuple[str, ...]
    reference: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    jobs: int = 1
    vocoder: str = "auto"
    device: str = "auto"
    engine: str = "auto"
    fit: Path | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that is needed, once, in the order they are named."""
        named = [model for row in self.rows for model in row["model"]]
        return tuple(dict.fromkeys([*named, *([self.reference["model"]] if "model" in self.reference else [])]))

    def unfitted(self, setting: Setting) -> bool:
        """Whether the grid of a setting is still to be fitted, so that nobody can look at it yet."""
        return self.fit is not None and setting.sampling.grid == str(self.fit)


@dataclass(frozen=True)
class Outline:
    """What will be done.

    Attributes:
        settings: in the order they are measured, references first.
        reference: the converged run of each setting; a reference is its own.
        costs: of one solve of each setting, None where only doing it can tell.
        utterances: sentences times voices.
        solves: of each setting: one per part of each utterance, and those of the first one, which is discarded.
    """

    settings: tuple[Setting, ...]
    reference: Mapping[Setting, Setting]
    costs: Mapping[Setting, Cost | None]
    utterances: tuple[Utterance, ...]
    solves: int

    def calls(self, settings: Sequence[Setting]) -> int:
        """Network calls that some of the settings cost together, as far as that is known."""
        return sum(cost.network_calls * self.solves for one in settings if (cost := self.costs[one]) is not None)

    def said(self) -> list[tuple[str, str]]:
        """(id, text) of every utterance."""
        return [(one.id, one.sentence.text) for one in self.utterances]

    def as_json(self) -> dict[str, Any]:
        """For ``--dry-run --json``."""
        rows = []
        for setting in self.settings:
            cost = self.costs[setting]
            rows.append({
                "name": setting.name, **setting.as_json(), "reference": self.reference[setting] == setting,
                "nfe": None if cost is None else cost.nfe,
                "network_calls": None if cost is None else cost.network_calls,
            })  # fmt: skip
        return {"settings": rows, "utterances": len(self.utterances), "network_calls": self.calls(self.settings)}


def check_early(job: Job) -> None:
    """Find what can be found before anything is loaded.

    Raises:
        UserError: an unknown solver, grid or metric, a number out of range, a grid to be fitted to several models.
    """
    if job.fit is not None and len(job.models) > 1:
        raise UserError(f"--fit-grid fits a grid to one model, not to {', '.join(job.models)}; give one --model")
    for name in job.metrics:
        load_metric(name)
    settings = expand(job.rows, lambda model: Sampling())
    for one in dict.fromkeys([*settings, *(reference_of(one, job.reference) for one in settings)]):
        if not job.unfitted(one):
            check(job.seed, one.sampling, 1)


def outline(job: Job, loaded: Loaded) -> Outline:
    """What a job will do; everything that can be found wrong without speaking is found here.

    Raises:
        UserError: text that cannot be said, a metric that cannot be had, a setting that makes no sense.
    """
    # Every text before any setting: what is wrong with a sentence is to be said of the sentence.
    parts = [solves(loaded.chunks(model, one)) for model in job.models[:1] for one in loaded.utterances]
    settings = expand(job.rows, loaded.recommended)
    reference = {one: reference_of(one, job.reference) for one in settings}
    ordered = tuple(dict.fromkeys([*reference.values(), *settings]))
    reference.update({one: one for one in reference.values()})
    for one in ordered:
        if not job.unfitted(one):
            loaded.check(one)
    costs = {one: estimate(one.sampling) for one in ordered}
    return Outline(ordered, reference, costs, loaded.utterances, sum(parts) + parts[0])
