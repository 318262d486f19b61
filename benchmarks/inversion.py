"""To noise and back, and how likely a recording is: the shipped Voicebox on recordings with their text.

    python benchmarks/inversion.py OUT
    python benchmarks/inversion.py OUT --manifest recordings.tsv --recordings 20 --trips 4

``trips``: the relative error of the log-mel after `flowtts.solve.inversion.round_trip`, by solver, grid, steps, method
and guidance, with the evaluations both ways together. "reverse" and "fixed-point" are the two methods of that module.
``likelihoods``: nats per dimension of each recording as it is, and of the same recording under white noise, clipped, or
given other phones: how often the clean one ranks above. All estimates of one recording share their probes.

By default nothing is known and the whole recording is encoded; with ``--known 0.33`` the first third is the prompt, and
errors and likelihoods are those of the rest. The prompt is the clean recording's in all its variants. Writes
inversion.json and inversion.md into OUT.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import mean_by, save, table
from torch import Tensor

from flowtts import voice
from flowtts.audio.mel import LogMel
from flowtts.eval.manifest import read_manifest
from flowtts.path import CondOT, interpolate
from flowtts.recipes.voicebox import Voicebox
from flowtts.registry import load_recipe
from flowtts.solve.inversion import round_trip
from flowtts.solve.likelihood import log_likelihood
from flowtts.text import FrontEnd
from flowtts.types import Audio, Field, Phone, Sampling, UserError

WAYS = (
    ("midpoint", "uniform", "reverse"),
    ("midpoint", "sway", "reverse"),
    ("heun", "sway", "reverse"),
    ("rk4", "sway", "reverse"),
    ("midpoint", "uniform", "fixed-point"),
    ("midpoint", "sway", "fixed-point"),
)
"""Solver, grid and method of the round trips."""

CLEAN = "clean"


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording and what is said when.

    Attributes:
        name: of the recording.
        audio: mono, at the model's rate, whole frames.
        phones: L phones.
        durations: (L,) int64 frames.
    """

    name: str
    audio: Audio
    phones: tuple[Phone, ...]
    durations: Tensor


def noisy(audio: Audio, decibels: float, rng: np.random.Generator) -> Audio:
    """White noise at a signal-to-noise ratio, powers taken over the whole recording."""
    noise = rng.standard_normal(len(audio.samples))
    power = float(np.mean(audio.samples.astype(np.float64) ** 2)) / float(np.mean(noise**2))
    return replace(audio, samples=(audio.samples + noise * np.sqrt(power * 10 ** (-decibels / 10))).astype(np.float32))


def clipped(audio: Audio, share: float) -> Audio:
    """With this share of the samples, the loudest, cut to one level."""
    limit = np.quantile(np.abs(audio.samples), 1 - share)
    return replace(audio, samples=audio.samples.clip(-limit, limit))


def shuffled(phones: Sequence[Phone], rng: np.random.Generator) -> tuple[Phone, ...]:
    """The same sounds in another order; pauses stay where they are."""
    return respelled(phones, [phones[i] for i in rng.permutation(len(phones)) if phones[i].word >= 0])


def respelled(phones: Sequence[Phone], others: Sequence[Phone]) -> tuple[Phone, ...]:
    """The sounds of ``others``, repeated as needed, in place of those of ``phones``; pauses stay where they are."""
    sounds = [phone.symbol for phone in others if phone.word >= 0]
    places = [i for i, phone in enumerate(phones) if phone.word >= 0]
    spelled = list(phones)
    for count, place in enumerate(places):
        spelled[place] = replace(phones[place], symbol=sounds[count % len(sounds)])
    return tuple(spelled)


def variants(recording: Recording, stranger: Recording, seed: int) -> dict[str, Recording]:
    """The recording, and everything that should be less likely."""

    def rng() -> np.random.Generator:
        return np.random.default_rng(seed)

    made = {CLEAN: recording}
    for decibels in (20, 10, 0):
        made[f"noise {decibels} dB"] = replace(recording, audio=noisy(recording.audio, decibels, rng()))
    for percent in (5, 20):
        made[f"clipped {percent} %"] = replace(recording, audio=clipped(recording.audio, percent / 100))
    made["phones shuffled"] = replace(recording, phones=shuffled(recording.phones, rng()))
    made["another text"] = replace(recording, phones=respelled(recording.phones, stranger.phones))
    return made


def recordings(manifest: Path | None, count: int, seconds: float, recipe: Voicebox) -> list[Recording]:
    """Recordings of a manifest, or the shipped voices, cut between words and aligned with their text."""
    sources: list[tuple[str, Audio | str, str | None]]
    if manifest is None:
        sources = [(name, name, None) for name in voice.shipped()]
    else:
        sources = [(item.id, item.audio, item.text) for item in read_manifest(manifest).items]
    frontend, found = FrontEnd(), []
    for name, source, text in sources[:count]:
        ready = voice.prepare(source, text, recipe.spec, frontend, longest=seconds)
        found.append(Recording(name, ready.audio, ready.prompt.phones, ready.prompt.durations))
    if len(found) < 2:
        raise UserError("give at least two recordings: each one's text serves another as the wrong one")
    return found


def posed(
    recipe: Voicebox, recording: Recording, share: float, guidance: float, clean: Audio
) -> tuple[Field, Tensor, Tensor]:
    """The field of a recording, its features (1, T, C) with the clean prompt, and its unknown frames (1, T)."""
    own, prompt = (LogMel(recipe.spec)(torch.from_numpy(audio.samples)) for audio in (recording.audio, clean))
    known = torch.arange(own.shape[1]) < int(share * own.shape[1])
    features = torch.where(known[:, None], prompt, own)
    field = recipe.field(recording.phones, recording.durations, features[0], known, guidance)
    return field, features, ~known[None]


def held(field: Field, features: Tensor, unknown: Tensor, rng: torch.Generator) -> Field:
    """The field of the unknown frames, the known ones being noised to t as they were in training."""
    x0, path = torch.randn(features.shape, generator=rng), CondOT()

    def given(t: Tensor, x: Tensor) -> Tensor:
        return field(t, torch.where(unknown[..., None], x, interpolate(path, x0, features, t)[0]))

    return given


def trips(recipe: Voicebox, chosen: Sequence[Recording], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Errors of round trips, a row for each solver, grid, method, steps and guidance."""
    rows: list[dict[str, Any]] = []
    for guidance in options.guidance if chosen else ():
        for steps in options.steps:
            for solver, grid, method in WAYS:
                errors, costs, deviations = [], [], []
                for recording in chosen:
                    with torch.inference_mode():
                        field, features, unknown = posed(recipe, recording, options.known, guidance, recording.audio)
                        settings = Sampling(solver=solver, grid=grid, steps=steps)
                        trip = round_trip(field, features, settings, method=method, mask=unknown)
                    errors.append(float(trip.error))
                    costs.append(trip.nfe)
                    deviations.append(float(trip.noise[unknown].std()))
                rows.append({
                    "guidance": guidance, "steps": steps, "solver": solver, "grid": grid, "method": method,
                    "errors": errors, "median": float(np.median(errors)), "nfe": float(np.mean(costs)),
                    "deviation": float(np.mean(deviations)),
                })  # fmt: skip
                print(solver, grid, method, steps, guidance, rows[-1]["median"], file=sys.stderr, flush=True)
    return rows


def likelihoods(
    recipe: Voicebox, chosen: Sequence[Recording], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Nats per dimension by variant and recording."""
    found: dict[str, dict[str, float]] = {}
    settings = Sampling(solver="midpoint", grid="uniform", steps=options.likelihood_steps)
    for index, recording in enumerate(chosen):
        stranger = chosen[(index + 1) % len(chosen)]
        for name, variant in variants(recording, stranger, options.seed + index).items():
            rng = torch.Generator().manual_seed(options.seed + index)
            field, features, unknown = posed(recipe, variant, options.known, 1.0, recording.audio)
            if options.known:
                field = held(field, features, unknown, rng)
            result = log_likelihood(field, features, settings, mask=unknown, rng=rng, probes=options.probes)
            found.setdefault(name, {})[recording.name] = float(result.per_dimension)
        print(recording.name, {name: round(v[recording.name], 3) for name, v in found.items()}, file=sys.stderr)
    return found


def ranked(values: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """For each variant: its mean, by how much the clean recordings exceed it, and how often they do."""
    scores: dict[str, dict[str, Any]] = {}
    clean = values[CLEAN]
    for name, by in values.items():
        scores[name] = {"mean": float(np.mean(list(by.values())))}
        if name != CLEAN:
            gaps = [clean[key] - by[key] for key in by]
            scores[name]["gap"] = mean_by(gaps, list(by))
            scores[name]["above"] = float(np.mean([gap > 0 for gap in gaps]))
    return scores


def markdown(scores: Mapping[str, Any]) -> str:
    """Both tables."""
    head = ("guidance", "steps", "solver", "grid", "method", "evaluations", "error, median", "worst", "noise deviation")
    rows = [
        (r["guidance"], r["steps"], r["solver"], r["grid"], r["method"], round(r["nfe"]), f"{r['median']:.1e}",
         f"{max(r['errors']):.1e}", r["deviation"])
        for r in scores["trips"]
    ]  # fmt: skip
    ranks = [(name, s["mean"], s.get("gap"), s.get("above")) for name, s in scores["ranks"].items()]
    return table(head, rows) + "\n" + table(("recording", "nats per dimension", "clean is above by", "share"), ranks)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--manifest", type=Path, help="audio and text of recordings; the shipped voices by default")
    parser.add_argument("--model", default="voicebox")
    parser.add_argument("--recordings", type=int, default=6)
    parser.add_argument("--trips", type=int, default=2, help="recordings of the round trips; 0 for none")
    parser.add_argument("--seconds", type=float, default=2.0, help="used of each recording")
    parser.add_argument("--known", type=float, default=0.0, help="share of the frames that is the prompt")
    parser.add_argument("--steps", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 1.3])
    parser.add_argument("--likelihood-steps", type=int, default=32)
    parser.add_argument("--probes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not 0 <= options.known < 1:
        parser.error("--known must be at least 0 and less than 1")
    recipe = load_recipe(options.model)
    if not isinstance(recipe, Voicebox):
        raise UserError(f"the model {options.model} is no Voicebox")
    recipe.audio.requires_grad_(False)
    chosen = recordings(options.manifest, options.recordings, options.seconds, recipe)
    values = likelihoods(recipe, chosen, options)
    scores = {
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()},
        "frames": {recording.name: int(recording.durations.sum()) for recording in chosen},
        "trips": trips(recipe, chosen[: options.trips], options),
        "likelihoods": values,
        "ranks": ranked(values),
    }
    save(options.out, "inversion", scores, markdown(scores))
    print(markdown(scores))


if __name__ == "__main__":
    main()
