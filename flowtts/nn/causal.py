"""A causal transformer, GPT-2's (pre-norm, learned positions are the caller's), and its key-value cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.mask import lengths_to_mask


@dataclass(frozen=True)
class CausalConfig:
    """Sizes.

    Attributes:
        layers: blocks.
        heads: attention heads; divides ``width``.
        width: D.
        ffn: inner width of the feed-forward.
        dropout: on the embedding, the attention weights and the two residual branches.
    """

    layers: int = 30
    heads: int = 16
    width: int = 1024
    ffn: int = 4096
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")


class KVCache:
    """Keys and values of B prompts, held once, and of N continuations of each, one position at a time.

    The R = B * N continuations are rows; those of a prompt are neighbours. All room is made at the prefill, and
    no prompt is ever repeated: the queries of its N rows meet its keys as N positions of one sequence.

    Args:
        candidates: N.
        capacity: positions that a continuation has room for.
        lengths: (B,) real positions of each prompt, or None if there is no padding.
        static: keep all shapes the same at every step, as a CUDA graph wants it: attention looks at the whole
            capacity, masked, and the place to write is read from ``position``. Slower where nothing is captured.

    Attributes:
        length: positions that the continuations have so far.
        position: (1,) int64, the same on the device, where ``static``.
    """

    def __init__(self, candidates: int, capacity: int, lengths: Tensor | None = None, static: bool = False) -> None:
        if candidates < 1 or capacity < 0:
            raise ValueError("a cache needs a candidate and a capacity of at least 0")
        self.candidates, self.capacity, self.length = candidates, capacity, 0
        self.position: Tensor | None = None
        self._lengths, self._static = lengths, static
        self._before: Tensor | None = None
        self._after: Tensor | float = 0.0
        self._prefix: list[tuple[Tensor, Tensor]] = []
        self._own: list[tuple[Tensor, Tensor]] = []

    @property
    def rows(self) -> int:
        """R."""
        return len(self._own[0][0])

    def add(self, k: Tensor, v: Tensor) -> None:
        """The next layer: keys and values (B, H, P, D / H) of the prompts."""
        batch, heads, length, width = k.shape
        if not self._prefix:
            if self._static:
                self.position = torch.zeros(1, dtype=torch.long, device=k.device)
            if self._lengths is not None:
                self._before = _bias(lengths_to_mask(self._lengths.to(k.device), length)[:, None, None], k.dtype)
        self._prefix.append((k.contiguous(), v.contiguous()))
        shape = (batch * self.candidates, heads, self.capacity, width)
        # What a static step masks is multiplied by zero, and must be finite.
        room = torch.zeros if self._static else torch.empty
        keys, values = (room(shape, dtype=k.dtype, device=k.device) for _ in range(2))
        self._own.append((keys, values))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What the new position of every row sees: its prompt, its own past and itself.

        Args:
            layer: counts from 0.
            q: (R, H, 1, D / H).
            k: the same shape; kept.
            v: the same shape; kept.

        Returns:
            (R, H, 1, D / H).
        """
        rows, heads, _, width = q.shape
        (shared_keys, shared_values), (keys, values) = self._prefix[layer], self._own[layer]
        prompts, length = len(shared_keys), shared_keys.shape[2]
        if self.position is None:
            end = self.length + 1
            keys[:, :, self.length : end], values[:, :, self.length : end] = k, v
            keys, values = keys[:, :, :end], values[:, :, :end]
        else:
            keys.index_copy_(2, self.position, k.to(keys.dtype))
            values.index_copy_(2, self.position, v.to(values.dtype))
        q = q * width**-0.5
        grid = (prompts, self.candidates, heads, -1)
        before = q.reshape(grid).transpose(1, 2) @ shared_keys.transpose(-1, -2)
        if self._before is not None:
            before = before + self._before
        own = q @ keys.transpose(-1, -2)
        if self.position is not None:
            if layer == 0:
                self._after = _bias(torch.arange(self.capacity, device=own.device) <= self.position, own.dtype)
            own = own + self._after
        scores = torch.cat([before.transpose(1, 2).reshape(rows, heads, 1, length), own], -1)
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(values.dtype)
        mixed = weights[..., :length].reshape(grid).transpose(1, 2) @ shared_values
        return weights[..., length:] @ values + mixed.transpose(1, 2).reshape(rows, heads, 1, width)

    def advance(self) -> None:
        """After all layers: the position is complete."""
        self.length += 1
        if self.position is not None:
            self.position += 1

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but some, which take the places 0, 1, ….

        Only what changes its place is copied, and memory is not given back. Afterwards captured graphs are void.

        Args:
            rows: (B', N') int64, the rows to keep as they are numbered now; a line holds rows of one prompt.
        """
        prompts = (rows[:, 0] // self.candidates).tolist()
        if (rows // self.candidates != rows[:, :1] // self.candidates).any():
            raise ValueError("a line of rows must belong to one prompt")
        places, wanted = torch.arange(rows.numel()), rows.flatten().cpu()
        moved = wanted != places
        device = self._own[0][0].device
        to, source = places[moved].to(device), wanted[moved].to(device)
        end = self.length if self.position is None else self.capacity
        for layer, pair in enumerate(self._own):
            for kept in pair:
                if len(to):
                    kept[to, :, :end] = kept[source, :, :end]
            self._own[layer] = (pair[0][: rows.numel()], pair[1][: rows.numel()])
        if prompts != list(range(len(self._prefix[0][0]))):
            self._prefix = [(k[prompts], v[prompts]) for k, v in self._prefix]
            self._before = None if self._before is None else self._before[prompts]
        self.candidates = rows.shape[1]


def _bias(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where ``seen``, minus infinity elsewhere."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)


class CausalBlock(nn.Module):
    """Pre-norm block: causal attention and feed-forward."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.norm_attention = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm_ffn = nn.LayerNorm(config.width)
        self.ffn_in = nn.Linear(config.width, config.ffn)
        self.ffn_out = nn.Linear(config.ffn, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """X (B, T, D) -> (B, T, D)."""
        return self.finish(x, self.mix(*self.project(x)))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value (B, H, T, D / H) of x (B, T, D)."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention of a whole sequence: (B, H, T, D / H) each."""
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout * self.training)

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The block's output (B, T, D) from its input and what attention mixed (B, H, T, D / H)."""
        x = x + self._drop(self.out(mixed.transpose(1, 2).reshape(x.shape)))
        inner = F.gelu(self.ffn_in(self.norm_ffn(x)), approximate="tanh")
        return x + self._drop(self.ffn_out(inner))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training else x


class CausalTransformer(nn.Module):
    """GPT-2 without its embeddings: x (B, T, D) -> (B, T, D), position i sees positions up to i.

    `prefill` and `step` compute the same one position after the other, for several continuations of each sequence.
    """

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(CausalBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """X (B, T, D) -> (B, T, D). Padding goes behind: nothing before it can see it."""
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out

    def prefill(
        self, x: Tensor, candidates: int = 1, capacity: int = 0, lengths: Tensor | None = None, static: bool = False
    ) -> tuple[Tensor, KVCache]:
        """As ``forward``, and the cache from which ``step`` goes on.

        Args:
            x: (B, P, D), padding behind.
            candidates: N continuations of each sequence.
            capacity: steps that there is room for.
            lengths: (B,) real positions of each sequence, or None if there is no padding.
            static: see `KVCache`.

        Returns:
            (B, P, D), of which the last real position predicts what comes next; and the cache.
        """
        self._require_evaluation()
        cache = KVCache(candidates, capacity, lengths, static)
        for block in self._sequence():
            q, k, v = block.project(x)
            cache.add(k, v)
            x = block.finish(x, block.mix(q, k, v))
        return self.norm(x), cache

    def step(self, x: Tensor, cache: KVCache) -> Tensor:
        """One more position: x (R, 1, D) -> (R, 1, D). Row b * N + n continues sequence b."""
        self._require_evaluation()
        if cache.length == cache.capacity:
            raise ValueError(f"the cache has room for {cache.capacity} steps only")
        for layer, block in enumerate(self._sequence()):
            x = block.finish(x, cache.attend(layer, *block.project(x)))
        cache.advance()
        out: Tensor = self.norm(x)
        return out

    def _sequence(self) -> Iterator[CausalBlock]:
        return cast("Iterator[CausalBlock]", iter(self.blocks))

    def _require_evaluation(self) -> None:
        if self.training:
            raise ValueError("decoding needs a network in evaluation mode: call eval()")
