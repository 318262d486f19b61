"""The audio model of Voicebox: masked conditional flow matching on log-mels (arXiv 2306.15687, 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from flowtts.align import repeat
from flowtts.mask import lengths_to_mask, masked_mean, rand, randn, random_span
from flowtts.nn import Transformer, sinusoidal
from flowtts.nn.attention import compute_dtype, is_whole
from flowtts.path import CondOT, interpolate
from flowtts.types import Batch, Condition

from .config import AudioConfig


class AudioModel(nn.Module):
    """Predicts the velocity of every frame from noisy frames, context frames and frame-level phones."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        width, stack = config.body.width, config.frames_per_token
        channels = config.spec.channels
        self.embed = nn.Embedding(config.symbols, config.text_width)
        self.project = nn.Linear(stack * (2 * channels + config.text_width), width)
        self.body = Transformer(config.body)
        self.out = nn.Linear(width, stack * channels)
        nn.init.normal_(self.embed.weight, std=0.3)
        self.stride: nn.Linear | None = None
        if config.average:
            # Zero at first: the mean velocity then begins as the velocity of whatever weights it is trained from.
            self.stride = nn.Linear(width, width)
            nn.init.zeros_(self.stride.weight)
            nn.init.zeros_(self.stride.bias)

    def forward(self, x: Tensor, t: Tensor, cond: Condition, s: Tensor | None = None) -> Tensor:
        """Velocity (B, T, C) at x (B, T, C) and times t (B,).

        The null condition is zero text and zero context: nothing is learned for it (a learned null
        is a known cause of NaN).

        Args:
            x: (B, T, C) noisy frames.
            t: (B,) times.
            cond: of the B items.
            s: (B,) ends of the steps of a few-step model, whose mean velocity from t to s is returned; t if None.
        """
        mask = self._tokens(cond.mask)
        hidden = self.project(self._stacked(self._joined(x, cond), cond.mask))
        token = self._token(t, t if s is None else s)
        return self._frames(self.body(hidden, mask, token=token), x.shape[1])

    def prepare(self, cond: Condition) -> PreparedAudio:
        """All that depends on neither x nor t, computed once: a field of the condition's items.

        Args:
            cond: of k B items for a later x of B, the branches of guidance one after the other.
        """
        return PreparedFewStep(self, cond) if self.config.average else PreparedAudio(self, cond)

    def _joined(self, x: Tensor, cond: Condition) -> Tensor:
        """(B, T, 2 C + H) what a frame is told."""
        keep = cond.keep[:, None, None].to(x.dtype)
        return torch.cat([x, cond.prompt.to(x.dtype) * keep, self.embed(cond.text) * keep], dim=-1)

    def _stacked(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D) frames as (B, T / stack, stack D) tokens; frames outside ``mask`` do not reach a token's others."""
        stack = self.config.frames_per_token
        if stack == 1:
            return frames
        if mask is not None:
            frames = frames * mask[..., None].to(frames.dtype)
        missing = -frames.shape[1] % stack
        if missing:
            frames = nn.functional.pad(frames, (0, 0, 0, missing))
        return frames.reshape(len(frames), -1, stack * frames.shape[-1])

    def _tokens(self, mask: Tensor) -> Tensor:
        """(B, T) frames that exist -> (B, T / stack) tokens that hold one."""
        stack = self.config.frames_per_token
        if stack == 1:
            return mask
        return nn.functional.pad(mask, (0, -mask.shape[1] % stack)).reshape(len(mask), -1, stack).any(-1)

    def _token(self, t: Tensor, s: Tensor) -> Tensor:
        """(B, D) the time token."""
        token = sinusoidal(t, self.config.body.width)
        if self.stride is None:
            return token
        apart = sinusoidal(s - t, self.config.body.width)
        moved: Tensor = token + self.stride(apart.to(self.stride.weight.dtype))
        return moved

    def _frames(self, hidden: Tensor, length: int) -> Tensor:
        """Tokens back to (B, T, C) frames."""
        velocity: Tensor = self.out(hidden)
        return velocity.reshape(len(velocity), -1, self.config.spec.channels)[:, :length]

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


class PreparedAudio:
    """The audio model with its condition given: a field (t, x) -> velocity, cheap to call again and again.

    Text, prompt, masks and attention biases are worked out once, and every time's embedding at its first use.

    Args:
        model: the network.
        cond: of k B items.
    """

    def __init__(self, model: AudioModel, cond: Condition) -> None:
        self._model = model
        self._items, self._length = cond.mask.shape
        channels, stack = model.config.spec.channels, model.config.frames_per_token
        weight = model.project.weight
        whole = is_whole(cond.mask)
        self._mask = None if whole else cond.mask
        self._layout = model.body.prepare(model._tokens(cond.mask), extra=True, dtype=compute_dtype(weight))
        empty = torch.zeros(*cond.mask.shape, channels, dtype=weight.dtype, device=weight.device)
        # The projection is linear: what it makes of everything but x is a constant of the utterance.
        self._known = model.project(model._stacked(model._joined(empty, cond), cond.mask))
        per_frame = weight.reshape(len(weight), stack, -1)
        self._weight = per_frame[:, :, :channels].flatten(1).contiguous()
        self._times: dict[tuple[float, float], Tensor] = {}

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocity (k B, T, C) at a scalar ``t`` and ``x`` (B, T, C), which all k branches share."""
        return self._velocity(t, t, x)

    def _velocity(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
        model = self._model
        mask = None if self._mask is None else self._mask[: len(x)]
        seen = torch.nn.functional.linear(model._stacked(x.to(self._weight.dtype), mask), self._weight)
        branches = self._items // len(x)
        hidden = (seen if branches == 1 else seen.repeat(branches, 1, 1)) + self._known
        return model._frames(model.body.run(hidden, self._layout, self._token(t, s)), self._length)

    def _token(self, t: Tensor, s: Tensor) -> Tensor:
        key = (float(t), float(s))
        if key not in self._times:
            device = self._weight.device
            begin, end = (torch.full((1,), time, dtype=torch.float32, device=device) for time in key)
            token = self._model._token(begin, end)
            self._times[key] = token.expand(self._items, -1)
        return self._times[key]


class PreparedFewStep(PreparedAudio):
    """The same for a few-step model, which knows where its trajectories lead."""

    def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
        """The mean velocity (k B, T, C) from ``t`` to ``s``, scalars, at ``x`` (B, T, C)."""
        return self._velocity(t, s, x)


def _snap(edges: Tensor, position: Tensor, *, down: bool) -> Tensor:
    """The phone edge at or before (``down``) or at or after each position. edges (B, L+1) ascend."""
    if down:
        index = torch.searchsorted(edges, position[:, None], right=True) - 1
    else:
        index = torch.searchsorted(edges, position[:, None])
    return edges.gather(1, index.clamp(0, edges.shape[1] - 1))[:, 0]
