"""Copy-synthesis: a recording to features and back, which shows what a vocoder costs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flowtts.audio.io import resample
from flowtts.codec import Codec
from flowtts.features import extractor
from flowtts.provenance.tag import embed
from flowtts.types import Audio, Copier, MelSpec, Vocoder


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
    window = spec.n_fft if isinstance(spec, MelSpec) else 0
    padded = torch.from_numpy(np.pad(samples, (0, -len(samples) % spec.hop_length + window)))[None]
    with torch.inference_mode():
        made = (vocoder.copy(padded) if isinstance(vocoder, Copier) else vocoder.decode(extractor(spec)(padded)))[0]
    return _finished(made[: len(samples)], spec.sample_rate, tag)


def recode(codec: Codec, audio: Audio, tag: bool = False) -> Audio:
    """Through the codes of all codebooks that a codec uses, mono, as long as the recording, at the codec's rate.

    Args:
        codec: codes and decodes.
        audio: the recording.
        tag: see ``copy``.
    """
    samples = resample(audio.mono(), codec.spec.sample_rate).samples
    with torch.inference_mode():
        made = codec.decode(codec.encode(torch.from_numpy(samples)[None]))[0]
    return _finished(made[: len(samples)], codec.spec.sample_rate, tag)


def _finished(made: Tensor, sample_rate: int, tag: bool) -> Audio:
    copied = Audio(np.ascontiguousarray(made.float().cpu().numpy()), sample_rate)
    return embed(copied) if tag else copied
