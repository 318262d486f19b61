"""What a codec and its discriminators minimise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.audio.mel import LogMel
from flowtts.types import MelSpec

from .config import MelForm
from .judges import Verdict

FLOOR = 1e-5
"""Mels are raised to this before the logarithm."""


class MelLoss(nn.Module):
    """Distance of mels at several window lengths, of hops of a quarter.

    "encodec" (arXiv 2210.13438, section 3.4, equation 2): the L1 plus the L2 norm of the difference of log-mels,
    averaged over the scales. "soundstream" (arXiv 2107.03312, equations 4 and 5): the L1 norm of the difference of mels
    plus sqrt(s / 2) times the L2 norm of that of log-mels, added over the scales s.

    Norms are of frames, averaged over time. EnCodec's are divided by those of a vector of ones, as its programs do.

    Args:
        sample_rate: Hz.
        windows: the scales, samples.
        bands: of every mel; those narrower than a bin of a short window are empty and add nothing.
        form: see above.
    """

    def __init__(self, sample_rate: int, windows: Sequence[int], bands: int = 64, form: MelForm = "encodec") -> None:
        super().__init__()
        self.windows, self.form = tuple(windows), form
        self.mels = nn.ModuleList(
            LogMel(
                MelSpec(
                    sample_rate=sample_rate, n_fft=size, win_length=size, hop_length=size // 4, n_mels=bands,
                    f_max=sample_rate / 2, scale="htk", norm="none",
                )
            )
            for size in windows
        )  # fmt: skip

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """(B, N) and (B, N) samples -> scalar."""
        total = made.new_zeros(())
        for size, mel in zip(self.windows, self.mels, strict=True):
            assert isinstance(mel, LogMel)
            ours, theirs = _mel(mel, made), _mel(mel, real)
            apart = _log(ours) - _log(theirs)
            # Its slope at zero is zero, which that of a root is not.
            length = torch.linalg.vector_norm(apart, dim=-1).mean()
            if self.form == "encodec":
                total = total + (apart.abs().mean() + length / math.sqrt(apart.shape[-1])) / len(self.windows)
            else:
                total = total + (ours - theirs).abs().sum(-1).mean() + math.sqrt(size / 2) * length
        return total


def _mel(mel: LogMel, samples: Tensor) -> Tensor:
    """(B, N) -> (B, T, bands) of a spectrum whose window has the norm 1."""
    out: Tensor = mel.magnitude(samples) @ mel.filterbank / mel.window.norm()
    return out


def _log(mel: Tensor) -> Tensor:
    return mel.clamp(min=FLOOR).log()


def judges_loss(real: Sequence[Verdict], made: Sequence[Verdict], shares: Sequence[float]) -> Tensor:
    """Hinge loss of discriminators (arXiv 2210.13438, section 3.4), of which each counts by its share."""
    terms = [
        share * (F.relu(1 - x.scores).mean() + F.relu(1 + y.scores).mean())
        for share, x, y in zip(shares, real, made, strict=True)
    ]
    return torch.stack(terms).sum()


def adversarial_loss(made: Sequence[Verdict], shares: Sequence[float]) -> Tensor:
    """Hinge loss of what they judged."""
    return torch.stack([share * F.relu(1 - y.scores).mean() for share, y in zip(shares, made, strict=True)]).sum()


def matching_loss(real: Sequence[Verdict], made: Sequence[Verdict], shares: Sequence[float], relative: bool) -> Tensor:
    """How far what is made is from recordings in the layers of discriminators.

    Args:
        real: verdicts over recordings.
        made: over what was made of them.
        shares: what each discriminator counts for.
        relative: whether a layer's mean distance is divided by the mean size of what recordings have there (arXiv
            2210.13438, equation 3) or not (arXiv 2107.03312, equation 3).
    """
    total = []
    for share, x, y in zip(shares, real, made, strict=True):
        for theirs, ours in zip(x.maps, y.maps, strict=True):
            theirs = theirs.detach()
            apart = (ours - theirs).abs().mean()
            if relative:
                apart = apart / theirs.abs().mean().clamp_min(FLOOR)
            total.append(share * apart / len(x.maps))
    return torch.stack(total).sum()
