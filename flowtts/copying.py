"""Copy-synthesis: a recording to features and back, which shows what a vocoder costs."""

from __future__ import annotations

import numpy as np
import torch

from flowtts.audio.io import resample
from flowtts.audio.mel import LogMel
from flowtts.provenance.tag import embed
from flowtts.types import Audio, Vocoder


def copy(vocoder: Vocoder, audio: Audio, tag: bool = False) -> Audio:
    """Copy-synthesis, mono, as long as the recording, at the vocoder's rate.

    Args:
        vocoder: makes the sound.
        audio: the recording.
        tag: whether the copy carries the tag of ``flowtts.provenance``.
    """
    spec = vocoder.spec
    samples = resample(audio.mono(), spec.sample_rate).samples
    # Whole frames: without the padding the end of the recording would be cut off.
    padded = np.pad(samples, (0, -len(samples) % spec.hop_length + spec.n_fft))
    with torch.inference_mode():
        made = vocoder.decode(LogMel(spec)(torch.from_numpy(padded)[None]))[0]
    copied = Audio(np.ascontiguousarray(made[: len(samples)].float().cpu().numpy()), spec.sample_rate)
    return embed(copied) if tag else copied
