"""Voicebox: masked flow matching and a duration model (arXiv 2306.15687)."""

from __future__ import annotations

import logging
from pathlib import Path

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
_SHIPPED_DURATION = "voicebox-duration"

log = logging.getLogger(__name__)


def load(folder: Path, device: torch.device | str = "cpu", precision: torch.dtype = torch.float32) -> Voicebox:
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
        beside = checkpoint.find(_SHIPPED_DURATION)
        log.info("%s has no folder 'duration': taking the shipped duration model", folder)
    timed = _read(beside, DURATION_KIND)
    if timed.vocabulary != heard.vocabulary:
        raise UserError(
            f"{beside} and {folder} have different vocabularies: train a duration model into {folder}/duration"
        )
    duration = DurationModel(load_config(DurationConfig, timed.config))
    checkpoint.load_state(duration, timed.state, beside)
    weights = f"{heard.hash}+{timed.hash}"
    return Voicebox(audio.to(device), duration.to(device), heard.vocabulary or (), precision, weights)


def _read(folder: Path, kind: str) -> checkpoint.Checkpoint:
    found = checkpoint.load(folder)
    if found.kind != kind:
        raise UserError(f"{folder} is a checkpoint of kind {found.kind}, not {kind}")
    if found.vocabulary is None:
        raise UserError(f"{folder} has no vocabulary.txt: the checkpoint is not whole")
    return found
