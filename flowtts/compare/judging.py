"""Judging what was made: every metric over every system, in parts; values are kept with what decides them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowtts.audio.io import read
from flowtts.bench.store import key_of
from flowtts.checkpoint import digest
from flowtts.compare.plan import Cell
from flowtts.compare.store import Store
from flowtts.compare.systems import System, identity
from flowtts.crew import Job, run
from flowtts.registry import edit_scores, load_metric, load_metrics, metric_identity, metric_info
from flowtts.types import Audio, Item, Score, UserError

AT_ONCE = 20
"""Recordings between two saves: a judge loads its model for each part."""

SET = "set"
"""The name under which the score of a metric that looks at all recordings together is kept."""

NO_VOCODER = {"dropped": "the system has no vocoder to send the prompt through", "backend": "", "sample_rate": 0}

EDITS = "edits"
"""The family of metrics of edits, which look at the spans too."""

Scores = dict[str, dict[str, dict[str, Any]]]
"""By system and metric: by item, or under ``SET``."""


@dataclass(frozen=True)
class Piece:
    """What is judged at once: some recordings of a system by metrics that share work."""

    system: str
    metrics: tuple[str, ...]
    items: tuple[str, ...]


@dataclass(frozen=True)
class Recording:
    """A recording with all that judges ask about it, by path, so that another process can read it.

    Attributes:
        item: its name.
        audio: what was made.
        text: what it should say.
        voice: whose voice it should have.
        voice_text: what the voice's recording says; of an edit what was said before.
        reference: a recording of the text.
        record: how it was made.
        task: "say" or "edit".
    """

    item: str
    audio: Path
    text: str
    voice: Path
    voice_text: str | None
    reference: Path | None
    record: Mapping[str, Any]
    task: str

    def decides(self) -> dict[str, Any]:
        """What decides any score of it."""
        reference = None if self.reference is None else digest(self.reference)
        return {
            "audio": self.record["audio_hash"], "text": self.text, "voice": digest(self.voice), "reference": reference,
            "before": self.voice_text if self.task == "edit" else None, "spans": self.record["spans"],
        }  # fmt: skip


def recordings(cells: Iterable[Cell], records: Mapping[str, Mapping[str, Any]], store: Store) -> list[Recording]:
    """Those of a system that could be made."""
    return [
        Recording(
            cell.item, store.folder / records[cell.item]["audio"], cell.said.asked.text, cell.said.voice,
            cell.said.voice_text, cell.said.reference, records[cell.item], cell.said.asked.task,
        )
        for cell in cells if cell.item in records
    ]  # fmt: skip


@dataclass(frozen=True)
class Judging:
    """Judges recordings, in another process. Called, it gives the function that judges a piece.

    Attributes:
        recordings: by system and item.
        texts: all that may be said, for recognisers that know it.
        vocoders: of the systems that have one, for ``sim-r``.
        device: where neural judges compute.
    """

    recordings: Mapping[str, Mapping[str, Recording]]
    texts: tuple[str, ...]
    vocoders: Mapping[str, str | None]
    device: str

    def __call__(self) -> Callable[[Piece], dict[str, dict[str, Any]]]:
        """Nothing is loaded before it is needed."""
        sounds: dict[Path, Audio] = {}

        def sound(path: Path | None) -> Audio | None:
            if path is not None and path not in sounds:
                sounds[path] = read(path)
            return None if path is None else sounds[path]

        def work(piece: Piece) -> dict[str, dict[str, Any]]:
            chosen = [self.recordings[piece.system][item] for item in piece.items]
            if piece.metrics == (EDITS,):
                scores = {name: _whole(score) for name, score in edit_scores([_edit(one) for one in chosen]).items()}
                return {EDITS: {SET: {"scores": scores}}}
            items = [
                Item(read(one.audio), one.text, sound(one.reference), sound(one.voice), one.item) for one in chosen
            ]
            judges = load_metrics(piece.metrics, **self._context(piece))
            return {
                metric: {SET: _whole(judge(items))} if _is_whole(metric) else _by_item(judge(items), piece.items)
                for metric, judge in zip(piece.metrics, judges, strict=True)
            }

        return work

    def _context(self, piece: Piece) -> dict[str, Any]:
        context: dict[str, Any] = {"device": _device(self.device), "texts": self.texts}
        vocoder = self.vocoders.get(piece.system)
        if vocoder is not None and any("vocoder" in _needs(metric) for metric in piece.metrics):
            context["resynthesise"] = _resynthesis(vocoder, self.device)
        return context


def _device(name: str) -> str:
    from flowtts.device import choose_device

    return str(choose_device(name))


def _needs(metric: str) -> Sequence[str]:
    """What a metric asks for, see ``flowtts.eval.table.Need``; edits are heard by recognisers that know all texts."""
    needs: Sequence[str] = ("texts",) if metric == EDITS else metric_info(metric)["needs"]
    return needs


def _is_whole(metric: str) -> bool:
    """Whether a metric judges all recordings together."""
    return metric == EDITS or metric_info(metric)["level"] == "set"


def _resynthesis(vocoder: str, device: str) -> Callable[[Audio], Audio]:
    from functools import partial

    from flowtts.copying import copy
    from flowtts.device import choose_device
    from flowtts.registry import load_vocoder

    return partial(copy, load_vocoder(vocoder, None, choose_device(device)))


def _edit(one: Recording) -> dict[str, Any]:
    """An edit as ``flowtts.registry.edit_scores`` wants it."""
    return {
        "id": one.item, "input": one.voice, "output": one.audio, "text": one.voice_text or "", "to": one.text,
        "spans": one.record["spans"], "words": one.record["words"], "reference": one.reference,
    }  # fmt: skip


def _by_item(score: Score, part: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What is kept of each item; one that the judge forgot counts as dropped."""
    about = {"backend": score.backend, "sample_rate": score.sample_rate}
    found: dict[str, dict[str, Any]] = {}
    for item in part:
        value = score.items.get(item)
        if value is None or not math.isfinite(value):
            found[item] = {"dropped": score.dropped.get(item, "the judge gave no number"), **about}
        else:
            found[item] = {"value": value, "weight": score.weights.get(item, 1.0), **about}
        if item in score.heard:
            found[item]["heard"] = score.heard[item]
    return found


def _whole(score: Score) -> dict[str, Any]:
    """What is kept of a score of a set."""
    value, low, high = (x if math.isfinite(x) else None for x in (score.value, score.low, score.high))
    return {
        "value": value, "low": low, "high": high, "count": score.count, "dropped": dict(score.dropped),
        "items": {item: x for item, x in score.items.items() if math.isfinite(x)}, "weights": dict(score.weights),
        "backend": score.backend, "sample_rate": score.sample_rate,
    }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges a whole comparison.

    Attributes:
        store: where scores are kept.
        metrics: spellings.
        texts: all that is said.
        device: where neural judges compute.
        jobs: processes at a time.
        watch: called with (recordings judged, of how many, what is judged).
        message: called with a line worth keeping.
    """

    store: Store
    metrics: tuple[str, ...]
    texts: tuple[str, ...]
    device: str
    jobs: int
    watch: Callable[[int, int, str], None]
    message: Callable[[str], None]

    def __call__(self, systems: Mapping[System, Sequence[Recording]]) -> Scores:
        """Scores of everything, those that are known taken as they are."""
        found: Scores = {system.name: {} for system in systems}
        keys: Keys = {}
        pieces: list[Piece] = []
        for metrics in [*_together(self.metrics), (EDITS,)]:
            for system, all_of in systems.items():
                chosen = [one for one in all_of if one.record["spans"] or metrics != (EDITS,)]
                if not chosen and metrics == (EDITS,):
                    continue
                missing: dict[str, None] = {}
                for metric in metrics:
                    if system.vocoder is None and "vocoder" in _needs(metric):
                        found[system.name][metric] = {one.item: NO_VOCODER for one in chosen}
                        continue
                    mine = keys[system.name, metric] = self._keys(system, metric, chosen)
                    known = self.store.scores(system.name, name_of(metric))
                    kept = {item: known[item] for item, key in mine.items() if known.get(item, {}).get("key") == key}
                    found[system.name][metric] = kept
                    missing |= dict.fromkeys(item for item in mine if item not in kept)
                pieces += _pieces(system.name, metrics, [one.item for one in chosen], list(missing))
        start = Judging(
            {system.name: {one.item: one for one in all_of} for system, all_of in systems.items()}, self.texts,
            {system.name: system.vocoder for system in systems}, self.device,
        )  # fmt: skip
        self._run(pieces, start, found, keys)
        return found

    def _keys(self, system: System, metric: str, chosen: Sequence[Recording]) -> dict[str, str]:
        """By item, or for the set, the hash of all that decides a score."""
        if not chosen:
            return {}
        needs = _needs(metric)
        decides: dict[str, Any] = {"metric": metric if metric == EDITS else metric_identity(metric)}
        if "texts" in needs:
            decides["texts"] = self.texts
        if "vocoder" in needs:
            decides["vocoder"] = identity(system).get("vocoder")
        if _is_whole(metric):
            return {SET: key_of({**decides, "items": [(one.item, one.decides()) for one in chosen]})}
        return {one.item: key_of({**decides, **one.decides()}) for one in chosen}

    def _run(self, pieces: Sequence[Piece], start: Judging, found: Scores, keys: Keys) -> None:
        """Judge, and keep what was judged as it comes."""
        total, ended = sum(len(piece.items) for piece in pieces), 0
        again: list[Piece] = []

        def done(piece: Piece, result: Any, reason: str | None) -> None:
            nonlocal ended
            names = ", ".join(map(name_of, piece.metrics))
            if reason is not None and len(piece.items) > 1 and not _is_whole(piece.metrics[0]):
                # Whichever of them it was, the others shall have their scores.
                again.extend(Piece(piece.system, piece.metrics, (item,)) for item in piece.items)
                return
            ended += len(piece.items)
            self.watch(ended, total, f"judging {piece.system} by {names}")
            if reason is not None:
                self.message(f"{piece.system}: {names} failed: {reason}")
                # Not kept: what failed for a reason outside may work the next time.
                failure = {"dropped": f"the judge failed: {reason}", "backend": "", "sample_rate": 0}
                items = (SET,) if _is_whole(piece.metrics[0]) else piece.items
                result = {metric: dict.fromkeys(items, failure) for metric in piece.metrics}
            for metric, by_item in result.items():
                self._keep(piece.system, metric, by_item, found, keys)

        several = self.jobs > 1
        left = list(pieces)
        while left:
            parts = [tuple(left[i :: self.jobs]) for i in range(self.jobs)]
            run([Job(start, part, 1 if several else 0) for part in parts], self.jobs, done)
            left, again[:] = list(again), []

    def _keep(self, system: str, metric: str, by_item: Mapping[str, Any], found: Scores, keys: Keys) -> None:
        own, mine = keys[system, metric], found[system][metric]
        for item, one in by_item.items():
            failed = str(one.get("dropped", "")).startswith("the judge failed") and not one.get("backend")
            mine[item] = one if failed else {"key": own[item], **one}
        self.store.save_scores(system, name_of(metric), {item: one for item, one in mine.items() if "key" in one})


Keys = dict[tuple[str, str], dict[str, str]]
"""By system and metric: by item, or under ``SET``, the hash of all that decides a score."""


def _pieces(system: str, metrics: tuple[str, ...], items: Sequence[str], missing: Sequence[str]) -> list[Piece]:
    """What is missing, in parts; metrics of sets see all items."""
    if SET in missing:
        return [Piece(system, metrics, tuple(items))]
    return [Piece(system, metrics, tuple(missing[i : i + AT_ONCE])) for i in range(0, len(missing), AT_ONCE)]


def _together(metrics: Sequence[str]) -> list[tuple[str, ...]]:
    """Metrics in groups that share work; a group judges by items or sets, not both."""
    groups: dict[Any, list[str]] = {}
    for metric in metrics:
        shares = metric_info(metric)["shares"]
        groups.setdefault((shares, _is_whole(metric)) if shares else metric, []).append(metric)
    return [tuple(group) for group in groups.values()]


def name_of(metric: str) -> str:
    """A metric's name without its options, as files and reports have it."""
    return metric.partition(":")[0]


def check(metrics: Sequence[str]) -> None:
    """Find what is wrong with metrics before anything is made.

    Raises:
        UserError: unknown, twice, not usable here, or of no use in a comparison.
    """
    names = [name_of(metric) for metric in metrics]
    for metric, name in zip(metrics, names, strict=True):
        if name == "rtf":
            raise UserError("speed is always measured: leave rtf out of the metrics")
        if names.count(name) > 1:
            raise UserError(f"the metric {name!r} is asked for twice; name it once")
        # Which vocoder it will be is not known yet; that the rest is here can be.
        context = {"resynthesise": _as_it_is} if "vocoder" in metric_info(metric)["needs"] else {}
        load_metric(metric, **context)


def _as_it_is(audio: Audio) -> Audio:
    return audio
