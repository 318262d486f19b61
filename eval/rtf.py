"""Real-time factor: seconds of computing per second of sound."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flowtts.types import Audio, Item, Score, UserError

from .bootstrap import ratio_interval
from .judging import item_names, score


@dataclass(eq=False)
class RealTimeFactor:
    """Total computing time over total length; below 1 is faster than real time.

    Attributes:
        took: wall-clock seconds that made an item, by id.
    """

    took: Mapping[str, float]
    name: str = "rtf"
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        if not self.took:
            raise UserError("rtf needs timings; add a column 'took' with the seconds of computing to the manifest")

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those without a timing or without sound are dropped."""
        took: dict[str, float] = {}
        lasts: dict[str, float] = {}
        dropped: dict[str, str] = {}
        for name, item in zip(item_names(items), items, strict=True):
            if name not in self.took:
                dropped[name] = "it has no timing"
            elif item.audio.seconds == 0:
                dropped[name] = "the audio is empty"
            else:
                took[name], lasts[name] = self.took[name], item.audio.seconds
        interval = ratio_interval(list(took.values()), list(lasts.values()))
        factors = {name: took[name] / lasts[name] for name in took}
        rates = {item.audio.sample_rate for item in items}
        backend = f"wall clock ({platform.machine()}, Python {platform.python_version()})"
        return score(interval, factors, dropped, backend, min(rates) if rates else 0, lasts)


def measure(
    synthesise: Callable[[Item], Audio],
    items: Sequence[Item],
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[Item], dict[str, float]]:
    """Make the items' audio and time it.

    Args:
        synthesise: what is measured. On an accelerator it must wait for its result.
        items: whose text and prompt to use; their ``audio`` is replaced.
        warm_up: calls on the first item that are made before timing starts, since first calls allocate and compile.
        clock: seconds.

    Returns:
        The items with the audio made, and the seconds each took by name, for ``RealTimeFactor``.
    """
    for _ in range(warm_up if items else 0):
        synthesise(items[0])
    made: list[Item] = []
    took: dict[str, float] = {}
    for name, item in zip(item_names(items), items, strict=True):
        start = clock()
        audio = synthesise(item)
        took[name] = clock() - start
        made.append(Item(audio, item.text, item.reference, item.prompt, name))
    return made, took
