"""Several processes that share a comparison, on one machine or many, started by ``accelerate launch``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a process waits for the others, which may have more to say."""


@dataclass(frozen=True)
class Ranks:
    """This process among others; alone by default.

    Attributes:
        state: Accelerate's, or None.
        rank: number of this process.
        world: number of processes.
        device: this process's, or None for what the user said.
    """

    state: Any = None
    rank: int = 0
    world: int = 1
    device: str | None = None

    @staticmethod
    def join(device: str) -> Ranks:
        """Join the processes that the environment speaks of, if it does.

        Args:
            device: as the user gave it; "auto" takes the one of this process.

        Raises:
            UserError: Accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return Ranks()
        from flowtts.compat import require

        state = require("accelerate", "train").PartialState(cpu=device == "cpu", timeout=PATIENCE)
        place = str(state.device) if device == "auto" else device
        return Ranks(state, int(state.process_index), int(state.num_processes), place)

    @property
    def main(self) -> bool:
        """Whether this one writes the report."""
        return self.rank == 0

    def share(self, all_of: Sequence[T]) -> list[T]:
        """This process's part."""
        return list(all_of[self.rank :: self.world])

    def wait(self) -> None:
        """Returns when all processes are here."""
        if self.state is not None:
            self.state.wait_for_everyone()

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their numbers."""
        if self.state is None:
            return [value]
        import torch

        found: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(found, value)
        return found
