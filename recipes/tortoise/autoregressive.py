"""The autoregressive model: text and a voice to codes, after GPT-2 (arXiv 2305.07243, section 3).

One sequence holds [voice] [start text stop] [start codes stop]; text and codes count their own learnt positions. An
utterance's parts always touch, however long the batch's others are, so that padding is at the very end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.mask import lengths_to_mask, masked_mean
from flowtts.nn.causal import CausalBlock, CausalTransformer

from .bricks import AttentionBlock
from .config import ARConfig
from .data import CodeBatch
from .guide import attention_loss, inputs_of, start_on_time


class ConditioningEncoder(nn.Module):
    """A reference clip to one vector."""

    def __init__(self, config: ARConfig) -> None:
        super().__init__()
        width, heads = config.body.width, config.body.heads
        self.pooling = config.pooling
        self.init = nn.Conv1d(config.mel.channels, width, 1)
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in range(config.conditioning_blocks))

    def forward(self, clips: Tensor, frames: Tensor) -> Tensor:
        """Clips (B, T, C) of (B,) real frames, at least one each -> (B, D)."""
        mask = lengths_to_mask(frames, clips.shape[1])
        hidden: Tensor = self.init(clips.transpose(1, 2))
        for block in self.blocks:
            hidden = block(hidden, mask)
        if self.pooling == "first":
            return hidden[..., 0]
        real = mask[:, None].to(hidden.dtype)
        return (hidden * real).sum(-1) / real.sum(-1)


class AutoregressiveModel(nn.Module):
    """Predicts every code from the voice, the text and the codes before it."""

    channel_scale: Tensor

    def __init__(self, config: ARConfig) -> None:
        super().__init__()
        self.config = config
        width = config.body.width
        self.conditioning = ConditioningEncoder(config)
        self.text_embedding = nn.Embedding(config.symbols + 1, width)
        self.code_embedding = nn.Embedding(config.codes + 2, width)
        self.text_position = nn.Embedding(config.max_text + 2, width)
        self.code_position = nn.Embedding(config.max_codes + 2 + config.clips, width)
        for table in (self.text_embedding, self.code_embedding, self.text_position, self.code_position):
            nn.init.normal_(table.weight, std=0.02)
        self.body = CausalTransformer(config.body)
        self.final_norm = nn.LayerNorm(width)
        self.text_head = nn.Linear(width, config.symbols + 1)
        self.code_head = nn.Linear(width, config.codes + 2)
        if config.codes_per_symbol:
            start_on_time(self.text_position, self.code_position, config.codes_per_symbol)
        # Published weights hear log-mels divided by a number for each channel.
        self.register_buffer("channel_scale", torch.ones(config.mel.channels))

    def voice(self, clips: Tensor, frames: Tensor) -> Tensor:
        """The mean vector (B, D) of reference clips.

        Args:
            clips: (B, K, T, C) features.
            frames: (B, K) int64 real frames; a clip of none does not count, at least one must.
        """
        batch, count = frames.shape
        scaled = clips / self.channel_scale
        flat: Tensor = self.conditioning(scaled.flatten(0, 1), frames.flatten().clamp(min=1))
        flat = flat.view(batch, count, -1)
        real = (frames > 0).to(flat.dtype)[..., None]
        return (flat * real).sum(1) / real.sum(1)

    def embed_text(self, text: Tensor, lengths: Tensor) -> Tensor:
        """(B, L + 2, D): start, text (B, L) of (B,) real symbols, stop; what follows is padding."""
        config = self.config
        framed = _framed(text, lengths, config.start_text, config.stop_text)
        place = torch.arange(framed.shape[1], device=text.device)
        embedded: Tensor = self.text_embedding(framed) + self.text_position(place)
        return embedded

    def embed_codes(self, codes: Tensor, first: int = 0) -> Tensor:
        """(B, N, D) of inputs (B, N), start and stop included, of which the first stands at position ``first``."""
        place = torch.arange(first, first + codes.shape[1], device=codes.device)
        embedded: Tensor = self.code_embedding(codes) + self.code_position(place)
        return embedded

    def hidden(
        self, voice: Tensor, text: Tensor, text_lengths: Tensor, codes: Tensor, code_lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Last hidden states, normalised: (B, L + 2, D) of the text and (B, N + 2, D) of the codes.

        State i predicts what follows input i; the inputs are start, the symbols, stop.

        Args:
            voice: (B, D) from `voice`.
            text: (B, L) int64.
            text_lengths: (B,) int64 real symbols.
            codes: (B, N) int64.
            code_lengths: (B,) int64 real codes.
        """
        framed = _framed(codes, code_lengths, self.config.start_code, self.config.stop_code)
        said, spoken = self.embed_text(text, text_lengths), self.embed_codes(framed)
        size, device = 1 + said.shape[1], voice.device
        whole = torch.cat([voice[:, None].to(said.dtype), said, spoken], dim=1)
        # Where an item's codes begin once its text's padding is taken out.
        begin = 3 + text_lengths[:, None]
        place = torch.arange(whole.shape[1], device=device)[None]
        source = torch.where(place < begin, place, place - begin + size).clamp(max=whole.shape[1] - 1)
        longest = int((begin[:, 0] + code_lengths).max()) + 2
        packed = whole.gather(1, source[:, :longest, None].expand(-1, -1, whole.shape[2]))
        out = self.final_norm(self.body(packed))
        texts = (1 + torch.arange(said.shape[1], device=device)[None]).expand(len(text), -1)
        spoke = begin + torch.arange(spoken.shape[1], device=device)[None]
        return _gather(out, texts), _gather(out, spoke)

    def forward(
        self, voice: Tensor, text: Tensor, text_lengths: Tensor, codes: Tensor, code_lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, L + 2, symbols + 1) and (B, N + 2, codes + 2); arguments and positions as in `hidden`."""
        said, spoken = self.hidden(voice, text, text_lengths, codes, code_lengths)
        return self.text_head(said), self.code_head(spoken)

    def latents(self, voice: Tensor, text: Tensor, text_lengths: Tensor, codes: Tensor, code_lengths: Tensor) -> Tensor:
        """(B, N, D) what the diffusion decoder reads in place of codes: the states that predict them."""
        return self.hidden(voice, text, text_lengths, codes, code_lengths)[1][:, :-2]

    def loss(self, batch: CodeBatch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Cross-entropies of the codes and, with a small weight, of the text; both learn where to stop.

        With ``guide_weight`` also how well some heads find the symbol that is to be said, where that is known.
        """
        del rng
        config, guided = self.config, self.config.guide_weight > 0 and batch.spoken is not None
        voice = self.voice(batch.clips, batch.clip_frames)
        block = cast(CausalBlock, self.body.blocks[len(self.body.blocks) // 3])
        with inputs_of(block if guided else None) as seen:
            text, codes = self(voice, batch.text, batch.text_lengths, batch.codes, batch.code_lengths)
        said = _cross_entropy(text, batch.text, batch.text_lengths, config.stop_text)
        spoken, right = _judged(codes, batch.codes, batch.code_lengths, config.stop_code)
        found = {"loss": spoken + config.text_weight * said, "codes": spoken, "text": said, "accuracy": right}
        if guided and batch.spoken is not None:
            guide, looked = attention_loss(block, seen[0], batch.text_lengths, batch.spoken)
            found |= {"loss": found["loss"] + config.guide_weight * guide, "guide": guide, "attention": looked}
        return found


def _framed(ids: Tensor, lengths: Tensor, start: int, stop: int) -> Tensor:
    """(B, N) ids as (B, N + 2): start, ids, and stop everywhere behind."""
    kept = torch.where(lengths_to_mask(lengths, ids.shape[1]), ids, stop)
    return F.pad(F.pad(kept, (1, 0), value=start), (0, 1), value=stop)


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x (B, T, D) at index (B, M), which may point beyond the end where it means padding."""
    return x.gather(1, index.clamp(max=x.shape[1] - 1)[..., None].expand(-1, -1, x.shape[2]))


def _targets(ids: Tensor, lengths: Tensor, stop: int) -> tuple[Tensor, Tensor]:
    """(B, N + 1) ids to predict, the last of each item being stop, and the mask of real ones."""
    kept = torch.where(lengths_to_mask(lengths, ids.shape[1]), ids, stop)
    return F.pad(kept, (0, 1), value=stop), lengths_to_mask(lengths + 1, ids.shape[1] + 1)


def _cross_entropy(logits: Tensor, ids: Tensor, lengths: Tensor, stop: int) -> Tensor:
    wanted, mask = _targets(ids, lengths, stop)
    each = F.cross_entropy(logits[:, : wanted.shape[1]].float().transpose(1, 2), wanted, reduction="none")
    return masked_mean(each, mask)


def _judged(logits: Tensor, ids: Tensor, lengths: Tensor, stop: int) -> tuple[Tensor, Tensor]:
    """Cross-entropy, and the share of ids whose likeliest guess is right."""
    wanted, mask = _targets(ids, lengths, stop)
    right = (logits[:, : wanted.shape[1]].detach().argmax(-1) == wanted).float()
    return _cross_entropy(logits, ids, lengths, stop), masked_mean(right, mask)
