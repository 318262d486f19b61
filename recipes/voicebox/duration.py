"""The duration model of Voicebox: masked durations in the context of known ones (arXiv 2306.15687, 3.3).

Two variants share one network: masked regression with an L1 loss (the paper's default), which gives
the best intelligibility, and flow matching, which gives the diversity of real speech.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from flowtts.mask import lengths_to_mask, masked_mean, rand, randn, random_span
from flowtts.nn import Transformer, sinusoidal
from flowtts.path import CondOT, interpolate
from flowtts.solve import solve
from flowtts.types import Batch, Sampling

from .config import DurationConfig


def encode(durations: Tensor) -> Tensor:
    """Frames to the scale the model works on: log(1 + l)."""
    return torch.log1p(durations)


def decode(encoded: Tensor) -> Tensor:
    """Inverse of ``encode``, clipped at zero; still fractional."""
    return torch.expm1(encoded).clamp(min=0)


class DurationModel(nn.Module):
    """Durations (B, L) of phones (B, L) from those that are known."""

    def __init__(self, config: DurationConfig) -> None:
        super().__init__()
        self.config = config
        streams = 2 if config.variant == "flow" else 1
        self.embed = nn.Embedding(config.symbols, config.text_width)
        self.project = nn.Linear(streams + config.text_width, config.body.width)
        self.body = Transformer(config.body)
        self.out = nn.Linear(config.body.width, 1)
        nn.init.normal_(self.embed.weight, std=0.3)

    def regress(self, phones: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Encoded durations (B, L) from encoded known ones ``context`` (B, L), zero where unknown."""
        joined = torch.cat([context[..., None], self.embed(phones)], dim=-1)
        out: Tensor = self.out(self.body(self.project(joined), mask))[..., 0]
        return out

    def velocity(self, x: Tensor, t: Tensor, phones: Tensor, context: Tensor, mask: Tensor, keep: Tensor) -> Tensor:
        """Velocity (B, L) of encoded durations x (B, L) at t (B,); ``keep`` (B,) False drops the condition."""
        gate = keep[:, None].to(x.dtype)
        text = self.embed(phones) * gate[..., None]
        joined = torch.cat([x[..., None], (context * gate)[..., None], text], dim=-1)
        token = sinusoidal(t, self.config.body.width)
        out: Tensor = self.out(self.body(self.project(joined), mask, token=token))[..., 0]
        return out

    def loss(self, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Loss on masked phones only (equations 3 and 5)."""
        config, device = self.config, batch.phones.device
        size = batch.phones.shape[1]
        present = lengths_to_mask(batch.lengths, size)
        # Whole frames are dequantised, so that the flow has a density to learn.
        noise = rand(batch.durations.shape, rng, device) - 0.5
        target = (
            encode((batch.durations + noise).clamp(min=0))
            if config.variant == "flow"
            else encode(batch.durations.float())
        )
        target = target * present
        start, end = random_span(batch.lengths, config.mask_low, config.mask_high, rng)
        place = torch.arange(size, device=device)[None]
        masked = (place >= start[:, None]) & (place < end[:, None])
        whole = rand(start.shape, rng, device) < config.drop_context
        masked = torch.where(whole[:, None], present, masked & present)
        context = torch.where(masked, torch.zeros_like(target), target)
        counted = masked & batch.transcribed[:, None]
        if config.variant == "regression":
            predicted = self.regress(batch.phones, context, present)
            return {"loss": masked_mean((predicted.float() - target).abs(), counted)}
        keep = rand(start.shape, rng, device) >= config.drop_condition
        x0 = randn(target.shape, rng, device)
        t = rand((len(target),), rng, device)
        x_t, velocity = interpolate(CondOT(config.sigma_min), x0[..., None], target[..., None], t)
        predicted = self.velocity(x_t[..., 0], t, batch.phones, context, present, keep)
        return {"loss": masked_mean((predicted.float() - velocity[..., 0]) ** 2, counted)}

    @torch.no_grad()
    def predict(self, phones: Tensor, known: Tensor, given: Tensor, sampling: Sampling, rng: torch.Generator) -> Tensor:
        """Durations in fractional frames (L,), the known ones as given.

        Args:
            phones: (L,) ids.
            known: (L,) bool, True where ``given`` is to be kept.
            given: (L,) frames.
            sampling: used by the "flow" variant alone.
            rng: used by the "flow" variant alone.
        """
        device = next(self.parameters()).device
        ids, mask = phones[None].to(device), torch.ones(1, len(phones), dtype=torch.bool, device=device)
        context = torch.where(known, encode(given.float()), torch.zeros(len(given)))[None].to(device)
        if self.config.variant == "regression":
            encoded = self.regress(ids, context, mask)
        else:
            keep = torch.ones(1, dtype=torch.bool, device=device)
            x0 = torch.randn(1, len(phones), 1, generator=rng).to(device) * sampling.temperature

            def field(t: Tensor, x: Tensor) -> Tensor:
                at = torch.full((1,), float(t), device=device)
                return self.velocity(x[..., 0], at, ids, context, mask, keep)[..., None]

            encoded = solve(field, x0, sampling, rng=rng).x[..., 0]
        made = decode(encoded[0].float().cpu())
        return torch.where(known, given.float(), made)
