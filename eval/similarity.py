"""Speaker similarity: the cosine between voices (SIM-o and SIM-r of Voicebox, arXiv 2306.15687, section 5.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from flowtts.types import Audio, Item, Samples, Score, UserError

from .bootstrap import mean_interval
from .judging import Progress, UnjudgeableError, item_names, judged, no_progress, score


class SpeakerEncoder(Protocol):
    """Sound to a point where a voice lives."""

    @property
    def backend(self) -> str:
        """The model with its version."""
        ...

    def open(self) -> Callable[[Samples], Tensor]:
        """Load the model; the function takes (N,) samples at 16 kHz to (E,) of unit length."""
        ...


@dataclass(eq=False)
class Similarity:
    """Mean cosine between what was made and its prompt, in [-1, 1].

    ``sim-o`` compares with the prompt as recorded. ``sim-r`` compares with the prompt resynthesised by the system's
    own vocoder or codec: it forgives what that loses, and is not comparable between systems that differ in it.
    Values of different encoders are not comparable either. Sound below 16 kHz is upsampled first and loses
    similarity to wide-band prompts for its missing band alone; the report lists such items.

    Attributes:
        name: of the metric.
        encoder: whose space it is.
        resynthesised: whether the prompt goes through ``resynthesise`` (sim-r).
        resynthesise: the system's vocoder: sound to features and back.
        progress: called per item.
    """

    name: str
    encoder: SpeakerEncoder
    resynthesised: bool = False
    resynthesise: Callable[[Audio], Audio] | None = None
    progress: Progress = no_progress
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if self.resynthesised and self.resynthesise is None:
            raise UserError(f"{self.name} compares with the prompt through the vocoder; name the vocoder, or use sim-o")

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those without a usable prompt or sound are dropped."""
        embed = self.encoder.open()
        voices: dict[int, Tensor] = {}
        cosines: dict[str, float] = {}
        dropped: dict[str, str] = {}
        for done, (name, item) in enumerate(zip(item_names(items), items, strict=True)):
            self.progress(self.name, done, len(items))
            try:
                made = embed(judged(item.audio))
                cosines[name] = float(made @ self._voice(item, embed, voices))
            except UnjudgeableError as error:
                dropped[name] = str(error)
        self.progress(self.name, len(items), len(items))
        return score(mean_interval(list(cosines.values())), cosines, dropped, self.encoder.backend)

    def _voice(self, item: Item, embed: Callable[[Samples], Tensor], voices: dict[int, Tensor]) -> Tensor:
        """The prompt's embedding, computed once per recording however many items share it."""
        if item.prompt is None:
            raise UnjudgeableError("it has no prompt")
        key = id(item.prompt)
        if key not in voices:
            samples = judged(item.prompt, "the prompt")
            if self.resynthesised and self.resynthesise is not None:
                samples = judged(self.resynthesise(item.prompt), "the prompt resynthesised")
            voices[key] = embed(samples)
        return voices[key]
