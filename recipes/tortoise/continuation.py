"""The autoregressive model one code after the other, as ``flowtts.decode`` asks for it."""

from __future__ import annotations

import torch
from torch import Tensor

from flowtts.nn.causal import KVCache

from .autoregressive import AutoregressiveModel


class Continuation:
    """Codes of B texts in B voices.

    Args:
        model: the network, in evaluation mode.
        voice: (B, D).
        text: (B, L) int64, of the same length each.
    """

    def __init__(self, model: AutoregressiveModel, voice: Tensor, text: Tensor) -> None:
        self._model, self._voice, self._text = model, voice, text
        self._cache: KVCache | None = None

    def prefill(self, candidates: int, capacity: int) -> Tensor:
        """(B, V) logits of the first code."""
        model, batch = self._model, len(self._text)
        lengths = torch.full((batch,), self._text.shape[1], device=self._text.device)
        start = torch.full((batch, 1), model.config.start_code, device=self._text.device)
        prompt = torch.cat(
            [self._voice[:, None], model.embed_text(self._text, lengths), model.embed_codes(start)], dim=1
        )
        hidden, self._cache = model.body.prefill(prompt, candidates, capacity)
        return self._logits(hidden[:, -1:])

    def step(self, tokens: Tensor) -> Tensor:
        """(R, V) logits of the next code."""
        assert self._cache is not None
        embedded = self._model.embed_codes(tokens[:, None], self._cache.length + 1)
        return self._logits(self._model.body.step(embedded, self._cache))

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows."""
        assert self._cache is not None
        self._cache.keep(rows)

    def _logits(self, hidden: Tensor) -> Tensor:
        model = self._model
        logits: Tensor = model.code_head(model.final_norm(hidden[:, 0])).float()
        logits[:, model.config.start_code] = -torch.inf
        return logits
