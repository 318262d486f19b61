"""Voicebox: masked flow matching and a duration model (arXiv 2306.15687)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import torch

from flowtts import checkpoint
from flowtts.config import load as load_config
from flowtts.types import UserError

from .audio import AudioModel as AudioModel
from .config import AudioConfig as AudioConfig
from .config import DurationConfig as DurationConfig
from .duration import DurationModel as DurationModel
from .recipe import Voicebox as Voicebox

AUDIO_KIND = "voicebox"
DURATION_KIND = "voicebox-duration"
_VARIANTS = MappingProxyType({"regression": "voicebox-duration", "flow": "voicebox-duration-flow"})
"""Variant of the duration model -> shipped checkpoint."""

log = logging.getLogger(__name__)


def load(folder: Path, device: torch.device | str = "cpu", engine: str = "eager") -> Voicebox:
    """Voicebox from a checkpoint folder of its audio model.

    The duration model is in the sub-folder ``duration``; without one, the shipped one is used, as long as
    it was trained with the same vocabulary.

    Raises:
        UserError: a checkpoint is broken or of another kind, or the vocabularies differ.
    """
    heard = _read(folder, AUDIO_KIND)
    audio = AudioModel(load_config(AudioConfig, heard.config))
    checkpoint.load_state(audio, heard.state, folder)
    beside = Path(folder) / "duration"
    if not beside.is_dir():
        beside = checkpoint.find(_VARIANTS["regression"])
        log.info("%s has no folder 'duration': taking the shipped duration model", folder)
    vocabulary = heard.vocabulary or ()
    duration, hash = _duration(beside, vocabulary, folder)

    def variant(name: str) -> DurationModel:
        if name not in _VARIANTS:
            raise UserError(f"no durations {name!r}: there are {', '.join(_VARIANTS)}")
        return _duration(checkpoint.find(_VARIANTS[name]), vocabulary, folder)[0]

    def weaker(name: str) -> AudioModel:
        found = _read(checkpoint.find(name), AUDIO_KIND)
        model = AudioModel(load_config(AudioConfig, found.config))
        checkpoint.load_state(model, found.state, name)
        if (found.vocabulary or ()) != tuple(vocabulary) or model.config.spec != audio.config.spec:
            raise UserError(f"{name} cannot guide {folder}: their vocabularies or features differ")
        return model.to(device)

    return Voicebox(
        audio.to(device), duration.to(device), vocabulary, engine, f"{heard.hash}+{hash}", variant, folder, weaker
    )


def _duration(folder: Path, vocabulary: Sequence[str], audio: Path) -> tuple[DurationModel, str]:
    """The duration model of a folder, and the hash of its weights."""
    timed = _read(folder, DURATION_KIND)
    if (timed.vocabulary or ()) != tuple(vocabulary):
        raise UserError(
            f"{folder} and {audio} have different vocabularies: train a duration model into {audio}/duration"
        )
    duration = DurationModel(load_config(DurationConfig, timed.config))
    checkpoint.load_state(duration, timed.state, folder)
    return duration, timed.hash


def _read(folder: Path, kind: str) -> checkpoint.Checkpoint:
    found = checkpoint.require_kind(checkpoint.load(folder), kind, folder)
    if found.vocabulary is None:
        raise UserError(f"{folder} has no vocabulary.txt: the checkpoint is not whole")
    return found
