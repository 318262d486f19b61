"""An aligner of our own: a small convolutional phone recogniser, trained with CTC, and a forced Viterbi pass.

It needs no dictionary and no pretrained model and learns any inventory of phones. CTC alone aligns poorly, because its
outputs are peaks somewhere inside each phone (arXiv 2406.02560); where a batch carries durations, a frame-wise
cross-entropy beside it teaches the network to emit every phone for as long as it lasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts import checkpoint
from flowtts.align import repeat
from flowtts.alignment.base import SILENCE, Alignment, PhoneTime, gather_words, logistic
from flowtts.alignment.viterbi import ctc_viterbi
from flowtts.audio.io import resample
from flowtts.audio.mel import LogMel
from flowtts.config import load as load_config
from flowtts.mask import lengths_to_mask, masked_mean
from flowtts.types import VOICEBOX_MEL, Audio, Batch, PathLike, UserError

if TYPE_CHECKING:
    from flowtts.text import Analysis

BLANK = "BLANK"
KIND = "aligner"
_POSITIONS = ("_B", "_I", "_E", "_S")


@dataclass(frozen=True)
class CtcConfig:
    """The recogniser.

    Attributes:
        width: channels inside.
        depth: blocks.
        kernel: frames that a block's depthwise convolution sees.
        frame_weight: weight of the frame-wise cross-entropy beside CTC; 0 trains on text alone. CTC first drives a
            network to blanks everywhere, so the cross-entropy must outweigh it to begin with.
        limit: ``Alignment.limit`` of the trained aligner, nats per frame.
        slope: ``Alignment.slope`` likewise.
    """

    width: int = 160
    depth: int = 6
    kernel: int = 15
    frame_weight: float = 1.0
    limit: float = 2.0
    slope: float = 2.0


def classes(symbols: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What the network tells apart, and the class of each symbol of a vocabulary.

    Word positions are dropped and all pauses are one class; class 0 is CTC's blank and stands for padding.
    """
    names = [BLANK, SILENCE]
    table = []
    for symbol in symbols:
        name = class_of(symbol)
        if name not in names:
            names.append(name)
        table.append(names.index(name))
    return tuple(names), tuple(table)


def class_of(symbol: str) -> str:
    """The class of a vocabulary symbol: "AH0_B" -> "AH", "SIL," -> "SIL", "PAD" -> "BLANK"."""
    if symbol == "PAD":
        return BLANK
    if symbol.startswith(SILENCE):
        return SILENCE
    bare = symbol[:-2] if symbol.endswith(_POSITIONS) else symbol
    # Stress changes a vowel's length and pitch more than its sound; the aligner is better off without it.
    return bare.rstrip("012") or bare


class Block(nn.Module):
    """Depthwise convolution, normalisation, two pointwise layers, residual (ConvNeXt, arXiv 2201.03545)."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, C), mask (B, T, 1) -> (B, T, C)."""
        seen = self.depthwise((x * mask).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.down(F.gelu(self.up(self.norm(seen))))
        return out


class PhoneRecogniser(nn.Module):
    """Log-mel frames to log-probabilities of phone classes; implements ``flowtts.types.Trainable``.

    Attributes:
        config: its sizes.
        symbols: vocabulary of the phone ids in its batches.
        classes: what it tells apart.
    """

    table: Tensor

    def __init__(self, config: CtcConfig, symbols: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.symbols = tuple(symbols)
        self.classes, table = classes(symbols)
        self.register_buffer("table", torch.tensor(table), persistent=False)
        self.enter = nn.Conv1d(VOICEBOX_MEL.n_mels, config.width, 5, padding=2)
        self.blocks = nn.ModuleList(Block(config.width, config.kernel) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, len(self.classes))

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """(B, T, 80) normalised log-mel, (B,) real frames -> (B, T, classes) log-probabilities."""
        mask = lengths_to_mask(frames, features.shape[1])[..., None].to(features.dtype)
        # The mean over the utterance is the channel (microphone, room); it says nothing about phones.
        mean = (features * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
        x = self.enter(((features - mean) * mask).transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.leave(self.norm(x)).float().log_softmax(-1)
        return out

    def loss(self, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """CTC per phone plus ``frame_weight`` times the cross-entropy of frames, over transcribed items."""
        log_probs = self(_distorted(batch, rng), batch.frames)
        size = batch.features.shape[1]
        targets = self.table[batch.phones]
        # A ghost silence is not there to be heard: CTC sees only what lasts.
        present = (batch.durations > 0) & lengths_to_mask(batch.lengths, batch.phones.shape[1])
        order = torch.argsort(~present, dim=1, stable=True)
        spoken = torch.where(present, targets, torch.zeros_like(targets)).gather(1, order)
        lengths = present.sum(1)
        per_item = F.ctc_loss(
            log_probs.transpose(0, 1), spoken, batch.frames, lengths, blank=0, reduction="none", zero_infinity=True
        )
        known = batch.transcribed.to(per_item.dtype)
        ctc = (per_item / lengths.clamp(min=1) * known).sum() / known.sum().clamp(min=1)
        per_frame = repeat(targets, batch.durations, size)
        real = lengths_to_mask(batch.frames, size) & batch.transcribed[:, None]
        picked = log_probs.gather(2, per_frame[..., None])[..., 0]
        frame = -masked_mean(picked, real)
        wrong = masked_mean((log_probs.argmax(-1) != per_frame).float(), real)
        return {
            "loss": ctc + self.config.frame_weight * frame, "ctc": ctc.detach(), "frame": frame.detach(),
            "frame_error": wrong.detach(),
        }  # fmt: skip


def _distorted(batch: Batch, rng: torch.Generator) -> Tensor:
    """Features with a random tilt and level and masked bands: voices and rooms beyond those of the corpus.

    The masking is SpecAugment's (arXiv 1904.08779), one band and one short stretch of time per item.
    """
    features = batch.features
    count, size, bands = features.shape
    draw = torch.rand(count, 6, generator=rng).to(features.device)
    place = torch.linspace(-1, 1, bands, device=features.device)[None]
    tilt = (draw[:, :1] - 0.5) * place + (draw[:, 1:2] - 0.5) * (place**2)
    band = torch.arange(bands, device=features.device)[None]
    low = draw[:, 2:3] * bands
    masked_band = (band >= low) & (band < low + draw[:, 3:4] * bands / 6)
    time = torch.arange(size, device=features.device)[None]
    first = draw[:, 4:5] * batch.frames[:, None]
    masked_time = (time >= first) & (time < first + 8 * draw[:, 5:6])
    hidden = masked_band[:, None, :] | masked_time[:, :, None]
    return torch.where(hidden, torch.zeros_like(features), features + tilt[:, None, :])


@dataclass(eq=False)
class CtcAligner:
    """Forced alignment with a trained ``PhoneRecogniser``.

    Attributes:
        network: in evaluation mode.
        name: for reports; that of a loaded one tells its weights apart.
    """

    network: PhoneRecogniser
    name: str = "ctc"
    _mel: LogMel = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.network.eval()
        self._mel = LogMel(VOICEBOX_MEL)

    @classmethod
    def load(cls, folder: PathLike) -> CtcAligner:
        """From a checkpoint's folder or a shipped checkpoint's name.

        Raises:
            UserError: no such checkpoint, or one of another kind.
        """
        made = checkpoint.load(checkpoint.find(folder))
        if made.kind != KIND or made.vocabulary is None:
            raise UserError(f"{made.folder} is a checkpoint of kind '{made.kind}', not an aligner")
        network = PhoneRecogniser(load_config(CtcConfig, made.config), made.vocabulary)
        checkpoint.load_state(network, made.state, made.folder)
        return cls(network, f"ctc-{made.hash}")

    def align(self, audio: Audio, analysis: Analysis) -> Alignment:
        """Align a recording of any rate with its analysed text.

        Raises:
            UserError: the text does not fit into the recording, or has phones the network was not trained on.
        """
        targets = self._targets(analysis)
        mono = resample(audio.mono(), VOICEBOX_MEL.sample_rate)
        with torch.inference_mode():
            features = self._mel(torch.from_numpy(mono.samples))
            log_probs = self.network(features, torch.tensor([features.shape[1]]))[0]
        optional = [phone.word < 0 for phone in analysis.phones]
        try:
            spans, _ = ctc_viterbi(log_probs, targets, optional)
        except ValueError as error:
            raise UserError(
                f"the transcript does not fit the recording: {audio.seconds:.2f} s cannot hold its "
                f"{len(targets)} phones; give the words that are said"
            ) from error
        lost = log_probs.max(-1).values[:, None] - log_probs
        deficits = [
            0.0 if s is None else float(lost[s[0] : s[1], c].mean()) for s, c in zip(spans, targets, strict=True)
        ]
        return _timed(analysis, spans, deficits, audio.seconds, self.network.config)

    def _targets(self, analysis: Analysis) -> list[int]:
        index = {name: i for i, name in enumerate(self.network.classes)}
        unknown = [p.symbol for p in analysis.phones if class_of(p.symbol) not in index]
        if unknown:
            raise UserError(f"the aligner was not trained on the phone '{unknown[0]}'; use one of this language")
        return [index[class_of(p.symbol)] for p in analysis.phones]


def _timed(
    analysis: Analysis,
    spans: Sequence[tuple[int, int] | None],
    deficits: Sequence[float],
    seconds: float,
    config: CtcConfig,
) -> Alignment:
    """Spans of frames to contiguous times: blanks between two targets are shared half and half."""
    step = 1 / VOICEBOX_MEL.frame_rate
    bounds = [0.0]
    for i in range(1, len(spans)):
        before = next((s for s in reversed(spans[:i]) if s is not None), None)
        after = next((s for s in spans[i:] if s is not None), None)
        if spans[i - 1] is None and i > 1:
            bounds.append(bounds[-1])
        elif before is None or after is None:
            bounds.append(0.0 if before is None else seconds)
        else:
            bounds.append(min((before[1] + after[0]) / 2 * step, seconds))
    bounds.append(seconds)

    def judge(deficit: float) -> float:
        return logistic(deficit, config.limit, config.slope)

    phones = tuple(
        PhoneTime(p.symbol, p.word, a, max(a, b), judge(d) if p.word >= 0 else None)
        for p, (a, b), d in zip(analysis.phones, pairwise(bounds), deficits, strict=True)
    )
    words, losses = gather_words(analysis, phones, deficits, judge)
    return Alignment(words, phones, losses, config.limit, config.slope)
