"""HuBERT fine-tuned with CTC, decoded greedily: the judge of Voicebox's English WER (arXiv 2306.15687, section 5.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import torch

from flowtts.types import Audio

from . import pretrained
from .judging import JUDGED_RATE, UnjudgeableError, judged

DEFAULT_MODEL = "facebook/hubert-large-ls960-ft"


@dataclass(frozen=True)
class Hubert:
    """Best label per frame, repeats and blanks removed, no language model.

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
        return f"HuBERT-CTC {self.model} (transformers {version('transformers')}, greedy)"

    def open(self, texts: Sequence[str]) -> Callable[[Audio], str]:
        """Load the network, its normalisation and its alphabet.

        Raises:
            UserError: the model is not on this machine.
        """
        network = pretrained.load("HubertForCTC", self.model).to(self.device).eval()
        extractor = pretrained.load("AutoFeatureExtractor", self.model)
        alphabet = pretrained.load("Wav2Vec2CTCTokenizer", self.model)

        def transcribe(audio: Audio) -> str:
            try:
                samples = judged(audio)
            except UnjudgeableError:
                return ""
            inputs = extractor(samples, sampling_rate=JUDGED_RATE, return_tensors="pt")
            with torch.inference_mode():
                logits = network(inputs.input_values.to(self.device)).logits
            # Its alphabet is upper case, in which single letters look like Roman numerals.
            return str(alphabet.decode(logits[0].argmax(-1).tolist())).lower()

        return transcribe
