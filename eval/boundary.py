"""Whether the joins of an edit are any more abrupt than the boundaries between words nobody has touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowtts.edit.joins import QUANTILE, TOLERANCE, WINDOW, Discontinuity, Limits, discontinuity, limits, natural
from flowtts.types import Audio, Score, UserError

from .bootstrap import NOTHING, ratio_interval
from .edit_items import EditItem, EditSpan, Sound, aligned, names, sound
from .judging import Progress, no_progress, score


@dataclass(frozen=True)
class Join:
    """A join of an edit.

    Attributes:
        at: seconds in the output.
        found: how abrupt it is.
    """

    at: float
    found: Discontinuity


def places(spans: Sequence[EditSpan], sample_rate: int) -> list[float]:
    """Where the joins lie in the output, seconds.

    A patch begins and ends with a cross-fade of 5 to 20 ms, so a join is looked for 10 ms inside its edges with the
    tolerance of ``discontinuity``, which covers the cross-fade from end to end. A patch too short for two is one join.
    """
    found = []
    for span in spans:
        start, end = span.start_out / sample_rate, span.end_out / sample_rate
        found += [(start + end) / 2] if end - start < 4 * TOLERANCE else [start + TOLERANCE, end - TOLERANCE]
    return found


def joins(output: Audio, spans: Sequence[EditSpan]) -> list[Join]:
    """Every join that has sound on both sides; the ends of the recording are none.

    Args:
        output: what was made.
        spans: its patches.
    """
    found = []
    for at in places(spans, output.sample_rate):
        try:
            found.append(Join(at, discontinuity(output, at)))
        except ValueError:
            continue
    return found


def natural_boundaries(
    items: Sequence[EditItem], progress: Progress = no_progress
) -> tuple[dict[str, list[Discontinuity]], dict[str, str]]:
    """The word boundaries of the unedited recordings, each recording once, and why some have none, by item."""
    found: dict[str, list[Discontinuity]] = {}
    failed: dict[str, str] = {}
    seen: set[object] = set()
    for done, (name, item) in enumerate(zip(names(items), items, strict=True)):
        progress("boundary", done, len(items))
        key: Sound = item.input
        if key in seen:
            continue
        seen.add(key)
        try:
            found[name] = natural(sound(item.input), aligned(item.input, item.text))
        except UserError as error:
            failed[name] = f"its recording cannot be aligned: {error}"
    progress("boundary", len(items), len(items))
    return found, failed


def judge_boundaries(
    items: Sequence[EditItem],
    boundaries: Mapping[str, Sequence[Discontinuity]] | None = None,
    progress: Progress = no_progress,
) -> dict[str, Score]:
    """``boundary``: share of joins within the 95th percentile of natural boundaries, in colour and level.

    ``boundary-natural`` is the share of the natural boundaries themselves, the value of a perfect editor; it is below
    0.95 because both must pass. Higher is better for both.

    Args:
        items: edits.
        boundaries: of ``natural_boundaries``, where they were measured before.
        progress: called per recording.
    """
    failed: dict[str, str] = {}
    if boundaries is None:
        boundaries, failed = natural_boundaries(items, progress)
    everything = [found for some in boundaries.values() for found in some]
    if not everything:
        missing = {name: failed.get(name, "no recording has natural boundaries") for name in names(items)}
        return {key: score(NOTHING, {}, missing, "-", 0) for key in ("boundary", "boundary-natural")}
    allowed = limits(everything)
    passed: dict[str, int] = {}
    counts: dict[str, int] = {}
    dropped: dict[str, str] = {}
    rates: set[int] = set()
    for name, item in zip(names(items), items, strict=True):
        output = sound(item.output)
        rates.add(output.sample_rate)
        own = joins(output, item.spans)
        if own:
            passed[name], counts[name] = sum(allowed.allow(join.found) for join in own), len(own)
        else:
            dropped[name] = "it has no join with sound on both sides"
    backend = describe(allowed, len(everything))
    interval = ratio_interval(list(passed.values()), list(counts.values()))
    shares = {name: passed[name] / counts[name] for name in passed}
    good = {name: sum(map(allowed.allow, some)) for name, some in boundaries.items() if some}
    whole = {name: len(boundaries[name]) for name in good}
    ceiling = ratio_interval(list(good.values()), list(whole.values()))
    rate = min(rates) if rates else 0
    return {
        "boundary": score(interval, shares, dropped, backend, rate, counts),
        "boundary-natural": score(
            ceiling, {name: good[name] / whole[name] for name in good}, failed, backend, rate, whole
        ),
    }


def describe(allowed: Limits, count: int) -> str:
    """For the score."""
    return (
        f"{1000 * WINDOW:.0f} ms on either side; limits {allowed.spectral:.1f} dB of colour and {allowed.level:.1f} dB "
        f"of level (quantile {QUANTILE:g} of {count} word boundaries)"
    )
