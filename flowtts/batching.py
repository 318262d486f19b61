"""Utterances of different lengths grouped so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], max_frames: int, max_padding: float = 0.1) -> list[list[int]]:
    """Indices of the utterances, batch by batch, the longest first.

    Neighbours in length go together, as many as fit. An utterance that is too long by itself gets a batch of its own.

    Args:
        lengths: frames of each utterance, positive.
        max_frames: of a batch with its padding (items times the longest).
        max_padding: largest share of a batch that is padding, in [0, 1).

    Returns:
        Every index exactly once. The same lengths give the same plan.

    Raises:
        ValueError: a length or a limit out of range.
    """
    if max_frames < 1 or not 0 <= max_padding < 1:
        raise ValueError(
            f"plan_batches needs max_frames >= 1 and 0 <= max_padding < 1, not {max_frames}, {max_padding}"
        )
    if any(length < 1 for length in lengths):
        raise ValueError("plan_batches needs positive lengths")
    plan: list[list[int]] = []
    longest = real = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        padded = longest * (len(plan[-1]) + 1) if plan else 0
        if plan and padded <= max_frames and padded - (real + lengths[index]) <= max_padding * padded:
            plan[-1].append(index)
            real += lengths[index]
        else:
            plan.append([index])
            longest = real = lengths[index]
    return plan
