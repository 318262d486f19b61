"""Was a recording of speech generated? A network's opinion, for what holds no tag.

It was fitted to recordings of people and to what flowtts's own recipes and vocoders make (``benchmarks/origin.py``).
It is no proof in either direction: the README of the checkpoint says how often it errs, and on what it has never heard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from flowtts import checkpoint
from flowtts.audio.io import resample
from flowtts.config import load as load_config
from flowtts.origin.features import Spectra, loudness, speech
from flowtts.origin.network import OriginConfig, OriginNetwork
from flowtts.types import Audio, PathLike, UserError

KIND = "origin"
"""What ``config.yaml`` of a checkpoint folder calls the network."""

SHIPPED = "speech-origin"

SHORTEST = 0.5
"""Seconds of speech below which there is no opinion."""

_WINDOW = 4.0
"""Seconds that are judged at once."""


@dataclass(frozen=True)
class Verdict:
    """What the classifier thinks of a recording.

    Attributes:
        probability: that it was generated, had half of all recordings been; above 0.5 it says "generated".
        seconds: of speech that was judged, pauses left out.
    """

    probability: float
    seconds: float


class OriginClassifier:
    """A fitted network.

    Args:
        network: goes into evaluation mode.
    """

    def __init__(self, network: OriginNetwork) -> None:
        self.network, self.config = network.eval(), network.config
        self._spectra = Spectra(network.config.spectrum)

    @classmethod
    def load(cls, name: PathLike = SHIPPED) -> OriginClassifier:
        """From a checkpoint's name or folder.

        Raises:
            UserError: there is none, it is broken, or it holds something else.
        """
        found = checkpoint.load(checkpoint.find(name))
        if found.kind != KIND:
            raise UserError(
                f"{found.folder} is a checkpoint of kind {found.kind}; judging the origin of speech needs one of kind "
                f"{KIND}"
            )
        network = OriginNetwork(load_config(OriginConfig, found.config))
        checkpoint.load_state(network, found.state, found.folder)
        return cls(network)

    def judge(self, audio: Audio) -> Verdict:
        """A verdict on the speech in a recording; that of a long one is the mean over windows of 4 s.

        Args:
            audio: speech of any length, rate and number of channels.

        Raises:
            UserError: it is silent, or holds too little speech.
        """
        spectrum = self.config.spectrum
        samples = torch.from_numpy(resample(audio.mono(), spectrum.sample_rate).samples)
        if not len(samples):
            raise UserError(_too_little(0.0, audio))
        # Equal windows: none is too short to be judged well, and nothing counts twice.
        windows = samples.chunk(math.ceil(len(samples) / (_WINDOW * spectrum.sample_rate)))
        # What is a pause in the recording may be the loudest in its window.
        loud = loudness(torch.cat([self._spectra(window[None]).square().mean(-1) for window in windows], dim=1))
        seconds, total = 0.0, 0.0
        for window in windows:
            magnitudes = self._spectra(window[None])
            active = speech(magnitudes, loud)
            own = float(active.sum()) / spectrum.frame_rate
            with torch.inference_mode():
                total += own * float(self.network(magnitudes, active)[0])
            seconds += own
        if seconds < SHORTEST:
            raise UserError(_too_little(seconds, audio))
        return Verdict(1 / (1 + math.exp(-total / seconds)), seconds)


def _too_little(seconds: float, audio: Audio) -> str:
    if seconds == 0:
        return "the recording is silent: give one of speech"
    return f"{seconds:.2f} s of speech in {audio.seconds:.2f} s are too little to judge: give at least {SHORTEST:g} s"


def judge(audio: Audio) -> Verdict:
    """Whether speech was generated, by the shipped classifier: see ``OriginClassifier.judge``.

    Raises:
        UserError: the recording is silent or holds too little speech, or the shipped network is missing.
    """
    return _shipped().judge(audio)


@lru_cache(maxsize=1)
def _shipped() -> OriginClassifier:
    return OriginClassifier.load()
