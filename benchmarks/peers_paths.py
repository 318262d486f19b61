"""Whole paths from text to wave: F5-TTS's and ours, with random weights of equal size.

Both get a prepared prompt (the recording cut and read, its text known), as both keep it between two texts, and make the
same seconds of sound from it in the same number of steps under guidance. From there each does what it does: reading
the text, conditions, noise, sampling and the vocoder.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import peers_networks as networks
import torch
from peers_imports import peer
from peers_timing import parameters

from flowtts import Pipeline
from flowtts.audio.io import resample
from flowtts.recipes.voicebox import AudioConfig, Voicebox
from flowtts.registry import load_recipe
from flowtts.types import VOCOS_MEL, Audio, MelSpec
from flowtts.vocoders.vocos import VocosConfig, VocosNetwork, VocosVocoder
from flowtts.voice import Voice

VOCOS = {"dim": 512, "intermediate": 1536, "layers": 8}
"""Sizes of vocos-mel-24khz, F5-TTS's vocoder: 13.5M."""


@dataclass(frozen=True)
class Task:
    """What is to be said and how.

    Attributes:
        text: of the generated part.
        seconds: it lasts.
        scale: g of the guidance.
    """

    text: str
    seconds: float
    scale: float


Say = Callable[[int], Audio]
"""Says a task's text in so many evaluations of the field."""


def f5_path(task: Task, voice: Voice, autocast: bool, device: torch.device) -> tuple[Say, int]:
    """F5-TTS through its ``infer_process``, and the parameters of its network.

    Args:
        task: what to say.
        voice: the prompt.
        autocast: compute in bfloat16, which its package does not do on a CPU; only its sampler.
        device: where.
    """
    infer = peer("f5_tts.infer.utils_infer")
    characters, count = networks.vocabulary()
    if count != networks.CHARACTERS:
        raise ValueError(f"this F5-TTS has {count} characters, not {networks.CHARACTERS}")
    dit = networks.dit(VOCOS_MEL.n_mels, device)
    model = peer("f5_tts.model").CFM(dit, vocab_char_map=characters).eval().to(device)
    speaking = _Autocast(model, device) if autocast else model
    vocoder = _vocos().to(device)
    prompt = resample(voice.audio.mono(), VOCOS_MEL.sample_rate)
    loaded = torch.from_numpy(prompt.samples)[None], prompt.sample_rate

    def say(steps: int) -> Audio:
        # Where no codec is installed torchaudio reads no files; the prompt is at hand, as it is for us.
        with patch.object(infer.torchaudio, "load", lambda _: loaded), contextlib.redirect_stdout(io.StringIO()):
            wave, rate, _ = infer.infer_process(
                "prompt.wav", voice.text, task.text, speaking, vocoder, show_info=lambda _: None, progress=None,
                nfe_step=steps, cfg_strength=task.scale - 1, fix_duration=prompt.seconds + task.seconds,
                device=str(device),
            )  # fmt: skip
        return Audio(np.asarray(wave, dtype=np.float32), rate)

    return say, parameters(dit)


class _Autocast:
    """A model whose ``sample`` computes in bfloat16. Its caller is a thread of its own, where autocast is off."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._kind = model, device.type

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's."""
        with torch.autocast(self._kind, torch.bfloat16):
            return self._model.sample(*args, **kwargs)


def _vocos() -> Any:
    """F5-TTS's vocoder with random weights."""
    features, models, heads = (peer(f"vocos.{name}") for name in ("feature_extractors", "models", "heads"))
    with _seeded():
        return (
            peer("vocos")
            .Vocos(
                features.MelSpectrogramFeatures(),
                models.VocosBackbone(VOCOS_MEL.n_mels, VOCOS["dim"], VOCOS["intermediate"], VOCOS["layers"]),
                heads.ISTFTHead(VOCOS["dim"], VOCOS_MEL.n_fft, VOCOS_MEL.hop_length, padding="center"),
            )
            .eval()
        )


def our_path(task: Task, voice: str, config: AudioConfig, engine: str, device: torch.device) -> tuple[Say, int]:
    """Ours through ``Pipeline.say``, and the parameters of its network.

    The audio model and the vocoder have random weights. The duration model is the shipped one: random durations could
    be none at all; the whole is brought to the task's seconds.

    Args:
        task: what to say.
        voice: a shipped one's name.
        config: of the audio model.
        engine: a name of `flowtts.engine.ENGINES`, or "auto".
        device: where.
    """
    trained = cast(Voicebox, load_recipe("voicebox", device))
    network = networks.voicebox(config, device)
    recipe = Voicebox(network, trained.duration, trained.symbols, engine)
    pipeline = Pipeline(recipe, our_vocos(config.mel, device), "random weights")

    def say(steps: int) -> Audio:
        made = pipeline.say(
            task.text, voice=voice, duration=task.seconds, solver="euler", grid="sway", steps=steps,
            guidance=task.scale,
        )  # fmt: skip
        if made.nfe != steps:
            raise ValueError(f"the text was said in several parts ({made.nfe} evaluations): make it shorter")
        return made.audio

    return say, parameters(network)


def our_vocos(mel: MelSpec, device: torch.device) -> VocosVocoder:
    """A vocoder of the size of F5-TTS's for other features; nothing is polished afterwards."""
    center = mel.center
    config = VocosConfig(
        mel, **VOCOS, n_fft=mel.n_fft if center else 4 * mel.hop_length, padding="center" if center else "same"
    )  # fmt: skip
    with _seeded():
        return VocosVocoder(VocosNetwork(config)).to(device)


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
