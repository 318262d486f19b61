"""What every kind of editing works with: the models, and a stretch of speech made with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowtts.edit.canvas import SILENCE, Layout
from flowtts.edit.window import Window
from flowtts.provenance.tag import embed
from flowtts.request import derive
from flowtts.tasks import Infilling
from flowtts.text import FrontEnd
from flowtts.types import Audio, FeatureSpec, Recipe, Samples, Sampling, Utterance, Vocoder

CONTEXT = 14.0
"""Seconds: most that one call of the model sees, so that memory does not grow with the recording."""

PIECE = 8.0
"""Seconds: most that one call generates between known frames; longer stretches are made in turn."""

ENOUGH = 3.0
"""Seconds of kept speech that tell the voice; with less, the source recording is put in front."""

PROMPT = 6.0
"""Seconds of it that are used."""

_BLOCK, _OVERLAP = 2000, 50
"""Frames that are vocoded at once, and known ones on either side whose sound is thrown away."""


@dataclass(frozen=True, eq=False)
class Studio:
    """The models.

    Attributes:
        recipe: what makes features.
        filler: the same, as one that can infill.
        vocoder: what makes them audible.
        spec: of the features.
        frontend: reads texts.
        model: name of the recipe, for the sidecar.
        hash: of its weights.
        engine: that it computes with, for the sidecar.
        tag: whether what it makes carries the tag of ``flowtts.provenance``.
    """

    recipe: Recipe
    filler: Infilling
    vocoder: Vocoder
    spec: FeatureSpec
    frontend: FrontEnd
    model: str
    hash: str
    engine: str = "eager"
    tag: bool = False

    def sound(self, features: Tensor, gain: float) -> Samples:
        """(T, C) features to (T * hop_length,) samples at the level of a recording that ``gain`` was applied to."""
        made = []
        for start in range(0, len(features), _BLOCK):
            low, high = max(0, start - _OVERLAP), min(len(features), start + _BLOCK + _OVERLAP)
            with torch.no_grad():
                samples = self.vocoder.decode(features[None, low:high])[0].float().cpu().numpy()
            hop = self.spec.hop_length
            made.append(samples[(start - low) * hop :][: (min(len(features), start + _BLOCK) - start) * hop])
        joined: Samples = (np.concatenate(made) / np.float32(gain)).astype(np.float32)
        return embed(Audio(joined, self.spec.sample_rate)).samples if self.tag else joined


@dataclass(frozen=True, eq=False)
class Filled:
    """What was generated.

    Attributes:
        features: (T, C) of the whole target.
        nfe: evaluations of the field.
        network_calls: calls of the network.
    """

    features: Tensor
    nfe: int
    network_calls: int


def jobs(layout: Layout, frame_rate: float) -> list[tuple[int, int]]:
    """Frames [start, end) that one call of the model generates each: stretches near each other together.

    A stretch longer than ``PIECE`` is cut in its pauses, or else between words.
    """
    longest = int(PIECE * frame_rate)
    found: list[tuple[int, int]] = []
    for stretch in layout.stretches:
        if stretch.cut:
            continue
        if found and stretch.end - found[-1][0] <= longest:
            found[-1] = (found[-1][0], stretch.end)
        elif stretch.end - stretch.start <= longest:
            found.append((stretch.start, stretch.end))
        else:
            found += _pieces(layout, stretch.start, stretch.end, longest)
    return found


def _pieces(layout: Layout, start: int, end: int, longest: int) -> list[tuple[int, int]]:
    rows = zip(layout.canvas.slots, layout.starts[1:], layout.durations, strict=True)
    words = {last for _, last in layout.word_frames().values() if start < last < end}
    pauses = {int(last) for slot, last, n in rows if slot.phone.word < 0 and n >= SILENCE and start < last < end}
    found, at = [], start
    while end - at > longest:
        # Halves rather than a long and a tiny piece.
        aim = min(longest, (end - at + 1) // 2 if end - at < 2 * longest else longest)
        inside = [e for e in pauses if at + aim // 3 <= e <= at + longest] or [
            e for e in words if at < e <= at + longest
        ]
        stop = min(inside, key=lambda edge: abs(edge - at - aim)) if inside else at + aim
        found.append((at, stop))
        at = stop
    return [*found, (at, end)]


def fill(
    studio: Studio, window: Window, layout: Layout, sampling: Sampling, seed: int, prompt: bool,
    report: Callable[[], None],
) -> Filled:  # fmt: skip
    """Generate all stretches of a layout.

    Args:
        studio: the models.
        window: the source.
        layout: the target.
        sampling: how to sample.
        seed: of the noise.
        prompt: whether the source may be put in front where little of it is kept.
        report: called after every call of the model.
    """
    origin = torch.from_numpy(layout.origin)
    known = origin >= 0
    features = torch.zeros(len(origin), studio.spec.channels)
    features[known] = window.features[origin[known]]
    nfe = calls = 0
    for index, job in enumerate(jobs(layout, studio.spec.frame_rate)):
        low, high = _context(known, job, int(CONTEXT * studio.spec.frame_rate))
        before = _before(window, layout, origin >= 0, low, high) if prompt else None
        rng = torch.Generator().manual_seed(derive(seed, f"noise/{window.start}", index))
        made = _call(studio, layout, features, known, (low, high), before, sampling, rng)
        unknown = ~known[low:high]
        features[low:high][unknown] = made.features[unknown]
        known[low:high] = True
        nfe, calls = nfe + made.nfe, calls + made.network_calls
        report()
    return Filled(features, nfe, calls)


def _context(known: Tensor, job: tuple[int, int], most: int) -> tuple[int, int]:
    """Known frames around a job, as many on either side if there are, together with it at most ``most``."""
    start, end = job
    left = int(known[:start].flip(0).int().cumprod(0).sum())
    right = int(known[end:].int().cumprod(0).sum())
    free = max(0, most - (end - start))
    before = min(left, max(free // 2, free - right))
    return start - before, end + min(right, free - before)


def _before(window: Window, layout: Layout, kept: Tensor, low: int, high: int) -> Utterance | None:
    """The source recording, if too little of its speech is among the frames [low, high)."""
    speech = torch.zeros(len(kept), dtype=torch.bool)
    for start, end in layout.word_frames().values():
        speech[start:end] = True
    heard = int((speech & kept)[low:high].sum())
    return window.prompt(PROMPT) if heard < ENOUGH * window.spec.frame_rate else None


def _call(
    studio: Studio, layout: Layout, features: Tensor, known: Tensor, where: tuple[int, int],
    before: Utterance | None, sampling: Sampling, rng: torch.Generator,
) -> Filled:  # fmt: skip
    """One call of the model on the frames ``where``; phones at its ends may be cut."""
    low, high = where
    starts = torch.from_numpy(layout.starts).clamp(low, high)
    lengths = starts.diff()
    used = (lengths > 0).nonzero()[:, 0]
    # Pauses of no length between the used phones tell the model that there is none.
    places = range(int(used[0]), int(used[-1]) + 1)
    phones = [layout.canvas.phones[i] for i in places]
    durations = lengths[list(places)]
    heard, real = features[low:high], known[low:high]
    size = 0
    if before is not None:
        size = len(before.features)
        phones = [*before.phones, *phones]
        durations = torch.cat([before.durations, durations])
        heard = torch.cat([before.features, heard])
        real = torch.cat([torch.ones(size, dtype=torch.bool), real])
    made = studio.filler.infill(phones, durations, heard, real, sampling, rng)
    return Filled(made.features[size:], made.nfe, made.network_calls)
