"""The loop: several candidates of several prompts, one token after the other, those that are finished left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from flowtts.decode.filters import filtered
from flowtts.decode.result import Decoded, scores
from flowtts.decode.settings import Decoding
from flowtts.decode.stops import Stop

Rngs = torch.Generator | Sequence[torch.Generator]
"""Of one prompt: one generator, which seeds its candidates', or a generator for each of them."""

_WASTE = 8
"""Rows of several prompts are put together when at least one in so many no longer counts. Those of one prompt are at
once: only one changes its place."""


class Autoregressive(Protocol):
    """A network with its prompts: R = B * N rows continue B prompts, those of one prompt being neighbours.

    Logits may be minus infinity for what must not come. Rows that are finished may be stepped on with the token 0.
    """

    def prefill(self, candidates: int, capacity: int) -> Tensor:
        """(B, V) logits of the first token, with room for N ``candidates`` of each prompt of ``capacity`` tokens."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """(R, V) logits of the next token, after these (R,) int64."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with (B', N') of the rows only, whose first one becomes row 0: see `flowtts.nn.causal.KVCache.keep`."""
        ...


def decode(
    model: Autoregressive,
    count: int,
    decoding: Decoding,
    rng: Rngs,
    stop: int | None,
    rules: Sequence[Stop] = (),
    best: int = 0,
    compact: bool = True,
) -> Decoded:
    """Draw candidates of one prompt; arguments as in `decode_many`."""
    (decoded,) = decode_many(model, count, decoding, [rng], stop, rules, best, compact)
    return decoded


@torch.no_grad()
def decode_many(
    model: Autoregressive,
    count: int,
    decoding: Decoding,
    rngs: Sequence[Rngs],
    stop: int | None,
    rules: Sequence[Stop] = (),
    best: int = 0,
    compact: bool = True,
) -> list[Decoded]:
    """Draw candidates of several prompts at once.

    A candidate depends on its prompt, its number and its prompt's generator alone: not on how many others there are,
    nor on when they end, but for the last bits of products of another shape.

    Args:
        model: the network with B prompts.
        count: N candidates of each.
        decoding: filters and limits.
        rngs: B of them. Noise is drawn where they live, so that a seed means the same on every device.
        stop: the token that ends a candidate, or None.
        rules: what else ends one.
        best: 0, or how many candidates of a prompt are wanted: it ends when so many are finished and none of the
            others can reach their `scores` any more.
        compact: leave finished rows out of the network's work. False keeps all shapes the same, for captured graphs.

    Returns:
        B results.
    """
    if count < 1 or best < 0:
        raise ValueError("decode needs a candidate, and a number of the best from 0")
    noise = torch.cat([_uniform(rng, count, decoding.max_tokens) for rng in rngs])
    logits = model.prefill(count, decoding.max_tokens)
    if len(logits) != len(rngs):
        raise ValueError(f"{len(logits)} prompts and {len(rngs)} generators")
    run = _Run(logits, count, decoding, noise, stop, rules, best)
    logits = logits.repeat_interleave(count, 0)
    while run.choose(logits.float()):
        if compact and (rows := run.compacted()) is not None:
            model.keep(rows)
        logits = model.step(run.next)
        run.steps += 1
    return run.results()


class _Run:
    """Where all candidates are. ``who`` is the candidate of each row of the network, b * N + n."""

    def __init__(
        self,
        logits: Tensor,
        count: int,
        decoding: Decoding,
        noise: Tensor,
        stop: int | None,
        rules: Sequence[Stop],
        best: int,
    ) -> None:
        device, total = logits.device, len(noise)
        self.decoding, self.stop, self.rules, self.best = decoding, stop, rules, best
        self.grid, self.steps, self.n = (len(logits), count), 0, 0
        self.count, self.device = count, device
        self.noise = noise.to(device)
        self.who = torch.arange(total, device=device)
        self.running = torch.ones(total, dtype=torch.bool, device=device)
        self.next = self.who
        shape = (total, decoding.max_tokens)
        self.tokens = torch.zeros(shape, dtype=torch.long, device=device)
        self.own = torch.zeros(shape, device=device)
        self.drawn = torch.zeros(shape, device=device)
        self.choices, self.lengths = (torch.zeros(total, dtype=torch.long, device=device) for _ in range(2))
        self.finished = torch.zeros(total, dtype=torch.bool, device=device)

    def choose(self, logits: Tensor) -> bool:
        """The next token of every row from its logits (R, V); False when nothing remains to be done."""
        n, who, early = self.n, self.who, self.n < self.decoding.min_tokens
        before = self.tokens[who, :n]
        for rule in () if early else self.rules:
            ends = rule(before, logits) & self.running
            self.finished[who[ends]] = rule.finishes
            self.running = self.running & ~ends
        left = filtered(logits, self.decoding, before, self.stop if early else None)
        token, drawn = _draw(left, self.noise[who, n], greedy=not self.decoding.temperature)
        own = logits.log_softmax(-1).gather(-1, token[:, None])[:, 0]
        ends = torch.zeros_like(self.running) if self.stop is None else (token == self.stop) & self.running
        self.choices[who] += self.running
        self.own[who, n], self.drawn[who, n] = own.where(self.running, 0), drawn.where(self.running, 0)
        self.finished[who[ends]] = True
        self.running = self.running & ~ends
        self.lengths[who] += self.running
        self.next = torch.where(self.running, token, 0)
        self.tokens[who, n] = self.next
        self.n += 1
        if self.best:
            self._end_decided()
        return self.n < self.decoding.max_tokens and bool(self.running.any())

    def _end_decided(self) -> None:
        """End prompts whose best candidates cannot be overtaken any more.

        A log-probability only falls, so that none can score more than what it has now, at the length that favours it.
        """
        penalty = self.decoding.length_penalty
        total, limit = self.own.double().sum(-1).view(-1, self.count), self.decoding.max_tokens
        length = self.choices.view(-1, self.count)
        reached = scores(total, length, penalty).masked_fill(~self.finished.view(-1, self.count), -torch.inf)
        bound = scores(total, torch.full_like(length, limit) if penalty > 0 else length + 1, penalty)
        running = torch.zeros(total.numel(), dtype=torch.bool, device=self.device)
        running[self.who] = self.running
        running = running.view(-1, self.count)
        worst = reached.topk(min(self.best, self.count), -1).values[:, -1]
        decided = worst >= bound.masked_fill(~running, -torch.inf).amax(-1)
        self.running = self.running & ~decided[self.who // self.count]

    def compacted(self) -> Tensor | None:
        """The (B', N') rows that remain, on the CPU, if enough can be left out; this run then has only them."""
        running = self.running.view(self.grid)
        alive = int(running.any(1).sum()), int(running.sum(1).max())
        rows, saved = self.grid[0] * self.grid[1], self.grid[0] * self.grid[1] - alive[0] * alive[1]
        if not saved or (alive[0] > 1 and saved * _WASTE < rows):
            return None
        kept = survivors(running.cpu())
        at = kept.flatten().to(self.device)
        self.who, self.running, self.next = self.who[at], self.running[at], self.next[at]
        self.grid = (kept.shape[0], kept.shape[1])
        return kept

    def results(self) -> list[Decoded]:
        """One for each prompt."""
        tokens, lengths, finished = self.tokens.cpu(), self.lengths.tolist(), self.finished.cpu()
        own, drawn, choices = self.own.double().sum(-1).cpu(), self.drawn.double().sum(-1).cpu(), self.choices.cpu()
        found = []
        for first in range(0, len(tokens), self.count):
            mine = slice(first, first + self.count)
            texts = tuple(row[:length].clone() for row, length in zip(tokens[mine], lengths[mine], strict=True))
            found.append(Decoded(texts, own[mine], drawn[mine], choices[mine], finished[mine], self.steps))
        return found


def generators(rng: torch.Generator, count: int) -> list[torch.Generator]:
    """Those of N candidates, as `decode` makes them of one: for who decodes them in several batches."""
    seeds = torch.randint(2**63 - 1, (count,), generator=rng, device=rng.device).tolist()
    return [torch.Generator(rng.device).manual_seed(seed) for seed in seeds]


def survivors(running: Tensor) -> Tensor:
    """The smallest grid of rows that holds all that run, with as few changes of place as can be.

    Args:
        running: (B, N) bool.

    Returns:
        (B', N') int64 of rows b * N + n. Prompts without a running row are gone; a spare place keeps its row.
    """
    count, size = running.shape[1], int(running.sum(1).max())
    lines = []
    for prompt in running.any(1).nonzero()[:, 0].tolist():
        line = list(range(size))
        movers = [n for n in range(size, count) if running[prompt, n]]
        holes = [n for n in range(size) if not running[prompt, n]]
        for hole, mover in zip(holes, movers, strict=False):
            line[hole] = mover
        lines.append([prompt * count + n for n in line])
    return torch.tensor(lines)


def _draw(logits: Tensor, uniform: Tensor, greedy: bool) -> tuple[Tensor, Tensor]:
    """A token (R,) of each row and its log-probability (R,), by the inverse of the distribution function."""
    if greedy:
        return logits.argmax(-1), torch.zeros_like(uniform)
    probabilities = logits.softmax(-1)
    reached = probabilities.cumsum(-1)
    whole = reached[:, -1:]
    # Rounding must not take it to the whole mass, where the last token is, filtered or not.
    sought = (uniform[:, None] * whole).minimum(whole * (1 - torch.finfo(whole.dtype).eps))
    token = torch.searchsorted(reached, sought, right=True)
    # A GPU adds up in another order, so that a sum may rise at a token without probability.
    token = torch.where(probabilities.gather(-1, token) > 0, token, probabilities.argmax(-1, keepdim=True))
    return token[:, 0], probabilities.gather(-1, token)[:, 0].log()


def _uniform(rng: Rngs, count: int, length: int) -> Tensor:
    """(N, n) numbers in [0, 1): a candidate's depend on its number alone, not on how many there are or how long."""
    rng = generators(rng, count) if isinstance(rng, torch.Generator) else rng
    if len(rng) != count:
        raise ValueError(f"{count} candidates and {len(rng)} generators")
    return torch.stack([torch.rand(length, generator=g, device=g.device).cpu() for g in rng])
