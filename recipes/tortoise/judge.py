"""CLVP judging sound: the VQ-VAE turns it into codes first, so that it serves recipes that know no codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from flowtts.audio.active import to_level
from flowtts.audio.io import resample
from flowtts.audio.mel import LogMel
from flowtts.text import Analysis
from flowtts.types import Audio, UserError

from .clvp import CLVP
from .parts import load_judging
from .recipe import PhoneText
from .vqvae import VQVAE


class ClvpJudge:
    """How well sound fits its text.

    Args:
        vqvae: makes the codes.
        clvp: compares.
        symbols: the text vocabulary.
        hash: of the weights.
    """

    def __init__(self, vqvae: VQVAE, clvp: CLVP, symbols: Sequence[str], hash: str) -> None:
        self._vqvae, self._clvp = vqvae.eval(), clvp.eval()
        self._text, self._mel = PhoneText(symbols), LogMel(vqvae.config.mel)
        self.hash = hash

    @classmethod
    def load(cls, folder: Path) -> ClvpJudge:
        """From a Tortoise checkpoint.

        Raises:
            UserError: it has no CLVP or no VQ-VAE.
        """
        vqvae, clvp, symbols, hash = load_judging(folder)
        return cls(vqvae, clvp, symbols, hash)

    @torch.no_grad()
    def __call__(self, audio: Audio, analyses: Sequence[Analysis]) -> float:
        """CLVP's scaled cosine of the sound and of the phones of all parts in a row.

        Raises:
            UserError: the sound is too short to have a code.
        """
        config = self._vqvae.config
        mono, _ = to_level(resample(audio.mono(), config.mel.sample_rate))
        if len(mono.samples) < config.frames_per_code * config.mel.hop_length:
            raise UserError(f"{audio.seconds:.2f} s of sound are too short to be judged")
        features = self._mel(torch.from_numpy(mono.samples)[None])
        codes = self._vqvae.encode(features, torch.tensor([features.shape[1]]))
        text = torch.cat([self._text(analysis) for analysis in analyses])[None]
        whole = torch.ones_like(text, dtype=torch.bool), torch.ones_like(codes, dtype=torch.bool)
        return float(self._clvp.score(text, whole[0], codes, whole[1]))
