"""What a model knows of a voice, kept: a safetensors file that can be spoken with and mixed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from flowtts.audio.io import replacing
from flowtts.checkpoint import save_tensors
from flowtts.types import PathLike, UserError

SUFFIX = ".safetensors"
_FORMAT = "flowtts-voice-1"


@dataclass(frozen=True, eq=False)
class Latents:
    """A voice in the space of one model.

    Attributes:
        tensors: by name, each (D,) float32.
        model: hash of the weights that made them; they mean nothing to others.
        gain: what brought the recordings to the model's level; dividing by it restores theirs.
    """

    tensors: Mapping[str, Tensor]
    model: str
    gain: float = 1.0

    @property
    def hash(self) -> str:
        """Of the numbers."""
        total = hashlib.sha256()
        for name in sorted(self.tensors):
            total.update(name.encode() + self.tensors[name].float().cpu().numpy().tobytes())
        return total.hexdigest()[:12]

    def save(self, path: PathLike) -> Path:
        """Write a file beside its name and rename it.

        Raises:
            UserError: it cannot be written.
        """
        target = Path(path)
        about = {"format": _FORMAT, "model": self.model, "gain": repr(self.gain)}
        with replacing(target) as part:
            save_tensors(part, self.tensors, about)
        return target


def read_latents(path: PathLike, model: str) -> Latents:
    """Latents from a file.

    Args:
        path: the file.
        model: hash of the weights that are to speak.

    Raises:
        UserError: missing, broken, no voice, or one of another model.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the voice {path}: {str(error).splitlines()[0]}") from None
    if about.get("format") != _FORMAT:
        raise UserError(f"{path} is no voice that flowtts wrote; make one with flowtts voice")
    try:
        found = Latents(tensors, about["model"], float(about["gain"]))
    except (KeyError, ValueError):
        raise UserError(f"the voice {path} is broken; make it again with flowtts voice") from None
    if found.model != model:
        raise UserError(
            f"the voice {path} was made with the weights {found.model}, these are {model}: make it again from its clips"
        )
    return found


def mix(parts: Sequence[tuple[Latents, float]]) -> Latents:
    """The weighted mean of voices of one model; of their gains it is the geometric one.

    Args:
        parts: voices and weights, which need not add up to 1.

    Raises:
        UserError: voices of different models, or weights that add up to nothing.
    """
    total = sum(weight for _, weight in parts)
    if any(weight < 0 for _, weight in parts) or not 0 < total < math.inf:
        raise UserError("the weights of a mixture are finite, none is negative, and one at least is positive")
    first = parts[0][0]
    if any(voice.model != first.model or voice.tensors.keys() != first.tensors.keys() for voice, _ in parts):
        raise UserError("voices of different models cannot be mixed: make them all with one")
    tensors = {
        name: sum((voice.tensors[name] * (weight / total) for voice, weight in parts), first.tensors[name] * 0)
        for name in first.tensors
    }
    gain = math.prod(voice.gain ** (weight / total) for voice, weight in parts)
    return Latents(tensors, first.model, gain)
