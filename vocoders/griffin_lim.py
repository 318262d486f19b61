"""Griffin-Lim: sound from mels without any training, the baseline that every trained vocoder has to beat.

The magnitudes are the non-negative solution of the mel equations, the phases come from the fast Griffin-Lim algorithm
(Perraudin, Balazs and Søndergaard, WASPAA 2013), which adds momentum to Griffin and Lim's projections (1984).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import fold

from flowtts.audio.mel import LogMel, reflect
from flowtts.types import VOICEBOX_MEL, MelSpec

_TINY = 1e-12


class GriffinLim:
    """A vocoder for any ``MelSpec``, behind ``flowtts.types.Vocoder``."""

    name = "griffin-lim"

    def __init__(
        self, spec: MelSpec = VOICEBOX_MEL, iterations: int = 60, momentum: float = 0.99, seed: int = 0
    ) -> None:
        """Prepare the tables.

        Args:
            spec: the mel to invert.
            iterations: projections; the phase is random without any.
            momentum: alpha of the fast algorithm, 0 for the plain one.
            seed: of the first phases.

        Raises:
            ValueError: iterations below 0, or a momentum outside [0, 1).
        """
        if iterations < 0 or not 0 <= momentum < 1:
            raise ValueError("Griffin-Lim needs iterations >= 0 and 0 <= momentum < 1")
        self._spec = spec
        self.iterations, self.momentum, self.seed = iterations, momentum, seed
        self._mel = LogMel(spec)
        pad = spec.n_fft - spec.win_length
        self._window = torch.nn.functional.pad(self._mel.window, (pad // 2, pad - pad // 2))

        self._left = (spec.n_fft if spec.center else spec.n_fft - spec.hop_length) // 2

    @property
    def spec(self) -> MelSpec:
        """The mel it reads."""
        return self._spec

    @torch.inference_mode()
    def decode(self, features: Tensor) -> Tensor:
        """(B, T, C) normalised log-mel -> (B, T * hop_length) samples in [-1, 1].

        A centred spec has a frame at both ends of the signal; the last one is then held for a hop longer.

        Raises:
            ValueError: the features have another number of channels.
        """
        if features.shape[1] == 0:
            return features.new_zeros(features.shape[0], 0)
        magnitude = self._magnitude(features)
        angle = 2 * torch.pi * torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(self.seed))
        return self._cut(self._project(magnitude, torch.polar(magnitude, angle)), features)

    @torch.inference_mode()
    def polish(self, features: Tensor, samples: Tensor) -> Tensor:
        """Brings samples that nearly have these features nearer to them, starting from the samples' own phases.

        Args:
            features: (B, T, C) normalised log-mel.
            samples: (B, T * hop_length), e.g. what another vocoder made of them.

        Returns:
            (B, T * hop_length) samples in [-1, 1].

        Raises:
            ValueError: the shapes do not fit.
        """
        count = features.shape[1] * self._spec.hop_length
        if samples.shape != (features.shape[0], count):
            raise ValueError(f"polish needs (B, {count}) samples, not {tuple(samples.shape)}")
        if count == 0:
            return samples
        magnitude = self._magnitude(features)
        total = (magnitude.shape[1] - 1) * self._spec.hop_length + self._spec.n_fft
        padded = reflect(samples.cpu().float(), self._left, total - count - self._left)
        return self._cut(self._project(magnitude, self._analyse(padded)), features)

    def _magnitude(self, features: Tensor) -> Tensor:
        spec = self._spec
        if features.ndim != 3 or features.shape[-1] != spec.n_mels:
            raise ValueError(f"griffin-lim needs (B, T, {spec.n_mels}) features, not {tuple(features.shape)}")
        if spec.center:
            features = torch.cat([features, features[:, -1:]], dim=1)
        found = invert_mel(self._mel.denormalise(features.cpu().float()).exp(), self._mel.filterbank)
        return found if spec.power == 1 else found ** (1 / spec.power)

    def _project(self, magnitude: Tensor, start: Tensor) -> Tensor:
        """(B, T, bins) magnitudes and first phases -> padded samples whose STFT has nearly these magnitudes."""
        spectrum = _with_magnitude(start, magnitude)
        before: Tensor | None = None
        for _ in range(self.iterations):
            now = self._analyse(self._resynthesise(spectrum))
            ahead = now if before is None else now + self.momentum * (now - before)
            spectrum, before = _with_magnitude(ahead, magnitude), now
        return self._resynthesise(spectrum)

    def _cut(self, padded: Tensor, features: Tensor) -> Tensor:
        count = features.shape[1] * self._spec.hop_length
        return padded[:, self._left : self._left + count].clamp(-1.0, 1.0).to(features.device)

    def _analyse(self, padded: Tensor) -> Tensor:
        spec = self._spec
        frames = padded.unfold(1, spec.n_fft, spec.hop_length) * self._window
        spectrum: Tensor = torch.fft.rfft(frames)
        return spectrum

    def _resynthesise(self, spectrum: Tensor) -> Tensor:
        """The signal whose STFT is nearest to (B, T, bins): (B, (T - 1) * hop + n_fft), padding included."""
        spec = self._spec
        frames = torch.fft.irfft(spectrum, spec.n_fft) * self._window
        weight = self._window.square().expand(1, spectrum.shape[1], -1)
        return self._overlap(frames) / self._overlap(weight).clamp(min=1e-8)

    def _overlap(self, frames: Tensor) -> Tensor:
        spec = self._spec
        length = (frames.shape[1] - 1) * spec.hop_length + spec.n_fft
        added = fold(frames.transpose(1, 2), (1, length), (1, spec.n_fft), stride=(1, spec.hop_length))
        return added[:, 0, 0]


def _with_magnitude(spectrum: Tensor, magnitude: Tensor) -> Tensor:
    return spectrum * (magnitude / spectrum.abs().clamp(min=_TINY))


def invert_mel(mel: Tensor, filterbank: Tensor, iterations: int = 20) -> Tensor:
    """Non-negative STFT magnitudes whose mel bands are the given ones.

    Lee and Seung's multiplicative updates for least squares, from the clipped pseudo-inverse: they cannot leave the
    non-negative orthant and never increase the error.

    Args:
        mel: (B, T, C) mel magnitudes (not logarithms).
        filterbank: (bins, C).
        iterations: updates.

    Returns:
        (B, T, bins); exactly zero in bins that no band covers.
    """
    covered = (filterbank.sum(dim=1) > 0).to(mel.dtype)
    # An update cannot move away from zero, hence a floor well below what is audible beside the loudest bin.
    start = (mel @ torch.linalg.pinv(filterbank)).clamp(min=0.0)
    magnitude = torch.maximum(start, 1e-4 * start.amax(dim=-1, keepdim=True).clamp(min=_TINY)) * covered
    target = mel @ filterbank.T
    for _ in range(iterations):
        magnitude = magnitude * target / ((magnitude @ filterbank) @ filterbank.T).clamp(min=_TINY)
    return magnitude * covered
