"""What decides the training of a codec, and what the papers say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from flowtts.train_config import TrainConfig

from ..codec.network import CodecConfig
from ..encodec import SOUNDSTREAM, EncodecConfig
from ..mimi import MimiConfig

MelForm = Literal["encodec", "soundstream"]
"""See ``losses.MelLoss``."""


@dataclass(frozen=True)
class CropConfig:
    """What is cut out of the recordings.

    Attributes:
        seconds: of a crop; whole frames are made of it.
        batch: crops of a batch.
        adversarial_batch: how many of them are used once discriminators take part; None for all.
        gain_db: each crop is amplified by up to this much or attenuated by up to twice that.
        cache: folder for decoded recordings; None for one in the run's.
        valid: lists or manifests of recordings that are held out; what becomes of them is logged with the samples.
    """

    seconds: float = 1.0
    batch: int = 64
    adversarial_batch: int | None = None
    gain_db: float = 6.0
    cache: str | None = None
    valid: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.batch > 0 and (self.adversarial_batch or 1) > 0 and self.gain_db >= 0):
            raise ValueError("crops have a length, a batch has at least one, and gain_db is not negative")


@dataclass(frozen=True)
class LossConfig:
    """What the codec minimises; a loss of weight 0 is not computed. The defaults are EnCodec's.

    Attributes:
        waveform: weight of the L1 between samples.
        mel: of the multi-scale mel loss.
        spectral: of ``vocos_losses.SpectralLoss``.
        adversarial: of the hinge loss against the discriminators.
        matching: of feature matching.
        commitment: of the quantiser's own loss, which is not balanced.
        distillation: of a teacher's, likewise.
        balanced: whether weights are shares of the gradient's norm (``balancer``) rather than factors of losses.
        norm, decay: of the balancer.
        mel_windows, mel_bands, mel_form: of the mel loss.
        windows, slopes: of the spectral one.
        relative: whether feature matching is relative to what recordings have (EnCodec) or not (SoundStream).
    """

    waveform: float = 0.1
    mel: float = 1.0
    spectral: float = 0.0
    adversarial: float = 3.0
    matching: float = 3.0
    commitment: float = 1.0
    distillation: float = 0.0
    balanced: bool = True
    norm: float = 1.0
    decay: float = 0.999
    mel_windows: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    mel_bands: int = 64
    mel_form: MelForm = "encodec"
    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    slopes: float = 1.0
    relative: bool = True

    def __post_init__(self) -> None:
        weights = [self.waveform, self.mel, self.spectral, self.adversarial, self.matching]
        if min(*weights, self.commitment, self.distillation) < 0 or not sum(weights) > 0:
            raise ValueError("no loss has a negative weight, and one that hears what is made has a positive one")
        if not (self.norm > 0 and 0 <= self.decay < 1):
            raise ValueError("the balancer's norm is positive and its decay in [0, 1)")

    @property
    def judged(self) -> bool:
        """Whether discriminators are asked."""
        return self.adversarial > 0 or self.matching > 0

    @property
    def unjudged(self) -> bool:
        """Whether there is something to learn without them."""
        return self.waveform > 0 or self.mel > 0 or self.spectral > 0


@dataclass(frozen=True)
class JudgeConfig:
    """The discriminators; an empty tuple or 0 leaves a group out. The defaults are EnCodec's for 24 kHz.

    Attributes:
        spectra, spectra_filters: windows and channels of EnCodec's, see ``judges.SpectraJudge``.
        waves, wave_channels: scales and first channels of SoundStream's of the waveform, see ``judges.WaveJudge``.
        stft, stft_channels: window and first channels of SoundStream's of the spectrum, see ``judges.StftJudge``.
        periods, period_widths: of HiFi-GAN's, see ``discriminators.PeriodDiscriminator``.
        bands, band_channels: windows and channels of ``discriminators.SpectrumDiscriminator``.
        weights: of the groups; all discriminators count alike where there are none.
        chance: share of the steps in which they learn.
        begin: share of the run after which they take part.
        ramp: steps over which the codec begins to listen to them.
        learning_rate: their peak; None for the codec's.
    """

    spectra: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    spectra_filters: int = 32
    waves: int = 0
    wave_channels: int = 16
    stft: int = 0
    stft_channels: int = 32
    periods: tuple[int, ...] = ()
    period_widths: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    bands: tuple[int, ...] = ()
    band_channels: int = 32
    weights: dict[str, float] = field(default_factory=dict)
    chance: float = 2 / 3
    begin: float = 0.0
    ramp: int = 0
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.chance <= 1 and 0 <= self.begin <= 1 and self.ramp >= 0):
            raise ValueError("chance is in (0, 1], begin in [0, 1] and ramp not negative")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError("learning_rate must be positive or null")
        if unknown := sorted(set(self.weights) - set(self.groups)):
            raise ValueError(f"there are no {unknown[0]} to weigh; there are {', '.join(self.groups) or 'none'}")

    @property
    def groups(self) -> dict[str, int]:
        """Names of the groups, and of how many discriminators."""
        sizes = {
            "spectra": len(self.spectra), "waves": self.waves, "stft": int(self.stft > 0),
            "periods": len(self.periods), "bands": len(self.bands),
        }  # fmt: skip
        return {name: size for name, size in sizes.items() if size}

    @property
    def shortest(self) -> int:
        """Samples that they must hear at least."""
        return max((*self.spectra, self.stft, *self.bands, *self.periods, 1))


@dataclass(frozen=True)
class Common:
    """What all codecs have; what each may have beside it is in its own class.

    Attributes:
        crops: what it hears.
        losses: what it minimises.
        judges: the discriminators.
        train: how it is trained.
        init: a checkpoint of the same sizes to start from, or None.
        decoder_only: whether the encoder and the quantiser stay as they are; codes then keep their meaning.
        measured: batches from which the statistics of latents are measured whenever a checkpoint is written.
    """

    crops: CropConfig = field(default_factory=CropConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    judges: JudgeConfig = field(default_factory=JudgeConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    init: str | None = None
    decoder_only: bool = False
    measured: int = 8

    def __post_init__(self) -> None:
        if self.losses.judged and not self.judges.groups:
            raise ValueError("adversarial losses want discriminators, such as judges.spectra=[1024]")
        if not self.losses.unjudged and self.judges.begin > 0:
            raise ValueError("there is nothing to learn before the discriminators begin: set judges.begin=0")
        if self.decoder_only and self.init is None:
            raise ValueError("decoder_only wants a codec to start from: set init=FOLDER")


@dataclass(frozen=True)
class SmallRun(Common):
    """Everything that decides a run of the small codec.

    Attributes:
        model: its sizes.
        init_vocoder: a Vocos of the same sizes whose weights the decoder starts from, or None.
    """

    model: CodecConfig = field(default_factory=CodecConfig)
    init_vocoder: str | None = None


@dataclass(frozen=True)
class EncodecRun(Common):
    """Likewise for EnCodec and SoundStream."""

    model: EncodecConfig = field(default_factory=EncodecConfig)


@dataclass(frozen=True)
class MimiRun(Common):
    """Likewise for Mimi.

    Attributes:
        model: its sizes.
        teacher: a folder of transformers' WavLM, HuBERT or wav2vec 2.0 that the semantic codebooks learn from, or None.
        layer: whose hidden states; -1 is the last.
    """

    model: MimiConfig = field(default_factory=MimiConfig)
    teacher: str | None = None
    layer: int = -1


Run = SmallRun | EncodecRun | MimiRun

PRESETS: Mapping[str, Run] = {
    "codec": SmallRun(
        crops=CropConfig(batch=8, adversarial_batch=6),
        losses=LossConfig(
            waveform=2.0, mel=0.0, spectral=1.0, adversarial=0.067, matching=0.67, balanced=False, relative=False
        ),
        judges=JudgeConfig(
            spectra=(), periods=(2, 3, 5, 7, 11), period_widths=(8, 16, 32, 64, 64), bands=(1024, 512, 256),
            band_channels=8, weights={"periods": 1.0, "bands": 0.3}, chance=1.0, begin=0.7, ramp=200,
            learning_rate=5e-4,
        ),
        train=TrainConfig(
            learning_rate=1e-3, warmup=200, schedule="cosine", optimiser="adamw", betas=(0.8, 0.99), clip=10.0,
            ema=0.998,
        ),
    ),
    "soundstream": EncodecRun(
        losses=LossConfig(
            waveform=0.0, mel=1.0, adversarial=1.0, matching=100.0, balanced=False, relative=False,
            mel_windows=(64, 128, 256, 512, 1024, 2048), mel_form="soundstream",
        ),
        judges=JudgeConfig(spectra=(), waves=3, stft=1024, chance=1.0),
        train=TrainConfig(learning_rate=3e-4, warmup=0, schedule="constant", betas=(0.5, 0.9), clip=None),
        model=SOUNDSTREAM,
    ),
    "encodec": EncodecRun(
        train=TrainConfig(
            steps=600_000, learning_rate=3e-4, warmup=0, schedule="constant", betas=(0.5, 0.9), clip=None
        ),
    ),
    "mimi": MimiRun(
        crops=CropConfig(seconds=12.0, batch=128),
        losses=LossConfig(waveform=0.0, mel=0.0, adversarial=4.0, matching=4.0, distillation=1.0),
        train=TrainConfig(
            steps=4_000_000, learning_rate=8e-4, warmup=0, schedule="constant", optimiser="adamw", betas=(0.5, 0.9),
            weight_decay=0.05, clip=None, ema=0.99,
        ),
    ),
}  # fmt: skip
"""Name of a codec -> how it is trained.

"codec" is meant for few processor cores and minutes. "soundstream" has the losses and discriminators of arXiv
2107.03312, section III; its optimiser is not in the paper. "encodec" is arXiv 2210.13438, section 4.1, at 24 kHz.
"mimi" is arXiv 2410.00037, section 3.3, without reconstruction losses; its weight decay is on all matrices here.
"""
