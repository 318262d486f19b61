"""Saying everything, setting by setting, and what that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor

from flowtts.audio.io import write
from flowtts.bench.job import Job, Outline, Watch
from flowtts.bench.models import Loaded
from flowtts.bench.settings import Setting
from flowtts.bench.speak import Spoken, solves
from flowtts.bench.statistics import interval
from flowtts.bench.store import Store, key_of, machine
from flowtts.crew import reason_of
from flowtts.types import UserError


class Measurement:
    """Says everything, setting by setting."""

    def __init__(self, job: Job, plan: Outline, loaded: Loaded, store: Store, watch: Watch) -> None:
        self._job, self._plan, self._loaded, self._store, self._watch = job, plan, loaded, store, watch
        self._keys: dict[Setting, str] = {}
        self._called, self._begun = 0.0, time.perf_counter()

    def speak_all(self) -> dict[Setting, dict[str, Any]]:
        """The entry of every setting; one that failed has an ``error``."""
        entries: dict[Setting, dict[str, Any]] = {}
        features: tuple[str, dict[str, Tensor] | None] = ("", None)
        for number, setting in enumerate(self._plan.settings):
            reference = self._plan.reference[setting]
            if reference != setting and features[0] != reference.name:
                good = entries[reference].get("error") is None
                features = reference.name, self._store.features(reference.name) if good else None
            converged = None if reference == setting else features[1]
            key = self._key(setting, converged is not None)
            entry = self._store.load(setting.name, key, self._plan.utterances)
            if entry is not None and reference == setting and self._store.features(setting.name) is None:
                entry = None
            if entry is None:
                entry = self._speak(setting, key, converged, self._plan.settings[number:])
            entries[setting] = entry
        return entries

    def _key(self, setting: Setting, compared: bool) -> str:
        """Whatever decides the recordings and the times."""
        reference = self._plan.reference[setting]
        key = key_of({
            **self._loaded.identity(setting), "setting": setting.as_json(), "seed": self._job.seed,
            "utterances": self._plan.said(),
            "reference": self._keys[reference] if compared else reference == setting,
            "machine": machine(self._loaded.device), "torch": torch.__version__,
        })  # fmt: skip
        self._keys[setting] = key
        return key

    def _speak(
        self, setting: Setting, key: str, converged: Mapping[str, Tensor] | None, left: Sequence[Setting]
    ) -> dict[str, Any]:
        self._store.forget(setting.name)
        whole = self._plan.calls(left)
        self._watch.set(0, whole, str(setting))

        def tick(calls: float) -> None:
            self._called += calls
            done[0] += calls
            self._watch.set(round(done[0]), max(whole, round(done[0])), str(setting))

        done = [0.0]
        try:
            made, features = self._measure(setting, converged, tick)
        except Exception as error:  # a setting must not cost the others their results; its row says why
            self._store.forget(setting.name)
            self._watch.message(f"{setting}: failed: {reason_of(error)}")
            return {"error": reason_of(error)}
        entry = {"key": key, "error": None, "made": made, "scores": {}}
        if self._plan.reference[setting] == setting:
            self._store.save_features(setting.name, features)
        self._store.save(setting.name, entry)
        rate = (time.perf_counter() - self._begun) / max(self._called, 1)
        minutes = max(0.0, whole - done[0]) * rate / 60
        self._watch.message(f"{setting}: {_brief(made)}; about {minutes:.0f} min of speaking left")
        return entry

    def _measure(
        self, setting: Setting, converged: Mapping[str, Tensor] | None, tick: Callable[[float], None]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Say every utterance; the first one once more before that, because first calls allocate and compile."""
        speaker, first = self._loaded.speakers[setting.model], self._plan.utterances[0]
        self._store.audio(setting.name).mkdir(parents=True, exist_ok=True)
        spoken: dict[str, Spoken] = {}
        for number, utterance in enumerate((first, *self._plan.utterances)):
            chunks = self._loaded.chunks(setting.model, utterance)
            made = speaker.say(utterance, setting.sampling, chunks)
            tick(made.network_calls * solves(chunks))
            if number:
                write(self._store.audio(setting.name, utterance), made.audio)
                spoken[utterance.id] = made
        features = {id: one.features for id, one in spoken.items()}
        mel = None if converged is None else _distances(features, converged)
        every = list(spoken.values())
        return {
            "nfe": _whole(fmean(one.nfe for one in every)),
            "network_calls": _whole(fmean(one.network_calls for one in every)),
            "sampling": {
                **_times([(one.sampling, one.audio.seconds) for one in every]),
                "cpu_seconds": median(one.busy for one in every),
            },
            "whole": _times([(one.whole, one.audio.seconds) for one in every]),
            "seconds": sum(one.audio.seconds for one in every),
            "mel": None if mel is None else {**interval(list(mel.values())), "items": mel},
        }, features  # fmt: skip


def _brief(made: Mapping[str, Any]) -> str:
    far = "" if made["mel"] is None else f", mel {made['mel']['value']:.4f}"
    return f"{made['network_calls']:g} calls, {made['sampling']['seconds']:.2f} s, rtf {made['whole']['rtf']:.3f}{far}"


def _whole(value: float) -> float | int:
    return round(value) if float(value).is_integer() else value


def _times(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Medians of seconds, and of seconds per second of sound."""
    return {"seconds": median(took for took, _ in pairs), "rtf": median(took / lasts for took, lasts in pairs)}


def _distances(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean absolute difference of the features of each utterance.

    Raises:
        UserError: models of unlike features or durations cannot be compared.
    """
    for id, features in mine.items():
        if theirs[id].shape != features.shape:
            raise UserError(f"{id}: features {tuple(features.shape)} cannot be compared with {tuple(theirs[id].shape)}")
    return {id: float((features - theirs[id]).abs().mean()) for id, features in mine.items()}
