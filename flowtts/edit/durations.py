"""How long new phones last, at the rate of the person who speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowtts.align import round_to_total
from flowtts.edit.canvas import Canvas
from flowtts.planning import SHORTEST_PAUSE, SHORTEST_PHONE
from flowtts.tasks import Infilling
from flowtts.types import Phone

LEAST_RATIO, GREATEST_RATIO = 0.7, 1.4
_NEAR = 12
"""Kept words on either side of a change by which the speaking rate is judged."""

_DOUBT = 50.0
"""Frames of kept speech that count as much as the assumption that the model's rate is right."""


@dataclass(frozen=True)
class Known:
    """Phones whose durations are known, put before an utterance as context."""

    phones: tuple[Phone, ...] = ()
    durations: tuple[int, ...] = field(default=())


def fill(recipe: Infilling, canvas: Canvas, seed: int, before: Known | None = None) -> list[int]:
    """Durations of all phones of a canvas in frames: known ones as they are, new ones predicted.

    The model tends to the mean rate of its training data. Its predictions are therefore multiplied by the ratio of
    real to predicted durations of kept words near the change (``rate``).

    Args:
        recipe: predicts.
        canvas: what is known and what is not.
        seed: for models that sample.
        before: further context with known durations.
    """
    slots = canvas.slots
    if all(slot.known for slot in slots):
        return [slot.frames for slot in slots]
    context = before if before is not None else Known()
    phones = (*context.phones, *canvas.phones)
    given = torch.tensor([*context.durations, *(slot.frames for slot in slots)], dtype=torch.long)
    known = torch.tensor([True] * len(context.phones) + [slot.known for slot in slots])
    rng = torch.Generator().manual_seed(seed)
    predicted = recipe.fill_durations(phones, known, given, rng).float()
    ratio = rate(recipe, phones, known, given, rng)
    pause = torch.tensor([phone.word < 0 for phone in phones])
    spoken = (predicted * ratio).clamp(min=SHORTEST_PHONE)
    quiet = torch.where(predicted < SHORTEST_PAUSE, torch.zeros_like(predicted), predicted)
    wanted = torch.where(pause, quiet, spoken)[~known]
    filled = given.clone()
    if float(wanted.sum()) > 0:
        filled[~known] = round_to_total(wanted, max(1, round(float(wanted.sum()))))
    else:
        filled[~known] = 0
    return [int(frames) for frames in filled[len(context.phones) :]]


def retime(canvas: Canvas, predicted: Sequence[int], runs: Sequence[tuple[int, int, int]]) -> list[int]:
    """Scale predicted durations of phones [first, last) so that each run of them lasts a given number of frames.

    Args:
        canvas: of the phones.
        predicted: durations of all.
        runs: (first, last, frames).
    """
    made = list(predicted)
    for first, last, frames in runs:
        least = [0.0 if canvas.slots[i].phone.word < 0 else 1.0 for i in range(first, last)]
        lengths = torch.tensor([max(low, float(made[i])) for low, i in zip(least, range(first, last), strict=True)])
        if float(lengths.sum()) <= 0:
            lengths = torch.ones(last - first)
        made[first:last] = [int(n) for n in round_to_total(lengths, frames)]
    return made


def rate(recipe: Infilling, phones: Sequence[Phone], known: Tensor, given: Tensor, rng: torch.Generator) -> float:
    """How much slower than the model expects the kept words near the change are said: real over predicted duration.

    Every other kept word is hidden and predicted from the rest, then the others, so that the words are predicted under
    the conditions of the new ones: between kept neighbours. Few words say little; the ratio then stays near 1.

    Args:
        recipe: predicts.
        phones: L of them; words are told apart by their indices and the order of the phones.
        known: (L,) bool.
        given: (L,) int64 frames of the known ones.
        rng: for models that sample.
    """
    words = _words(phones)
    new = [i for i, places in enumerate(words) if not bool(known[places].all())]
    kept = [i for i in range(len(words)) if i not in set(new) and min((abs(i - n) for n in new), default=0) <= _NEAR]
    if not kept:
        return 1.0
    actual = expected = 0.0
    for turn in (kept[0::2], kept[1::2]):
        hidden = [place for i in turn for place in words[i]]
        if not hidden:
            continue
        visible = known.clone()
        visible[hidden] = False
        guess = recipe.fill_durations(phones, visible, given, rng)
        actual += float(given[hidden].sum())
        expected += float(guess[hidden].clamp(min=SHORTEST_PHONE).sum())
    weight = actual / (actual + _DOUBT)
    return min(GREATEST_RATIO, max(LEAST_RATIO, (actual / expected) ** weight)) if actual > 0 else 1.0


def _words(phones: Sequence[Phone]) -> list[list[int]]:
    """Places of the phones of every word."""
    found: list[list[int]] = []
    last = -1
    for place, phone in enumerate(phones):
        if phone.word >= 0:
            if phone.word == last and found[-1][-1] == place - 1:
                found[-1].append(place)
            else:
                found.append([place])
        last = phone.word
    return found
