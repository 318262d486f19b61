"""What can be asked for when a text is said, checked; and seeds derived from one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flowtts.solve.grid import FITTED, grid_named
from flowtts.solve.integrate import solver_named
from flowtts.solve.strength import Guidance
from flowtts.types import Audio, PathLike, Sampling, UserError

RANKERS: Mapping[str, str] = {"wer": "wer", "sim": "sim-o"}
"""What listens to takes to decide between them -> the metric that it is."""

CLVP = "clvp"
"""The ranker that compares takes with the text: see ``flowtts.judge``."""

DEFAULT_VOICE = "rms"

MOST_TAKES = 512
"""Of one request."""


@dataclass(frozen=True)
class Request:
    """Everything that decides what is said and how; all of it goes to the sidecar.

    Attributes:
        text: what to say.
        voice: a recording or a shipped voice's name; for a free recipe also a folder of recordings or kept latents.
        voice_text: what the recording says; recognised if None.
        seed: of the noise; chunks and takes get seeds derived from it.
        sampling: solver, grid, steps, guidance.
        speed: above 1 is faster.
        duration: seconds the whole must last, or None.
        best_of: takes.
        rank: what decides between takes, one of ``RANKERS`` or ``CLVP``; "" leaves it to the recipe.
        decoding: how an autoregressive recipe draws, as ``flowtts.decode.Decoding`` is spelled; None as it recommends.
        lexicon: file of own pronunciations.
    """

    text: str
    voice: PathLike | Audio = DEFAULT_VOICE
    voice_text: str | None = None
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    speed: float = 1.0
    duration: float | None = None
    best_of: int = 1
    rank: str = ""
    decoding: str | None = None
    lexicon: PathLike | None = None

    def settings(self) -> dict[str, Any]:
        """For the sidecar: all but the text, the voice and the decoding."""
        sampling = self.sampling
        return {
            "seed": self.seed, "solver": sampling.solver, "grid": sampling.grid, "steps": sampling.steps,
            "guidance": sampling.guidance, "temperature": sampling.temperature, "speed": self.speed,
            "duration": self.duration, "best_of": self.best_of, "rank": self.rank,
            "lexicon": None if self.lexicon is None else str(self.lexicon),
        }  # fmt: skip

    @property
    def seeds(self) -> list[int]:
        """Those of the takes."""
        return [self.seed, *(derive(self.seed, "take", take) for take in range(1, self.best_of))]

    def __post_init__(self) -> None:
        if not 0.25 <= self.speed <= 4:
            raise UserError(f"speed is from 0.25 to 4, not {self.speed:g}")
        if self.duration is not None and not 0.1 <= self.duration <= 3600:
            raise UserError(f"duration is from 0.1 to 3600 seconds, not {self.duration:g}")
        check(self.seed, self.sampling, self.best_of)
        if self.rank not in ("", *RANKERS, CLVP):
            raise UserError(f"no ranker {self.rank!r}; there are {', '.join((*RANKERS, CLVP))}")


def check(seed: int, sampling: Sampling, best_of: int) -> None:
    """Refuse numbers that nothing can be done with.

    Raises:
        UserError: one is out of range, or there is no such solver or grid.
    """
    if not 1 <= best_of <= MOST_TAKES:
        raise UserError(f"best-of is from 1 to {MOST_TAKES}, not {best_of}")
    if not 0 <= seed < 2**63:
        raise UserError(f"seed is a whole number from 0 to 2^63 - 1, not {seed}")
    if not 1 <= sampling.steps <= 1000:
        raise UserError(f"steps is from 1 to 1000, not {sampling.steps}")
    # An unknown name is to be found out before anything is computed.
    solver_named(sampling.solver)
    if sampling.grid != FITTED:
        # Whether the model has a fitted one, the model knows.
        grid_named(sampling.grid)
    guidance_of(sampling.guidance)


def guidance_of(spelling: float | str) -> Guidance:
    """Guidance from what a user wrote.

    Raises:
        UserError: it is not of its form, or a scale is out of range.
    """
    found = Guidance.parse(spelling)
    for scale in found.scales:
        if not 0 <= scale <= 100:
            raise UserError(f"guidance is from 0 to 100, not {scale:g}")
    return found


def make_request(text: str, start: Sampling | None = None, /, **options: Any) -> Request:
    """A request from flat options; those of ``Sampling`` and ``Request`` are told apart by name.

    Args:
        text: what to say.
        start: what the model recommends; None for the defaults.
        **options: by name; None stands for what is in ``start``, or for the default.

    Raises:
        TypeError: an option is unknown.
        UserError: one is out of range.
    """
    sampling, others = split(options, start)
    return Request(text, sampling=sampling, **others)


def split(options: Mapping[str, Any], start: Sampling | None) -> tuple[Sampling, dict[str, Any]]:
    """The sampling that flat options ask for, beginning from ``start``, and the other options that were given.

    Raises:
        UserError: the guidance is not of its form.
    """
    given = {name: value for name, value in options.items() if value is not None}
    names = Sampling.__dataclass_fields__
    sampling = replace(start or Sampling(), **{name: value for name, value in given.items() if name in names})
    # One spelling for one thing, in settings and sidecars.
    sampling = replace(sampling, guidance=Guidance.parse(sampling.guidance).spelled)
    return sampling, {name: value for name, value in given.items() if name not in names}


def derive(seed: int, purpose: str, index: int) -> int:
    """A seed for one of many draws of a run, independent of how many there are."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
