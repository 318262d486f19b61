"""Features of wav2vec 2.0 BASE, layer 6, averaged over time: Voicebox's FSD (arXiv 2306.15687, section 5.1).

How the paper pools frames it does not say; one mean per utterance is the common reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from torch import Tensor

from flowtts.types import Samples

from . import pretrained

DEFAULT_MODEL = "facebook/wav2vec2-base"
LAYER = 6


@dataclass(frozen=True)
class Wav2Vec:
    """A Wav2Vec2Model.

    Attributes:
        model: a folder, or an id in the Hugging Face cache.
        device: where it runs.
    """

    model: str = DEFAULT_MODEL
    device: str = "cpu"

    def __post_init__(self) -> None:
        pretrained.check(self.model)

    @property
    def backend(self) -> str:
        """The model, the layer and the library's version."""
        return f"wav2vec 2.0 {self.model} layer {LAYER}, mean over time (transformers {version('transformers')})"

    def open(self) -> Callable[[Samples], Tensor]:
        """Load the network and its normalisation.

        Raises:
            UserError: the model is not on this machine.
        """

        def vector(network: Any, samples: Tensor) -> Tensor:
            # The first of the states is what goes into layer 1.
            states: Sequence[Tensor] = network(samples, output_hidden_states=True).hidden_states
            return states[LAYER][0].float().mean(0)

        return pretrained.embedder("Wav2Vec2Model", self.model, self.device, vector)
