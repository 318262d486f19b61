"""Sizes and training rules of Voicebox (arXiv 2306.15687, sections 3 and 5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from flowtts.nn import TransformerConfig
from flowtts.types import VOICEBOX_MEL, FeatureSpec, LatentSpec, MelSpec, Sampling


@dataclass(frozen=True)
class AudioConfig:
    """The audio model.

    Attributes:
        body: the transformer.
        mel: what it emits, unless it emits latents.
        latent: a codec's latents to emit instead (``flowtts train voicebox --features CODEC``).
        symbols: size K of the phone table; id 0 also means "text unknown".
        text_width: H, width of the phone embedding.
        frames_per_token: frames stacked into one position of the transformer. 1 in the paper; more makes
            sequences shorter and a small model faster, at the same frame rate of input and output.
        average: a few-step model: reads the end of a step beside its beginning and predicts the mean velocity in
            between (a flow map); made from a teacher by ``flowtts train voicebox-fewstep``. Guidance is built in.
        sigma_min: of the optimal-transport path.
        drop_context: probability that the whole utterance is masked (p_drop).
        drop_condition: probability that text and context are dropped together (p_uncond).
        mask_low: smallest share of an utterance that is masked.
        mask_high: largest share.
        sampling: what is recommended for this model, and done unless something else is asked for.
    """

    body: TransformerConfig = field(default_factory=TransformerConfig)
    mel: MelSpec = VOICEBOX_MEL
    latent: LatentSpec | None = None
    symbols: int = 100
    text_width: int = 1024
    frames_per_token: int = 1
    average: bool = False
    sigma_min: float = 1e-5
    drop_context: float = 0.3
    drop_condition: float = 0.2
    mask_low: float = 0.7
    mask_high: float = 1.0
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def spec(self) -> FeatureSpec:
        """What it emits."""
        return self.latent or self.mel


@dataclass(frozen=True)
class DurationConfig:
    """The duration model.

    Attributes:
        body: the transformer.
        symbols: size K of the phone table.
        text_width: width of the phone embedding.
        frame_rate: frames per second of the durations it was trained on.
        variant: "regression" (masked L1, the paper's default) or "flow" (flow matching on durations).
        sigma_min: of the path, for "flow".
        drop_context: probability that every duration is masked.
        drop_condition: probability that phones and context are dropped, for "flow".
        mask_low: smallest share of phones masked.
        mask_high: largest share.
    """

    body: TransformerConfig = field(
        default_factory=lambda: TransformerConfig(layers=8, heads=8, width=512, ffn=2048, position_kernel=15)
    )
    symbols: int = 100
    text_width: int = 512
    frame_rate: float = VOICEBOX_MEL.frame_rate
    variant: str = "regression"
    sigma_min: float = 1e-5
    drop_context: float = 0.2
    drop_condition: float = 0.2
    mask_low: float = 0.1
    mask_high: float = 1.0

    def __post_init__(self) -> None:
        if self.variant not in ("regression", "flow"):
            raise ValueError(f"variant is regression or flow, not {self.variant}")
