"""Log-mels beside those of a reference of the same timing: the quick checks of vocoders and codecs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from flowtts.audio.mel import LogMel
from flowtts.types import Item, MelSpec, Samples, Score

from .bootstrap import mean_interval
from .judging import JUDGED_RATE, Progress, UnjudgeableError, no_progress, score
from .sisdr import judge_pairs

SPEC = MelSpec()
DECIBEL = 20.0 / math.log(10.0)

SCALES = tuple(
    MelSpec(
        sample_rate=JUDGED_RATE, n_fft=size, win_length=size, hop_length=size // 4, n_mels=bands, f_max=JUDGED_RATE / 2,
        floor=1e-5, center=True,
    )
    for size, bands in ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320))
)  # fmt: skip
"""Those of DAC's reconstruction loss (arXiv 2306.06546): windows of 2 to 128 ms, the longer the more bands."""

SIGHT = MelSpec(
    sample_rate=JUDGED_RATE, n_fft=2048, win_length=1280, hop_length=320, n_mels=32, f_min=50.0, f_max=8000.0,
    floor=1e-12, norm="none", center=True, power=2.0,
)  # fmt: skip
"""ViSQOL's frames of 80 ms, 20 ms apart, and 32 bands from 50 Hz, mel bands instead of its gammatone filters."""

DEPTH = 45.0
"""dB below full scale, and below the louder of both in the same frame, under which nothing is seen (ViSQOL)."""

PATCH = 20
"""Frames of a patch, 0.4 s (ViSQOL for speech)."""

QUIET = 40.0
"""dB below the loudest patch of the reference under which a patch holds no speech, as STOI has it for frames."""

_CORNER, _EDGE, _CENTRE = 0.0113033910173052, 0.0838251475442633, 0.619485845753726
"""Of the window over which means and deviations are taken, a Gaussian of 0.5 frames and bands."""

C1, C3 = 0.01**2, 0.03**2 / 2
"""Of NSIM, for an intensity range of 1 as ViSQOL has it."""


@dataclass(eq=False)
class MelDistance:
    """Mean absolute difference of 80-band log-mel magnitudes at 16 kHz, in dB; 0 is identical."""

    progress: Progress = no_progress
    name: str = "mel"
    higher_is_better: bool = False

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those without a reference of the same length are dropped."""
        mel = LogMel(SPEC)
        values, dropped = judge_pairs(items, lambda *pair: DECIBEL * _apart(mel, *pair), self.name, self.progress)
        return score(mean_interval(list(values.values())), values, dropped, f"log-mel, {SPEC.n_mels} bands")


@dataclass(eq=False)
class MultiScaleMelDistance:
    """The mel distance that DAC is trained on and judged by (arXiv 2306.06546), at 16 kHz; 0 is identical.

    Mean absolute differences of log10 mel magnitudes, added up over seven lengths of the window. It hears changes of
    level: wherever both are above the floor, half the level is a distance of 7 log10 2 = 2.11.
    """

    progress: Progress = no_progress
    name: str = "mel-dac"
    higher_is_better: bool = False

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those without a reference of the same length are dropped."""
        mels = [LogMel(spec) for spec in SCALES]

        def judge(made: Samples, reference: Samples) -> float:
            return sum(_apart(mel, made, reference) for mel in mels) / math.log(10.0)

        values, dropped = judge_pairs(items, judge, self.name, self.progress)
        return score(mean_interval(list(values.values())), values, dropped, f"log-mel, {len(SCALES)} scales")


@dataclass(eq=False)
class NeurogramSimilarity:
    """NSIM of patches of spectrograms, in the manner of ViSQOL (Hines et al. 2015, arXiv 2004.09584); 1 is identical.

    As there, what was made is brought to the level of the reference first, so that levels do not count, and sound below
    ``DEPTH`` is not seen. Unlike there, bands are mel bands, patches are not searched for, as both have the same
    timing, and the similarity is not mapped to a mean opinion score: it ranks systems and is no ViSQOL.
    """

    progress: Progress = no_progress
    name: str = "nsim"
    higher_is_better: bool = True

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those without a reference of the same length are dropped."""
        mel = LogMel(SIGHT)

        def judge(made: Samples, reference: Samples) -> float:
            return _similarity(mel, made, reference)

        values, dropped = judge_pairs(items, judge, self.name, self.progress)
        return score(mean_interval(list(values.values())), values, dropped, f"NSIM, {SIGHT.n_mels} mel bands")


def _apart(mel: LogMel, made: Samples, reference: Samples) -> float:
    """Mean absolute difference of log-mels, natural logarithms."""
    with torch.inference_mode():
        difference = mel(torch.from_numpy(made)) - mel(torch.from_numpy(reference))
    return float(difference.abs().mean())


def _similarity(mel: LogMel, made: Samples, reference: Samples) -> float:
    """Mean NSIM of the reference's patches with speech."""
    loud, soft = (math.sqrt(float(np.mean(np.square(x, dtype=np.float64)))) for x in (reference, made))
    if not soft:
        raise UnjudgeableError("the audio is silent as long as the reference lasts")
    size = PATCH * SIGHT.hop_length
    count = len(reference) // size
    if not count:
        raise UnjudgeableError(f"NSIM judges at least {size / JUDGED_RATE:g} s")
    seen = [_decibels(mel, x) for x in (made * np.float32(loud / soft), reference)]
    peak = torch.stack([x.amax(1) for x in seen]).amax(0)
    seen = [torch.maximum(x, (peak - DEPTH)[:, None]) for x in seen]
    lowest = min(float(x.min()) for x in seen)
    mine, theirs = ((x - lowest)[: count * PATCH].reshape(count, PATCH, -1).mT for x in seen)
    power = np.square(reference[: count * size].reshape(count, size), dtype=np.float64).mean(1)
    speech = torch.from_numpy(power >= power.max() * 10 ** (-QUIET / 10))
    return float(nsim(theirs[speech], mine[speech]).mean())


def _decibels(mel: LogMel, samples: Samples) -> Tensor:
    """(T, C) mean squares of the bands of (N,) samples in dB, from ``-DEPTH``; that of a full sine is -3 dB."""
    with torch.inference_mode():
        power: Tensor = mel(torch.from_numpy(samples)[None])[0].double() * (10.0 / math.log(10.0))
    # Both halves of the spectrum, by Parseval, over the energy of the window.
    scale = 2.0 / (SIGHT.n_fft * float(mel.window.double().square().sum()))
    return (power + 10.0 * math.log10(scale)).clamp_min(-DEPTH)


def nsim(reference: Tensor, made: Tensor) -> Tensor:
    """Neurogram similarity, intensity times structure (Hines and Harte 2012, equation 1), by band.

    Args:
        reference: (P, bands, frames) patches, float64.
        made: the same.

    Returns:
        (P, bands), means over the frames; edges are repeated where the window of 3 by 3 looks beyond them.
    """
    row = [_CORNER, _EDGE, _CORNER]
    kernel = torch.tensor([row, [_EDGE, _CENTRE, _EDGE], row], dtype=torch.float64)[None, None]

    def around(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x[:, None], (1, 1, 1, 1), mode="replicate"), kernel)[:, 0]

    r, d = around(reference), around(made)
    variances = [around(x * x) - mean * mean for x, mean in ((reference, r), (made, d))]
    # Rounding makes a little less than nothing of the variance of what is flat.
    deviations = (variances[0].clamp_min(0) * variances[1].clamp_min(0)).sqrt()
    intensity = (2 * r * d + C1) / (r * r + d * d + C1)
    structure = (around(reference * made) - r * d + C3) / (deviations + C3)
    return (intensity * structure).mean(-1)
