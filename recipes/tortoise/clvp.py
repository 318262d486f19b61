"""CLVP, the judge of Tortoise: how well codes say a text (arXiv 2305.07243, section 2.2; sizes of the public code)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.contrastive import contrast
from flowtts.mask import lengths_to_mask, rand
from flowtts.nn.attention import is_whole
from flowtts.nn.rotary import Rotary, rotary

from .config import CLVPConfig

_EPSILON = 1e-8
"""The smallest root mean square that is divided by, as published."""


class SpokenTexts(Protocol):
    """A batch of texts and what was said, as `CLVP.loss` reads it.

    Attributes:
        text: (B, L) int64 text ids.
        text_lengths: (B,) int64 real ids.
        codes: (B, N) int64 codes.
        code_lengths: (B,) int64 real codes.
    """

    @property
    def text(self) -> Tensor: ...  # noqa: D102
    @property
    def text_lengths(self) -> Tensor: ...  # noqa: D102
    @property
    def codes(self) -> Tensor: ...  # noqa: D102
    @property
    def code_lengths(self) -> Tensor: ...  # noqa: D102


class Attention(nn.Module):
    """A pre-norm residual branch: self-attention with rotary positions."""

    def __init__(self, config: CLVPConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        inner = config.heads * config.head_width
        self.norm = nn.RMSNorm(config.width, eps=_EPSILON**2)
        self.query = nn.Linear(config.width, inner, bias=False)
        self.key = nn.Linear(config.width, inner, bias=False)
        self.value = nn.Linear(config.width, inner, bias=False)
        self.out = nn.Linear(inner, config.width)

    def forward(self, x: Tensor, turn: Rotary, seen: Tensor | None) -> Tensor:
        """X (B, T, D) -> what is added to it; ``seen`` (B, 1, 1, T) bool are the keys that exist."""
        batch, length, _ = x.shape
        hidden = self.norm(x)
        # Values turn as well, as published: what is mixed then also tells where it comes from.
        q, k, v = (
            turn(part(hidden).view(batch, length, self.heads, -1).transpose(1, 2))
            for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=self.dropout * self.training)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        return out


class GatedFeedForward(nn.Module):
    """A pre-norm residual branch: GEGLU (arXiv 2002.05202)."""

    def __init__(self, config: CLVPConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.norm = nn.RMSNorm(config.width, eps=_EPSILON**2)
        self.inner = nn.Linear(config.width, 2 * config.ffn)
        self.out = nn.Linear(config.ffn, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """X (B, T, D) -> what is added to it."""
        value, gate = self.inner(self.norm(x)).chunk(2, dim=-1)
        out: Tensor = self.out(F.dropout(value * F.gelu(gate), self.dropout, self.training))
        return out


class Encoder(nn.Module):
    """Symbols to one unit vector: a transformer, the mean over the symbols, a projection.

    Args:
        config: sizes.
        symbols: size of the vocabulary.
    """

    def __init__(self, config: CLVPConfig, symbols: int) -> None:
        super().__init__()
        self.rotary_width = config.rotary_width
        self.embed = nn.Embedding(symbols, config.width)
        # In turns and numbered through, as published, so that names alone tell where published weights belong.
        branches = (make(config) for _ in range(config.layers) for make in (Attention, GatedFeedForward))
        self.branches = nn.ModuleList(branches)
        self.norm = nn.LayerNorm(config.width)
        self.latent = nn.Linear(config.width, config.latent, bias=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids (B, T) -> (B, latent) unit vectors, of the positions in ``mask`` (B, T) alone; float32 or better."""
        x = self.embed(ids)
        turn = rotary(torch.arange(ids.shape[1], device=ids.device), self.rotary_width, pairs="half")
        seen = None if is_whole(mask) else mask[:, None, None]
        for attention, feed_forward in zip(self.branches[::2], self.branches[1::2], strict=True):
            x = x + attention(x, turn, seen)
            x = x + feed_forward(x)
        mean = _mean(self.norm(x), mask).to(self.latent.weight.dtype)
        latent: Tensor = self.latent(mean)
        return F.normalize(latent.to(torch.promote_types(latent.dtype, torch.float32)), dim=-1)


class CLVP(nn.Module):
    """Two encoders that meet where a text and its speech are close. No table of positions: any length will do.

    Args:
        config: sizes and training rules.
    """

    def __init__(self, config: CLVPConfig) -> None:
        super().__init__()
        self.config = config
        self.text = Encoder(config, config.symbols)
        self.speech = Encoder(config, config.codes)
        self.temperature = nn.Parameter(torch.tensor(1.0))

    @property
    def scale(self) -> Tensor:
        """The scalar factor on cosines: e to the learnt temperature."""
        return self.temperature.exp()

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors (B, latent) of text ids (B, L) with mask (B, L) bool."""
        out: Tensor = self.text(ids, mask)
        return out

    def encode_speech(self, codes: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors (B, latent) of codes (B, N) with mask (B, N) bool."""
        out: Tensor = self.speech(codes, mask)
        return out

    def score(self, text: Tensor, text_mask: Tensor, codes: Tensor, code_mask: Tensor) -> Tensor:
        """How well each row of codes says its text: (B,), higher is better.

        Args:
            text: (B, L) ids; or (1, L), one text whose B candidates are compared.
            text_mask: the same shape, bool.
            codes: (B, N).
            code_mask: (B, N) bool.
        """
        cosine = (self.encode_text(text, text_mask) * self.encode_speech(codes, code_mask)).sum(-1)
        return self.scale * cosine

    def loss(self, batch: SpokenTexts, rng: torch.Generator) -> Mapping[str, Tensor]:
        """The symmetric contrastive loss; "accuracy_text" and "accuracy_speech" are shares that find their other half.

        While training, a share of the symbols is hidden: neither seen by attention nor part of the mean.

        A deviation: pairs whose texts are equal do not count as each other's wrong answers. Published they do, which
        hardly matters for scraped speech but does where a corpus has a sentence several times.
        """
        text, codes = batch.text, batch.codes
        text_mask = lengths_to_mask(batch.text_lengths, text.shape[1])
        code_mask = lengths_to_mask(batch.code_lengths, codes.shape[1])
        real = text.masked_fill(~text_mask, -1)
        same = (real[:, None] == real).all(-1)
        if self.training:
            text_mask = _hide(text_mask, self.config.text_mask, rng)
            code_mask = _hide(code_mask, self.config.speech_mask, rng)
        found = contrast(self.encode_text(text, text_mask), self.encode_speech(codes, code_mask), self.scale, same)
        return {"loss": found.loss, "accuracy_text": found.left, "accuracy_speech": found.right}


def _hide(mask: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """The mask (B, T) less a random share of its True positions; of every row with any, one at least stays."""
    draw = rand(mask.shape, rng, mask.device).masked_fill(~mask, -1.0)
    return mask & (draw >= draw.amax(1, keepdim=True).clamp(max=share))


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean (B, D) of x (B, T, D) over the positions in mask (B, T), in float32 or better."""
    x = x.to(torch.promote_types(x.dtype, torch.float32)).masked_fill(~mask[..., None], 0.0)
    return x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
