"""Forced alignment as dynamic programming: the best CTC path through known targets, some of which may be left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

_NEVER = float("-inf")


def ctc_viterbi(
    log_probs: Tensor, targets: Sequence[int], optional: Sequence[bool], blank: int = 0
) -> tuple[list[tuple[int, int] | None], float]:
    """The likeliest alignment of targets with frames under CTC's rules (Graves et al., ICML 2006).

    Between targets there may be blanks, and must be one between two equal targets that follow each other. All states
    of a frame are computed at once; the loop runs over frames.

    Args:
        log_probs: (T, V), any float dtype; need not be normalised.
        targets: S ids in [0, V), none of them ``blank``.
        optional: S flags, True for targets that the path may leave out (pauses); no two in a row.
        blank: id of the blank.

    Returns:
        For every target its first frame and one past its last frame, or None if it was left out; and the path's score.

    Raises:
        ValueError: the targets do not fit into the frames, or the arguments are inconsistent.
    """
    if len(optional) != len(targets) or not targets or blank in targets:
        raise ValueError("ctc_viterbi needs targets without blanks and one flag for each")
    if any(a and b for a, b in pairwise(optional)):
        raise ValueError("two optional targets in a row")
    labels, allowed = _topology(targets, optional, blank)
    emissions = log_probs.detach().double().cpu()[:, labels]  # (T, states)
    frames, states = emissions.shape
    if frames == 0:
        raise ValueError("no frames to align with")
    score = torch.full((states,), _NEVER, dtype=torch.float64)
    entry = [0, 1] + ([3] if optional[0] and states > 3 else [])
    score[entry] = emissions[0, entry]
    back = torch.zeros(frames, states, dtype=torch.int8)
    reach = len(allowed) - 1
    for t in range(1, frames):
        padded = torch.cat([score.new_full((reach,), _NEVER), score])
        # Row d holds the score of the state d places before; what may not be jumped is -inf.
        before = torch.stack([padded[reach - d : reach - d + states] for d in range(reach + 1)]) + allowed
        score, choice = before.max(0)
        score = score + emissions[t]
        back[t] = choice.to(torch.int8)
    ends = [states - 1, states - 2] + ([states - 4] if optional[-1] and states > 3 else [])
    state = max(ends, key=lambda s: float(score[s]))
    total = float(score[state])
    if total == _NEVER:
        raise ValueError(f"{len(targets)} targets do not fit into {frames} frames")
    path = [state]
    for t in range(frames - 1, 0, -1):
        state -= int(back[t, state])
        path.append(state)
    return _spans(path[::-1], len(targets)), total


def _topology(targets: Sequence[int], optional: Sequence[bool], blank: int) -> tuple[Tensor, Tensor]:
    """Labels of the states blank, target 0, blank, target 1, …, blank, and log-weights (5, states) of jumping in.

    Row d allows (0) or forbids (-inf) entering a state from the one d places before it.
    """
    states = 2 * len(targets) + 1
    labels = torch.full((states,), blank, dtype=torch.int64)
    labels[1::2] = torch.tensor(list(targets))
    allowed = torch.full((5, states), _NEVER, dtype=torch.float64)
    allowed[0] = allowed[1] = 0.0
    for k in range(1, len(targets)):
        here = 2 * k + 1
        if targets[k] != targets[k - 1]:
            allowed[2, here] = 0.0
        if optional[k - 1]:
            allowed[3, here] = 0.0  # from the blank before the target that is left out
            if k >= 2 and targets[k] != targets[k - 2]:
                allowed[4, here] = 0.0  # from the target before it
    return labels, allowed


def _spans(path: Sequence[int], count: int) -> list[tuple[int, int] | None]:
    spans: list[tuple[int, int] | None] = [None] * count
    for t, state in enumerate(path):
        if state % 2:
            span = spans[state // 2]
            spans[state // 2] = (t, t + 1) if span is None else (span[0], t + 1)
    return spans
