"""Definitions of what passes between recipes, vocoders and codecs: mels, latents, codes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MelSpec:
    """A log-mel definition. Two parts of the toolkit fit together only if their specs are equal.

    Frames are ``hop_length`` samples apart. With ``center=False`` the signal is reflect-padded by
    ``(n_fft - hop_length) / 2`` on both sides, so that N samples give exactly N // hop_length frames;
    with ``center=True`` (Vocos) by ``n_fft / 2``, which gives N // hop_length + 1.

    Attributes:
        sample_rate: Hz.
        n_fft: FFT size, samples.
        win_length: Hann window, samples.
        hop_length: samples per frame.
        n_mels: bands, the C of (B, T, C).
        f_min, f_max: lowest and highest band edge, Hz.
        floor: what is below this is raised to it before the logarithm.
        mean, std: subtracted from the log-mel, and what divides it then.
        scale: "slaney" or "htk", the mel scale.
        norm: "slaney" for area-normalised bands, "none" for unit peaks.
        center: see above.
        power: 1 for bands of amplitudes, 2 for bands of powers.
    """

    sample_rate: int = 16_000
    n_fft: int = 1024
    win_length: int = 640
    hop_length: int = 160
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float = 8000.0
    floor: float = 1e-5
    mean: float = 0.0
    std: float = 1.0
    scale: str = "slaney"
    norm: str = "slaney"
    center: bool = False
    power: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.hop_length <= self.win_length <= self.n_fft:
            raise ValueError("a mel needs 0 < hop_length <= win_length <= n_fft")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError("a mel needs 0 <= f_min < f_max <= sample_rate / 2")
        if self.std <= 0 or self.floor <= 0 or self.power not in (1.0, 2.0):
            raise ValueError("a mel needs a positive std and floor, and a power of 1 or 2")
        if self.scale not in ("slaney", "htk") or self.norm not in ("slaney", "none"):
            raise ValueError("mel scale is slaney or htk, norm slaney or none")

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def channels(self) -> int:
        """The C of (B, T, C)."""
        return self.n_mels


VOICEBOX_MEL = MelSpec(mean=-5.8843, std=2.2615)
"""arXiv 2306.15687, section 5: 16 kHz, 80 bands, 100 Hz, global mean and deviation."""

VOCOS_MEL = MelSpec(
    sample_rate=24_000, n_fft=1024, win_length=1024, hop_length=256, n_mels=100, f_max=12_000.0,
    floor=1e-7, scale="htk", norm="none", center=True,
)  # fmt: skip
"""The mel of charactr/vocos-mel-24khz and F5-TTS (torchaudio's defaults)."""


@dataclass(frozen=True)
class CodeSpec:
    """What a codec emits: K streams of integers.

    Attributes:
        sample_rate: of the audio it codes, Hz.
        frame_rate: frames per second.
        codebooks: K.
        codebook_size: entries per codebook.
    """

    sample_rate: int
    frame_rate: float
    codebooks: int
    codebook_size: int

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return round(self.sample_rate / self.frame_rate)


@dataclass(frozen=True)
class LatentSpec:
    """What a codec's quantiser would read, as features: N samples are ceil(N / hop_length) frames.

    Attributes:
        codec: name of the checkpoint, or its folder.
        hash: of its weights: latents of other weights mean something else.
        sample_rate: Hz.
        hop_length: samples per frame.
        width: the C of (B, T, C).
    """

    codec: str = field(default="", compare=False)
    hash: str = ""
    sample_rate: int = 16_000
    hop_length: int = 320
    width: int = 64

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def channels(self) -> int:
        """The C of (B, T, C)."""
        return self.width


FeatureSpec = MelSpec | LatentSpec
"""Of continuous features (B, T, C), which recipes make and vocoders read."""

Spec = MelSpec | LatentSpec | CodeSpec
