"""What a comparison found, as it stands in ``report.json``: everything that the page and the tables are made of.

Plain values only, so that the file is the object. A number that could not be had is None, with a reason beside it.
Whatever depends on the clock is under ``times``, ``took``, ``created`` and ``machine``, and nowhere else: two runs of
the same command differ there alone.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

FORMAT = 1

Kind = Literal["model", "copy", "recordings", "folder"]
"""A recipe; recordings through a vocoder; the recordings themselves; finished audio of some other program."""


class Figure(TypedDict):
    """A mean with its 95 % interval; all None where there is nothing to average."""

    value: float | None
    low: float | None
    high: float | None


class Prompt(TypedDict):
    """What is said, by whom. Paths are relative to the folder of the report.

    ``task`` is "say" or "edit" (then ``voice_text`` is what the recording says and ``text`` what it is to say).
    ``speaker`` groups prompts whose voices belong to one person. ``set`` names the set that it comes from.
    """

    id: str
    set: str
    task: str
    text: str
    speaker: str
    voice: str
    voice_text: str | None
    voice_audio: str | None
    reference_audio: str | None


class System(TypedDict):
    """A column of the comparison: something that was asked for every prompt.

    ``name`` names folders and is unique; ``label`` is for people. ``settings`` is what was asked for and, where that
    leaves it open, what the model recommends (solver, grid, steps, guidance ...); ``hash`` is of all that decides what
    it makes, weights included, whose licence ``licence`` is. ``times`` is None for finished audio without timings:
    {"rtf": Figure, "cold_seconds", "warm_rtf", "load_seconds", "peak_memory_mb"}, each None where unknown. ``nfe`` and
    ``network_calls`` are means per recording.
    """

    name: str
    label: str
    kind: Kind
    source: str
    hash: str
    licence: str | None
    settings: dict[str, Any]
    seeds: list[int]
    made: int
    failed: int
    error: str | None
    seconds: float
    nfe: float | None
    network_calls: float | None
    times: dict[str, Any] | None


class MetricInfo(TypedDict):
    """A row of the table of metrics.

    ``rate`` metrics are shown in per cent; ``level`` "set" has no values by item. ``higher_is_better`` is None where
    neither is, such as for the speaking rate: systems have no ranks there, though they may differ.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool | None
    rate: bool
    level: Literal["item", "set"]
    backend: str
    sample_rate: int
    paper: str


class Score(TypedDict):
    """A metric of a system: over prompts, and the interval if whole speakers are drawn instead.

    ``rank`` counts from 1; systems that do not differ for certain share one. ``dropped`` holds the items (see ``Row``)
    that could not be judged, with the reason; a recording that failed is there too. ``count`` items were judged.
    """

    value: float | None
    low: float | None
    high: float | None
    speaker_low: float | None
    speaker_high: float | None
    count: int
    dropped: dict[str, str]
    rank: int | None


class Difference(TypedDict):
    """Two systems on the prompts that both were judged on: a minus b.

    ``p`` is of a permutation test of the paired differences (signs flipped at random), ``adjusted`` after Holm's
    correction over all pairs of this metric, ``real`` whether that is below 0.05.
    """

    metric: str
    a: str
    b: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    adjusted: float | None
    pairs: int
    real: bool


class Row(TypedDict):
    """One recording of one system, or the reason why there is none.

    ``item`` is the prompt's id, with the seed (".s1") where there are several. ``audio`` is relative to the folder,
    ``error`` one line. ``heard`` holds by recogniser (the metric's name) what it heard, ``scores`` and ``dropped`` by
    metric the value or the reason. ``words`` are word times {text, start, end} where the system gave them. ``spans``
    are an edit's.
    """

    system: str
    prompt: str
    item: str
    seed: int
    audio: str | None
    audio_hash: str | None
    seconds: float | None
    sample_rate: int | None
    error: str | None
    nfe: int | None
    network_calls: int | None
    took: float | None
    heard: dict[str, str]
    scores: dict[str, float | None]
    dropped: dict[str, str]
    words: list[dict[str, Any]]
    spans: list[dict[str, Any]]


class Result(TypedDict):
    """The whole of ``report.json``. ``ratings`` is what listeners said, see ``flowtts.compare.ratings``, or None."""

    format: int
    title: str
    command: str
    created: str
    machine: dict[str, Any]
    versions: dict[str, str]
    tagged: bool
    sets: list[dict[str, Any]]
    prompts: list[Prompt]
    systems: list[System]
    metrics: list[MetricInfo]
    scores: dict[str, dict[str, Score]]
    differences: list[Difference]
    items: list[Row]
    ratings: dict[str, Any] | None
