"""Where transient noise covers speech.

Voicebox removes noise that comes and goes by regenerating the frames it covers (arXiv 2306.15687, section 5); the paper
is told which ones. Here they are found: a small convolutional network gives every 20 ms a probability, and runs of
likely frames around a very likely one are spans. It was fitted to synthetic bursts over recordings of people
(``benchmarks/find_noise.py fit``), and sees levels only relative to the recording itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.audio.mel import LogMel
from flowtts.config import load as load_config
from flowtts.edit.recording import Recording
from flowtts.types import Audio, MelSpec, UserError

KIND = "noise"
"""What ``config.yaml`` of a checkpoint folder calls the network."""

SHIPPED = "transient-noise"

_STRIDE = 2
_WINDOW, _OVERLAP = 24.0, 4.0
"""Seconds that are judged at once, and how much of them is only context at either side."""

_REACH = 6.0
"""Features, natural logarithms over the recording's mean or floor, are limited to this."""


@dataclass(frozen=True)
class NoiseConfig:
    """The network, and how its probabilities become spans.

    Attributes:
        mel: what it reads.
        dim: channels.
        dilations: of the blocks, each a depthwise convolution over ``kernel`` frames of 20 ms and two dense layers.
        kernel: frames.
        likely: a span's frames are at least this probable,
        certain: and its most probable one this.
        shortest: seconds; shorter spans are dropped.
        gap: seconds; spans nearer than this are one.
        margin: seconds added at either end, for what rings on.
    """

    mel: MelSpec = field(default_factory=lambda: MelSpec(n_fft=512, win_length=400, n_mels=40))
    dim: int = 64
    dilations: tuple[int, ...] = (1, 2, 4, 8, 2, 1)
    kernel: int = 7
    likely: float = 0.5
    certain: float = 0.95
    shortest: float = 0.04
    gap: float = 0.08
    margin: float = 0.02


class _Block(nn.Module):
    """Depthwise convolution, statistics of the whole window, two dense layers; residual."""

    def __init__(self, dim: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.near = nn.Conv1d(dim, dim, kernel, dilation=dilation, padding=dilation * (kernel // 2), groups=dim)
        self.whole = nn.Linear(2 * dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dense = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        # What is loud or odd is so in comparison with the rest of the recording.
        whole = self.whole(torch.cat([x.mean(1), x.var(1, unbiased=False).add(1e-5).sqrt()], dim=-1))
        near = self.near(x.transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.dense(self.norm(near + whole[:, None]))
        return out


class NoiseNetwork(nn.Module):
    """Log-mel frames to logits of "noise", one every two frames."""

    def __init__(self, config: NoiseConfig) -> None:
        """Random weights, from PyTorch's default generator."""
        super().__init__()
        self.config = config
        self.into = nn.Conv1d(2 * config.mel.n_mels, config.dim, 5, stride=_STRIDE, padding=2)
        self.blocks = nn.Sequential(*(_Block(config.dim, config.kernel, d) for d in config.dilations))
        self.out = nn.Linear(config.dim, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, T, C) log-mel of whole windows, unpadded -> (B, ceil(T / 2)) logits."""
        features = relative(mel)
        hidden = self.blocks(nn.functional.gelu(self.into(features.transpose(1, 2))).transpose(1, 2))
        logits: Tensor = self.out(hidden)[..., 0]
        return logits


def relative(mel: Tensor) -> Tensor:
    """Log-mel (B, T, C) over the window's mean level and over its noise floor in each band: (B, T, 2C).

    A gain changes neither, a stationary filter only the first. The floor is the band's 10th percentile.
    """
    over_mean = mel - mel.mean(dim=(1, 2), keepdim=True)
    over_floor = mel - mel.quantile(0.1, dim=1, keepdim=True)
    return torch.cat([over_mean, over_floor], dim=-1).clamp(-_REACH, _REACH) / 2


class NoiseFinder:
    """A fitted network.

    Args:
        network: in evaluation mode.
    """

    def __init__(self, network: NoiseNetwork) -> None:
        self.network, self.config = network.eval(), network.config
        self._mel = LogMel(self.config.mel)

    @classmethod
    def load(cls, name: str | Path = SHIPPED) -> NoiseFinder:
        """From a checkpoint's name or folder.

        Raises:
            UserError: there is none, it is broken, or it holds something else.
        """
        found = checkpoint.load(checkpoint.find(name))
        if found.kind != KIND:
            raise UserError(
                f"{found.folder} is a checkpoint of kind {found.kind}; finding noise needs one of kind {KIND}"
            )
        network = NoiseNetwork(load_config(NoiseConfig, found.config))
        checkpoint.load_state(network, found.state, found.folder)
        return cls(network)

    @property
    def step(self) -> float:
        """Seconds between probabilities."""
        return _STRIDE / self.config.mel.frame_rate

    def probabilities(self, source: Audio | Recording) -> NDArray[np.float32]:
        """(n,) of noise, for [i, i + 1) * ``step`` seconds each; empty for less than two frames or digital silence.

        A recording is read window by window, so that memory does not grow with it.

        Args:
            source: any rate and number of channels.
        """
        if isinstance(source, Audio):
            if source.samples.size == 0:
                return np.zeros(0, dtype=np.float32)
            source = Recording.open(source)
        frames = int(source.seconds / self.step + 1e-9)
        parts = [self._judge(source, *window) for window in self._windows(frames)]
        return np.concatenate([np.zeros(0, dtype=np.float32), *parts])

    def _windows(self, frames: int) -> Iterator[tuple[int, int, int, int]]:
        """[start, end) of a window and [first, last) of what is kept of it, the latter covering all frames in order."""
        window, overlap = round(_WINDOW / self.step), round(_OVERLAP / self.step)
        first = 0
        while first < frames:
            # The last window reaches back, so that none is too short to know what is usual in the recording.
            start = max(0, min(first - overlap, frames - window))
            last = frames if start + window >= frames else start + window - overlap
            yield start, min(frames, start + window), first, last
            first = last

    def _judge(self, recording: Recording, start: int, end: int, first: int, last: int) -> NDArray[np.float32]:
        rate, wanted = recording.sample_rate, self.config.mel.sample_rate
        begin, stop = (min(recording.length, round(frame * self.step * rate)) for frame in (start, end))
        samples = recording.mono(begin, stop, wanted).samples
        count = (end - start) * _STRIDE * self.config.mel.hop_length
        # Rates that are no multiple of 50 Hz round to a sample more or less.
        samples = np.pad(samples, (0, max(0, count - len(samples))))[:count]
        if not np.any(samples):
            return np.zeros(last - first, dtype=np.float32)
        with torch.no_grad():
            logits = self.network(self._mel(torch.from_numpy(samples)[None]))[0]
        return np.asarray(logits[first - start : last - start].sigmoid().numpy(), dtype=np.float32)

    def find(self, source: Audio | Recording) -> list[tuple[float, float]]:
        """Spans of transient noise, seconds, in order and apart."""
        return self.spans(self.probabilities(source), source.seconds)

    def spans(self, probabilities: NDArray[np.float32], seconds: float) -> list[tuple[float, float]]:
        """Spans of what ``probabilities`` returned, inside [0, seconds]."""
        config, step = self.config, self.step
        joined: list[tuple[float, float]] = []
        for first, last in runs(probabilities >= config.likely):
            if probabilities[first:last].max() < config.certain:
                continue
            start, end = first * step, last * step
            if joined and start - joined[-1][1] < config.gap:
                start = joined.pop()[0]
            joined.append((start, end))
        long = [(a, b) for a, b in joined if b - a >= config.shortest - 1e-9]
        padded: list[tuple[float, float]] = []
        for start, end in long:
            start, end = max(0.0, start - config.margin), min(seconds, end + config.margin)
            if padded and start <= padded[-1][1]:
                start = padded.pop()[0]
            padded.append((start, end))
        return padded


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[first, last) of every run of True in (n,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def find_noise(source: Audio | Recording) -> list[tuple[float, float]]:
    """Where bursts of noise cover the speech: slams, clicks, barks, horns, engines, hiss, other people's babble.

    What is there all the time is not transient and not found; neither is a single other speaker's voice, which is
    speech. See the checkpoint's README for how much is found, by kind and level.

    Args:
        source: of one speaker, any length, rate and number of channels.

    Returns:
        (start, end) seconds, in order, not touching; empty for a clean recording.

    Raises:
        UserError: the shipped network is missing.
    """
    return _shipped().find(source)


@lru_cache(maxsize=1)
def _shipped() -> NoiseFinder:
    return NoiseFinder.load()
