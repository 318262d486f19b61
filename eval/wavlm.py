"""WavLM with an x-vector head (arXiv 2110.13900), through transformers.

Voicebox and its successors quote UniSpeech's ``wavlm_large_finetune``, which transformers has no class for; the
published ``microsoft/wavlm-base-plus-sv`` is its smaller relative, with a scale of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn

from flowtts.types import Samples

from . import pretrained

DEFAULT_MODEL = "microsoft/wavlm-base-plus-sv"


@dataclass(frozen=True)
class WavLM:
    """A WavLMForXVector model.

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
        """The model and the library's version."""
        return f"WavLM x-vector {self.model} (transformers {version('transformers')})"

    def open(self) -> Callable[[Samples], Tensor]:
        """Load the network and its normalisation.

        Raises:
            UserError: the model is not on this machine.
        """

        def vector(network: Any, samples: Tensor) -> Tensor:
            found: Tensor = network(samples).embeddings[0]
            return nn.functional.normalize(found.float(), dim=0)

        return pretrained.embedder("WavLMForXVector", self.model, self.device, vector)
