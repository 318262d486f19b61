"""Sizes and training rules of Tortoise's four networks (arXiv 2305.07243; defaults are those of its public code)."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from flowtts.decode import Decoding
from flowtts.nn.causal import CausalConfig
from flowtts.types import MelSpec, Sampling

TORTOISE_CODE_MEL = MelSpec(
    sample_rate=22_050, n_fft=1024, win_length=1024, hop_length=256, n_mels=80, f_max=8000.0, floor=1e-5,
    scale="htk", norm="slaney", center=True, power=2.0,
)  # fmt: skip
"""What the VQ-VAE and the autoregressive model hear. Published weights divide it by a number for each channel."""

_LOWEST, _HIGHEST = -11.512925148010254, 2.3143386840820312
"""The range of log-mels that the diffusion decoder sees as -1 to 1."""

TORTOISE_MEL = MelSpec(
    sample_rate=24_000, n_fft=1024, win_length=1024, hop_length=256, n_mels=100, f_max=12_000.0, floor=1e-5,
    mean=(_HIGHEST + _LOWEST) / 2, std=(_HIGHEST - _LOWEST) / 2,
)  # fmt: skip
"""What the diffusion decoder emits and UnivNet reads."""


@dataclass(frozen=True)
class VQVAEConfig:
    """The discrete variational autoencoder of mels. Its defaults have 51,567,184 parameters.

    Attributes:
        mel: what it codes.
        hidden: channels after the first halving of the frame rate; every further one doubles them.
        layers: halvings, so that a code stands for 2 ** layers frames.
        blocks: residual blocks on either side of the codes.
        kernel: of the convolutions that change the frame rate; odd.
        codes: size of the codebook.
        code_width: width of a code vector.
        update: how the codebook learns: "ema" (arXiv 1711.00937, appendix A.1) or "gradient" (its equation 3).
        decay: of the moving averages.
        commitment: weight of the commitment loss, beta.
        revive_after: a code that no frame of this many batches in a row has used takes a random frame's place; 0 never.
        codebook: names what was learnt: networks that read or write codes carry the name of theirs, "" for any.
    """

    mel: MelSpec = TORTOISE_CODE_MEL
    hidden: int = 512
    layers: int = 2
    blocks: int = 3
    kernel: int = 3
    codes: int = 8192
    code_width: int = 512
    update: Literal["ema", "gradient"] = "ema"
    decay: float = 0.99
    commitment: float = 0.25
    revive_after: int = 100
    codebook: str = ""

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError("the VQ-VAE needs an odd kernel")

    @property
    def frames_per_code(self) -> int:
        """Mel frames that one code stands for."""
        return int(2**self.layers)


@dataclass(frozen=True)
class ARConfig:
    """The autoregressive model of codes. Its defaults have 421,526,786 parameters.

    Text ids are 1 to symbols - 1; 0 stops the text and ``symbols`` starts it. Codes are 0 to codes - 1; ``codes``
    starts and ``codes`` + 1 stops them.

    Attributes:
        body: the transformer.
        mel: of the reference clips.
        symbols: size of the text vocabulary, start left out.
        codes: size of the codebook.
        frames_per_code: mel frames that one code stands for.
        max_text: longest text.
        max_codes: longest speech.
        clips: reference clips that it was trained with; widens the table of positions, as published.
        conditioning_blocks: attention blocks of the conditioning encoder.
        pooling: how a clip becomes one vector: "first" takes the first position (the public code), "mean" the mean
            (the paper).
        text_weight: of the cross-entropy of the text.
        codes_per_symbol: 0 begins with random positions, as published; otherwise they begin on one clock, ``guide.py``.
        guide_weight: weight of a loss that teaches some heads where in the text they are; 0 as published.
        clip_seconds: of a reference clip.
        calm_code: a code that sounds like silence and is put behind what was drawn, or None; 83 in published weights …
        calm_tail: … and so often, so that the diffusion decoder can end in peace.
        codebook: see `VQVAEConfig`.
        decoding: how codes are drawn unless something else is asked for.
    """

    body: CausalConfig = field(default_factory=CausalConfig)
    mel: MelSpec = TORTOISE_CODE_MEL
    symbols: int = 255
    codes: int = 8192
    frames_per_code: int = 4
    max_text: int = 402
    max_codes: int = 604
    clips: int = 2
    conditioning_blocks: int = 6
    pooling: Literal["first", "mean"] = "first"
    text_weight: float = 0.01
    codes_per_symbol: float = 0.0
    guide_weight: float = 0.0
    clip_seconds: float = 6.0
    calm_code: int | None = None
    calm_tail: int = 8
    codebook: str = ""
    decoding: Decoding = field(default_factory=Decoding)

    @property
    def start_text(self) -> int:
        """Id before the first text symbol."""
        return self.symbols

    @property
    def stop_text(self) -> int:
        """Id after the last text symbol."""
        return 0

    @property
    def start_code(self) -> int:
        """Id before the first code."""
        return self.codes

    @property
    def stop_code(self) -> int:
        """Id after the last code."""
        return self.codes + 1

    @property
    def code_seconds(self) -> Fraction:
        """Time that one code stands for."""
        return Fraction(self.frames_per_code * self.mel.hop_length, self.mel.sample_rate)


@dataclass(frozen=True)
class CLVPConfig:
    """The judge of text and codes. Its defaults have 243,846,145 parameters.

    Attributes:
        width: of both encoders.
        latent: width of the space in which they are compared.
        layers: of each encoder.
        heads: of each layer.
        head_width: of each head.
        ffn: inner width of the gated feed-forward.
        symbols: size of the text vocabulary.
        codes: size of the codebook.
        dropout: of attention and feed-forward.
        text_mask: share of the text that is hidden while it learns.
        speech_mask: share of the codes.
        codebook: see `VQVAEConfig`.
    """

    width: int = 768
    latent: int = 768
    layers: int = 20
    heads: int = 12
    head_width: int = 64
    ffn: int = 1536
    symbols: int = 256
    codes: int = 8192
    dropout: float = 0.1
    text_mask: float = 0.2
    speech_mask: float = 0.2
    codebook: str = ""

    def __post_init__(self) -> None:
        if self.head_width % 2:
            raise ValueError("CLVP needs an even head_width: channels turn in pairs")
        if not (0 <= self.text_mask < 1 and 0 <= self.speech_mask < 1):
            raise ValueError("CLVP's text_mask and speech_mask are shares: at least 0 and below 1")

    @property
    def rotary_width(self) -> int:
        """Channels of a head that turn with the position: half of them, but 32 where there are so many."""
        return min(self.head_width, max(self.head_width // 2, 32))


@dataclass(frozen=True)
class DiffusionConfig:
    """The diffusion decoder. Its defaults have 292,334,380 parameters.

    Attributes:
        mel: what it emits.
        width: channels.
        layers: layers of residual block and attention; three residual blocks follow.
        heads: of the attention.
        codes: rows of the table of codes (one more than the codebook has, as published).
        latent_width: width of the autoregressive model's last hidden states.
        code_seconds: time that one code stands for, a fraction: numerator …
        code_seconds_per: … and denominator.
        steps: of the diffusion; its betas are linear.
        dropout: of the residual blocks.
        drop_condition: share of utterances that learn without a condition.
        layer_drop: probability that a layer but the first and last is left out while it learns.
        vlb_weight: weight of the variational bound, which teaches the variance.
        mel_weight: weight of the auxiliary prediction of the mel from the condition alone.
        raw_conditioning: hear reference clips as plain log-mels, without ``mel``'s mean and deviation (as published).
        shallow: 0 samples from nothing but noise, as published. Otherwise from this noising step on, where the mel that
            the condition alone suggests is noised (shallow diffusion, arXiv 2105.02446, section 3.2); a network of
            short training errs most beyond, and does not learn what lies there.
        clip: the data that the network predicts while it samples are kept between -clip and clip (1 as published); 0
            lets them be, and errors in the noise are then amplified 150 times where there is nothing but noise.
        clip_seconds: of a reference clip.
        codebook: see `VQVAEConfig`.
        sampling: what is recommended for this model, and done unless something else is asked for.
    """

    mel: MelSpec = TORTOISE_MEL
    width: int = 1024
    layers: int = 10
    heads: int = 16
    codes: int = 8193
    latent_width: int = 1024
    code_seconds: int = 1024
    code_seconds_per: int = 22_050
    steps: int = 4000
    dropout: float = 0.0
    drop_condition: float = 0.1
    layer_drop: float = 0.1
    vlb_weight: float = 1.0
    mel_weight: float = 1.0
    raw_conditioning: bool = True
    shallow: int = 0
    clip: float = 1.0
    clip_seconds: float = 4.26666
    codebook: str = ""
    sampling: Sampling = field(
        default_factory=lambda: Sampling(solver="ddim", grid="uniform", steps=30, guidance=3.0, temperature=1.0)
    )

    def frames(self, codes: int) -> int:
        """Frames of the mel that this many codes stand for, rounded down."""
        per_second = Fraction(self.mel.sample_rate, self.mel.hop_length)
        return int(codes * Fraction(self.code_seconds, self.code_seconds_per) * per_second)
