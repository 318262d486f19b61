"""Tortoise's diffusion decoder: from codes, or the autoregressive model's hidden states, to mels (arXiv 2305.07243).

The network hears the noising steps of its paper, 0 (least noise) to steps - 1; t runs from 0 (noise) to 1 (data)
everywhere else. `flowtts.path.Discrete.timestep` is the only place where one becomes the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.diffusion import Clipped, LearnedRange
from flowtts.mask import lengths_to_mask, masked_mean, rand, randn
from flowtts.nn import sinusoidal
from flowtts.nn.attention import compute_dtype, is_whole
from flowtts.path import Discrete, to_data, to_velocity
from flowtts.solve import Rng, Solution, guided, solve
from flowtts.types import Field, Sampling, UserError

from .bricks import AttentionBlock, GroupNorm, TimedBlock, silent
from .condition import DecoderBatch, DecoderCondition
from .config import DiffusionConfig

_ROOM = 2**28
"""Most numbers that `PreparedDecoder` keeps as attention biases; beyond, it makes them anew in every layer."""


class Layer(nn.Module):
    """A residual block that knows the time, and attention behind it (not in the last layers)."""

    def __init__(self, config: DiffusionConfig, *, attend: bool = True) -> None:
        super().__init__()
        self.block = TimedBlock(config.width, config.dropout)
        self.attention = AttentionBlock(config.width, config.heads, relative=True) if attend else None

    def forward(self, x: Tensor, time: Tensor, mask: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """X (B, D, T) -> (B, D, T); ``time`` and ``bias`` as its two parts take them."""
        x = self.block(x, time, mask)
        return x if self.attention is None else self.attention(x, mask, bias)


class DiffusionDecoder(nn.Module):
    """Predicts the noise in a mel and its variance from codes or latents and a voice."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        width, channels = config.width, config.mel.channels
        self.enter = nn.Conv1d(channels, width, 3, padding=1)
        self.time_in, self.time_out = nn.Linear(width, width), nn.Linear(width, width)
        self.codes = nn.Embedding(config.codes, width)
        self.code_blocks = nn.ModuleList(AttentionBlock(width, config.heads, relative=True) for _ in range(3))
        self.latent_in = nn.Conv1d(config.latent_width, width, 3, padding=1)
        self.latent_blocks = nn.ModuleList(AttentionBlock(width, config.heads, relative=True) for _ in range(4))
        self.source_norm = GroupNorm(width)
        self.clip_in = nn.Conv1d(channels, width, 3, padding=1, stride=2)
        self.clip_mid = nn.Conv1d(width, 2 * width, 3, padding=1, stride=2)
        self.clip_blocks = nn.ModuleList(AttentionBlock(2 * width, config.heads, relative=True) for _ in range(5))
        self.nothing = nn.Parameter(torch.randn(1, width, 1))
        self.integrator = nn.ModuleList(Layer(config) for _ in range(3))
        self.join = nn.Conv1d(2 * width, width, 1)
        self.mel_head = nn.Conv1d(width, channels, 3, padding=1)
        self.layers = nn.ModuleList(Layer(config, attend=i < config.layers) for i in range(config.layers + 3))
        self.out_norm = GroupNorm(width)
        self.out = nn.Conv1d(width, 2 * channels, 3, padding=1)

    @cached_property
    def schedule(self) -> Discrete:
        """The noising steps."""
        return Discrete.linear(self.config.steps)

    @cached_property
    def range(self) -> LearnedRange:
        """Of the variance."""
        return LearnedRange(self.schedule)

    def conditioning(self, clips: Tensor, frames: Tensor | None = None) -> Tensor:
        """The voice (B, 2 D) of reference clips (B, K, T, C), of which ``frames`` (B, K) int64 are real, or all."""
        batch, count, size, channels = clips.shape
        if self.config.raw_conditioning:
            # Published weights hear clips before the normalisation.
            clips = clips * self.config.mel.std + self.config.mel.mean
        x = clips.to(self.clip_in.weight.dtype).reshape(batch * count, size, channels).transpose(1, 2)
        mask = None if frames is None else _partial(lengths_to_mask(frames.reshape(-1), size))
        x = self.clip_in(silent(x, mask))
        mask = None if mask is None else mask[:, ::2]
        x = self.clip_mid(silent(x, mask))
        mask = None if mask is None else mask[:, ::2]
        for block in self.clip_blocks:
            x = block(x, mask)
        if mask is None:
            whole: Tensor = x.reshape(batch, count, *x.shape[1:]).mean((1, 3))
            return whole
        total = silent(x.float(), mask).sum(2).reshape(batch, count, -1).sum(1)
        return (total / mask.reshape(batch, -1).sum(1, keepdim=True).clamp(min=1)).to(x.dtype)

    def aligned(
        self, source: Tensor, lengths: Tensor, voice: Tensor, frames: Tensor, size: int | None = None
    ) -> Tensor:
        """Codes or latents in a voice, stretched to frames: (B, T, D), "timestep independent" where it was published.

        Args:
            source: (B, N) int64 codes, or (B, N, W) float latents.
            lengths: (B,) int64 real codes.
            voice: (B, 2 D) of `conditioning`.
            frames: (B,) int64 frames that each item is to have.
            size: T; the longest by default.
        """
        mask = _partial(lengths_to_mask(lengths, source.shape[1]))
        if source.is_floating_point():
            source = source.to(self.latent_in.weight.dtype).transpose(1, 2)
            x, blocks = self.latent_in(silent(source, mask)), self.latent_blocks
        else:
            x, blocks = self.codes(source).transpose(1, 2), self.code_blocks
        for block in blocks:
            x = block(x, mask)
        scale, shift = voice[..., None].chunk(2, dim=1)
        x = self.source_norm(x, mask) * (1 + scale) + shift
        place = torch.arange(int(frames.max()) if size is None else size, device=x.device, dtype=torch.float32)
        # In float32 as torch's own nearest interpolation, which rounds some whole numbers down.
        index = (place * (lengths / frames)[:, None].float()).long().minimum(lengths[:, None] - 1)
        stretched: Tensor = x.transpose(1, 2).gather(1, index[..., None].expand(-1, -1, x.shape[1]))
        return stretched

    def condition(
        self, source: Tensor, lengths: Tensor, voice: Tensor, frames: Tensor, size: int | None = None
    ) -> DecoderCondition:
        """`aligned` with its masks, arguments as there."""
        made = self.aligned(source, lengths, voice, frames, size)
        keep = torch.ones(len(made), dtype=torch.bool, device=made.device)
        return DecoderCondition(made, lengths_to_mask(frames, made.shape[1]), keep)

    def forward(self, x: Tensor, t: Tensor, cond: DecoderCondition) -> Tensor:
        """Noise and variance channels (B, T, 2 C) at x (B, T, C) and times t (B,)."""
        return self._predict(x, whole_steps(self.schedule.timestep(t)), cond)

    def loss(self, batch: DecoderBatch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """The hybrid loss of `LearnedRange`, and the mean square of what the condition alone says of the mel."""
        config, x1 = self.config, batch.features
        device, items = x1.device, len(x1)
        source = batch.codes if batch.latents is None else batch.latents
        assert source is not None
        voice = self.conditioning(batch.clips, batch.clip_frames)
        cond = self.condition(source, batch.code_lengths, voice, batch.frames, x1.shape[1])
        cond = replace(cond, keep=rand((items,), rng, device) >= config.drop_condition)
        step = torch.randint(config.shallow or config.steps, (items,), generator=rng, device=rng.device)
        x0 = randn(x1.shape, rng, device)
        dropped = self._dropped(rng)
        output = self._predict(self.range.noisy(x1, x0, step), step.to(device).float(), cond, dropped)
        found = dict(self.range.loss(output, x0, step, cond.mask, config.vlb_weight))
        guess = self._guess(cond)
        # Utterances without a condition teach the condition nothing.
        mel = masked_mean((guess.float() - x1) ** 2, cond.mask & cond.keep[:, None])
        total = found["loss"] + config.mel_weight * mel
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # Processes wait for a gradient of everything: also of layers left out and of what reads the other source.
            total = total + 0 * torch.stack([parameter.sum() for parameter in self.parameters()]).sum()
        return {**found, "loss": total, "mel": mel}

    def prepare(self, cond: DecoderCondition) -> PreparedDecoder:
        """All that depends on neither x nor t, computed once: a field of velocities for k B items."""
        return PreparedDecoder(self, cond)

    def sample(self, cond: DecoderCondition, sampling: Sampling, rng: Rng) -> Solution:
        """Mels (B, T, C) of a condition, zero on padding.

        From t = 0, step T - 1 (or the shallow one), to the least noisy step, whence the predicted data are taken, as
        the papers' last step does: beyond it nothing was learnt and the velocity grows without bound. Both count as
        ``sampling.steps``.
        A uniform grid keeps to steps that the network was trained on.

        Args:
            cond: of B items.
            sampling: how; "ddpm" uses the variance that was learnt.
            rng: one generator, or one per item for results that do not depend on company.

        Raises:
            UserError: there are fewer than 2 steps or more than the network learnt, or as `solve` says.
        """
        config = self.config
        first = config.shallow or config.steps
        if not 2 <= sampling.steps <= first:
            raise UserError(f"the diffusion decoder takes 2 to {first} steps, not {sampling.steps}")
        # The whole trained steps (`space_timesteps` of the published code) lie at equal distances up to rounding.
        grid = f"whole:{first - 1}" if sampling.grid == "uniform" else sampling.grid
        begin, end = (torch.tensor(1 - step / config.steps, dtype=torch.float64) for step in (first, 1))
        with torch.inference_mode():
            x0 = self._noise(cond.mask, rng) * sampling.temperature
            if config.shallow:
                alpha, sigma = (float(c) for c in self.schedule(begin)[:2])
                x0 = (alpha * self._guess(cond).float() + sigma * x0) * cond.mask[..., None]
            branches = guided(self, cond, sampling.guidance)
            field: Field = Clipped(branches, self.schedule, -config.clip, config.clip) if config.clip else branches
            inner = replace(sampling, grid=grid, steps=sampling.steps - 1)
            made = solve(field, x0, inner, (float(begin), float(end)), schedule=self.schedule, rng=rng)
            data = to_data(self.schedule, "velocity", field(end, made.x), made.x, end)
            calls = made.network_calls + branches.calls(float(end))
            return Solution(data * cond.mask[..., None], made.nfe + 1, calls)

    def _guess(self, cond: DecoderCondition) -> Tensor:
        """(B, T, C) the mel that the condition alone suggests."""
        made: Tensor = self.mel_head(silent(cond.aligned.transpose(1, 2), _partial(cond.mask)))
        return made.transpose(1, 2)

    def _noise(self, mask: Tensor, rng: Rng) -> Tensor:
        """(B, T, C) float32, every item's as long as the item, so that padding changes none."""
        lengths = mask.sum(1).tolist()
        rngs = [rng] * len(lengths) if rng is None or isinstance(rng, torch.Generator) else rng
        noise = torch.zeros(*mask.shape, self.config.mel.channels, device=mask.device)
        for item, length, source in zip(noise, lengths, rngs, strict=True):
            if source is None:
                raise UserError("the diffusion decoder starts from noise but was given no rng: pass one")
            item[:length] = randn((length, noise.shape[-1]), source, mask.device)
        return noise

    def stack(self) -> tuple[list[Layer], list[Layer]]:
        """The layers that join the source with the time, and those that follow."""
        integrator, layers = ([x for x in part if isinstance(x, Layer)] for part in (self.integrator, self.layers))
        return integrator, layers

    def _dropped(self, rng: torch.Generator) -> Sequence[bool]:
        """Which layers are left out; never the first or the last."""
        if not self.training or not self.config.layer_drop:
            return [False] * len(self.layers)
        drawn = torch.rand(len(self.layers), generator=rng, device=rng.device) < self.config.layer_drop
        return [False, *drawn.tolist()[1:-1], False]

    def _predict(self, x: Tensor, step: Tensor, cond: DecoderCondition, dropped: Sequence[bool] = ()) -> Tensor:
        """Noise and variance (B, T, 2 C) at noising steps (B,)."""
        mask, token = _partial(cond.mask), self._token(step)
        source = self._source(cond)
        integrator, layers = self.stack()
        for layer in integrator:
            source = layer(source, layer.block.modulation(token), mask)
        hidden = self.enter(silent(x.to(self.enter.weight.dtype).transpose(1, 2), mask))
        hidden = self.join(torch.cat([hidden, source.to(hidden.dtype)], dim=1))
        for layer, left_out in zip(layers, dropped or [False] * len(layers), strict=True):
            if not left_out:
                hidden = layer(hidden, layer.block.modulation(token), mask)
        return self._leave(hidden, mask)

    def _leave(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """(B, D, T) -> (B, T, 2 C)."""
        made: Tensor = self.out(silent(F.silu(self.out_norm(hidden, mask)), mask))
        return made.transpose(1, 2)

    def _source(self, cond: DecoderCondition) -> Tensor:
        """(B, D, T) what is known, and the learnt nothing where that is not to be used."""
        return torch.where(cond.keep[:, None, None], cond.aligned.transpose(1, 2), self.nothing.to(cond.aligned.dtype))

    def _token(self, step: Tensor) -> Tensor:
        """(B, D) embedding of noising steps (B,)."""
        width = self.config.width
        # Published weights know the cosines first.
        waves = sinusoidal(step, width, scale=1.0).roll(width // 2, -1)
        token: Tensor = self.time_out(F.silu(self.time_in(waves.to(self.time_in.weight.dtype))))
        return token


class PreparedDecoder:
    """The decoder with its condition given: a field (t, x) -> velocity, cheap to call again and again.

    Args:
        model: the network.
        cond: of k B items.
    """

    def __init__(self, model: DiffusionDecoder, cond: DecoderCondition) -> None:
        self._model = model
        self._mask = _partial(cond.mask)
        self._source = model._source(cond)
        items, _, length = self._source.shape
        weight = model.enter.weight
        integrator, layers = model.stack()
        self._inner, self._layers = len(integrator), integrator + layers
        attentions = [layer.attention for layer in self._layers]
        needed = (1 if self._mask is None else items) * model.config.heads * length**2 * len(attentions)
        self._biases: list[Tensor | None] = [
            attention.biases(length, self._mask, compute_dtype(weight)) if attention and needed <= _ROOM else None
            for attention in attentions
        ]
        # The first convolution and what joins it with the source are linear: one convolution does both.
        own, known = model.join.weight.float().chunk(2, dim=1)
        assert model.enter.bias is not None and model.join.bias is not None
        self._weight = torch.einsum("oi,ick->ock", own[..., 0], weight.float()).to(weight.dtype)
        self._bias = (own[..., 0] @ model.enter.bias.float() + model.join.bias.float()).to(weight.dtype)
        self._known = known.to(weight.dtype)
        self._times: dict[float, list[Tensor]] = {}
        self._joined: tuple[float, Tensor] | None = None
        self._share: Tensor | None = None

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocity (k B, T, C) at a scalar ``t`` and ``x`` (B, T, C), which all k branches share."""
        mask, inner, model = self._mask, self._inner, self._model
        times, known = self._at(t)
        seen = x.to(self._weight.dtype).transpose(1, 2)
        hidden = F.conv1d(silent(seen, None if mask is None else mask[: len(x)]), self._weight, self._bias, padding=1)
        branches = len(self._source) // len(x)
        hidden = hidden.repeat(branches, 1, 1) + known
        for layer, time, bias in zip(self._layers[inner:], times[inner:], self._biases[inner:], strict=True):
            hidden = layer(hidden, time, mask, bias)
        noise, self._share = model._leave(hidden, mask).to(x.dtype).chunk(2, dim=-1)
        return to_velocity(model.schedule, "noise", noise, x.repeat(branches, 1, 1), t)

    def share(self, t: Tensor) -> Tensor | None:
        """(k B, T, C) where the latest evaluation put the variance, 0 to 1 (see `flowtts.solve.Ranged`)."""
        return None if self._share is None else (self._share + 1) / 2

    def _at(self, t: Tensor) -> tuple[list[Tensor], Tensor]:
        """What all layers do to their input at ``t``, and what the source then adds (k B, D, T)."""
        step = float(whole_steps(self._model.schedule.timestep(t)))
        if step not in self._times:
            token = self._model._token(torch.full((1,), step, device=self._source.device))
            self._times[step] = [layer.block.modulation(token) for layer in self._layers]
        times = self._times[step]
        if self._joined is None or self._joined[0] != step:
            source, inner = self._source, self._inner
            for layer, time, bias in zip(self._layers[:inner], times[:inner], self._biases[:inner], strict=True):
                source = layer(source, time, self._mask, bias)
            self._joined = step, F.conv1d(source, self._known)
        return times, self._joined[1]


def _partial(mask: Tensor) -> Tensor | None:
    """A mask, or None where nothing is padding, which is cheaper."""
    return None if is_whole(mask) else mask


def whole_steps(step: Tensor) -> Tensor:
    """Noising steps freed of the rounding of t: those within a thousandth of a whole number become it."""
    whole = step.round()
    return torch.where((step - whole).abs() < 1e-3, whole, step)
