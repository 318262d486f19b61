"""Features of wav2vec 2.0 BASE, layer 6, averaged over time: Voicebox's FSD (arXiv 2306.15687, section 5.1).

How the paper pools frames it does not say; one mean per utterance is the common reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import Tensor

from flowtts.types import Samples

from . import pretrained
from .judging import JUDGED_RATE

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
        network = pretrained.load("Wav2Vec2Model", self.model).to(self.device).eval()
        extractor = pretrained.load("AutoFeatureExtractor", self.model)

        def embed(samples: Samples) -> Tensor:
            inputs = extractor(samples, sampling_rate=JUDGED_RATE, return_tensors="pt")
            with torch.inference_mode():
                states = network(inputs.input_values.to(self.device), output_hidden_states=True).hidden_states
            # The first of them is what goes into layer 1.
            vector: Tensor = states[LAYER][0].float().mean(0)
            return vector.cpu()

        return embed
