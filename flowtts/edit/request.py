"""Options that all ways of editing share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowtts.request import check, split
from flowtts.types import PathLike, Sampling, UserError

RANKERS = ("wer", "sim", "boundary")
"""What can decide between takes: the words, the voice, or how smooth the joins are."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


@dataclass(frozen=True)
class EditRequest:
    """How to edit.

    Attributes:
        seed: of the noise; takes and stretches get seeds derived from it.
        sampling: solver, grid, steps, guidance, temperature.
        best_of: takes.
        rank: what decides between them, one of ``RANKERS``.
        lexicon: file of own pronunciations.
        confidence: the least, 0 to 1, with which the transcript must fit the recording; None for what the verb thinks
            fit, 0 to believe any transcript.
    """

    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    best_of: int = 1
    rank: str = "wer"
    lexicon: PathLike | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        check(self.seed, self.sampling, self.best_of)
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise UserError(f"confidence is from 0 to 1, not {self.confidence:g}")
        if self.rank not in RANKERS:
            raise UserError(f"no ranker {self.rank!r}; there are {', '.join(RANKERS)}")

    def settings(self) -> dict[str, Any]:
        """For the sidecar."""
        return {
            "seed": self.seed, "solver": self.sampling.solver, "grid": self.sampling.grid,
            "steps": self.sampling.steps, "guidance": self.sampling.guidance,
            "temperature": self.sampling.temperature, "best_of": self.best_of, "rank": self.rank,
            "lexicon": None if self.lexicon is None else str(self.lexicon), "confidence": self.confidence,
        }  # fmt: skip


def make_edit_request(options: Mapping[str, Any], sampling: Sampling | None = None) -> EditRequest:
    """A request from flat options of ``EditRequest`` and ``Sampling``.

    Args:
        options: by name; None stands for what is in ``sampling``, or for the default.
        sampling: what the model recommends; None for the defaults.

    Raises:
        TypeError: an option is unknown.
        UserError: one is out of range.
    """
    how, others = split(options, sampling)
    return EditRequest(sampling=how, **others)
