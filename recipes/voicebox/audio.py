"""The audio model of Voicebox: masked conditional flow matching on log-mels (arXiv 2306.15687, 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from flowtts.align import repeat
from flowtts.mask import lengths_to_mask, masked_mean, rand, randn, random_span
from flowtts.nn import Transformer, sinusoidal
from flowtts.path import CondOT, interpolate
from flowtts.types import Batch, Condition

from .config import AudioConfig


class AudioModel(nn.Module):
    """Predicts the velocity of every frame from noisy frames, context frames and frame-level phones."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        width, stack = config.body.width, config.frames_per_token
        channels = config.mel.channels
        self.embed = nn.Embedding(config.symbols, config.text_width)
        self.project = nn.Linear(stack * (2 * channels + config.text_width), width)
        self.body = Transformer(config.body)
        self.out = nn.Linear(width, stack * channels)
        nn.init.normal_(self.embed.weight, std=0.3)

    def forward(self, x: Tensor, t: Tensor, cond: Condition) -> Tensor:
        """Velocity (B, T, C) at x (B, T, C) and times t (B,).

        The null condition is zero text and zero context: nothing is learned for it (a learned null
        is a known cause of NaN).
        """
        keep = cond.keep[:, None, None].to(x.dtype)
        text = self.embed(cond.text) * keep
        joined = torch.cat([x, cond.prompt * keep, text], dim=-1)
        stack, length = self.config.frames_per_token, x.shape[1]
        missing = -length % stack
        mask = cond.mask
        if stack > 1:
            joined = nn.functional.pad(joined, (0, 0, 0, missing))
            mask = nn.functional.pad(mask, (0, missing))
            joined = joined * mask[..., None].to(joined.dtype)
            joined = joined.reshape(len(x), -1, stack * joined.shape[-1])
            mask = mask.reshape(len(x), -1, stack).any(-1)
        hidden = self.body(self.project(joined), mask, token=sinusoidal(t, self.config.body.width))
        velocity: Tensor = self.out(hidden).reshape(len(x), -1, x.shape[-1])
        return velocity[:, :length]

    def loss(self, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Masked flow-matching loss (equation 5): masked frames only."""
        device = batch.features.device
        cond, masked = self.condition(batch, rng)
        x1 = batch.features
        x0 = randn(x1.shape, rng, device)
        t = rand((len(x1),), rng, device)
        x_t, target = interpolate(CondOT(self.config.sigma_min), x0, x1, t)
        error = (self(x_t, t, cond).float() - target) ** 2
        return {"loss": masked_mean(error, masked)}

    def condition(self, batch: Batch, rng: torch.Generator) -> tuple[Condition, Tensor]:
        """Training condition and the (B, T) mask of frames to be generated.

        The masked chunk begins and ends on phone boundaries (m = rep(m', l)); the draws are per
        utterance, never per batch.
        """
        config, size = self.config, batch.features.shape[1]
        present = lengths_to_mask(batch.frames, size)
        start, end = random_span(batch.frames, config.mask_low, config.mask_high, rng)
        edges = torch.nn.functional.pad(batch.durations.cumsum(1), (1, 0))
        start, end = _snap(edges, start, down=True), _snap(edges, end, down=False)
        place = torch.arange(size, device=present.device)[None]
        masked = (place >= start[:, None]) & (place < end[:, None]) & present
        whole = rand(start.shape, rng, present.device) < config.drop_context
        masked = torch.where(whole[:, None], present, masked)
        known = present & ~masked
        text = repeat(batch.phones * batch.transcribed[:, None], batch.durations, size)
        keep = rand(start.shape, rng, present.device) >= config.drop_condition
        prompt = batch.features * known[..., None].to(batch.features.dtype)
        return Condition(text, prompt, known, present, keep), masked

    def without_text(self, cond: Condition) -> Condition:
        """The condition with its text unknown and its prompt kept, for separate guidance."""
        return replace(cond, text=torch.zeros_like(cond.text))


def _snap(edges: Tensor, position: Tensor, *, down: bool) -> Tensor:
    """The phone edge at or before (``down``) or at or after each position. edges (B, L+1) ascend."""
    if down:
        index = torch.searchsorted(edges, position[:, None], right=True) - 1
    else:
        index = torch.searchsorted(edges, position[:, None])
    return edges.gather(1, index.clamp(0, edges.shape[1] - 1))[:, 0]
