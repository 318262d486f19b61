"""Decoding: tokens are those of the plain loop on whole sequences, and candidates do not mix."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from flowtts.decode import (
    Decoded,
    Decoding,
    HalfLinear,
    Likely,
    RepeatedToken,
    decode,
    decode_many,
    filtered,
    generators,
    halved,
    joined,
    ranked,
    scores,
)
from flowtts.decode.loop import survivors
from flowtts.nn.causal import CausalConfig, CausalTransformer, KVCache
from flowtts.types import UserError

V, STOP = 12, 11
PLAIN = Decoding(temperature=1.0, top_p=1.0, repetition=1.0, max_tokens=20)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits_of(rows: int, size: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(rows, size, generator=rng(seed))


class Net(nn.Module):
    """Embeddings, positions and a head around a transformer, as a recipe has them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = CausalTransformer(CausalConfig(layers=2, heads=2, width=16, ffn=24))
        self.tokens, self.positions, self.head = nn.Embedding(V, 16), nn.Embedding(64, 16), nn.Linear(16, V)
        self.eval().requires_grad_(False)
        for parameter in self.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=rng(1)))

    def whole(self, prompt: Tensor, tokens: Tensor) -> Tensor:
        """(n + 1, V) logits of every token and of the next one, computed at once."""
        own = self.tokens(tokens) + self.positions.weight[: len(tokens)]
        out: Tensor = self.head(self.body(torch.cat([prompt, own])[None])[0, len(prompt) - 1 :])
        return out


class Session:
    """Meets `Autoregressive`, and remembers with how many rows it was called."""

    def __init__(self, net: Net, prompts: Sequence[Tensor]) -> None:
        self.net, self.prompts, self.rows = net, prompts, list[int]()
        self.cache = KVCache(1, 0)

    def prefill(self, candidates: int, capacity: int) -> Tensor:
        lengths = torch.tensor([len(p) for p in self.prompts])
        x = nn.utils.rnn.pad_sequence(list(self.prompts), batch_first=True, padding_value=9.0)
        hidden, self.cache = self.net.body.prefill(x, candidates, capacity, lengths)
        out: Tensor = self.net.head(hidden[torch.arange(len(x)), lengths - 1])
        return out

    def step(self, tokens: Tensor) -> Tensor:
        self.rows.append(len(tokens))
        x = self.net.tokens(tokens) + self.net.positions.weight[self.cache.length]
        out: Tensor = self.net.head(self.net.body.step(x[:, None], self.cache)[:, 0])
        return out

    def keep(self, rows: Tensor) -> None:
        self.cache.keep(rows)


class Chain:
    """A Markov chain: (V, V) log-probabilities of the next token after each; the first comes after the token 0."""

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def prefill(self, candidates: int, capacity: int) -> Tensor:
        return self.table[:1]

    def step(self, tokens: Tensor) -> Tensor:
        return self.table[tokens]

    def keep(self, rows: Tensor) -> None:
        pass


class Script:
    """Every row follows its own list of distributions, whatever it draws."""

    def __init__(self, rows: Sequence[Sequence[Sequence[float]]]) -> None:
        self.logits, self.at, self.rows = torch.tensor(rows).log(), 0, torch.arange(len(rows))

    def prefill(self, candidates: int, capacity: int) -> Tensor:
        return self.logits[:1, 0]

    def step(self, tokens: Tensor) -> Tensor:
        self.at += 1
        return self.logits[self.rows, self.at]

    def keep(self, rows: Tensor) -> None:
        self.rows = self.rows[rows.flatten()]


@pytest.fixture(scope="module")
def net() -> Net:
    return Net()


def prompt(length: int = 4) -> Tensor:
    return torch.randn(length, 16, generator=rng(length))


def same(left: Decoded, right: Decoded) -> bool:
    return (
        [t.tolist() for t in left.tokens] == [t.tolist() for t in right.tokens]
        and torch.allclose(left.log_probabilities, right.log_probabilities, atol=1e-4)
        and torch.allclose(left.filtered_log_probabilities, right.filtered_log_probabilities, atol=1e-4)
        and torch.equal(left.choices, right.choices)
        and torch.equal(left.finished, right.finished)
    )


# --- the loop --------------------------------------------------------------------------------------------------------


def test_greedy_is_the_argmax_of_the_whole_sequence(net: Net) -> None:
    tokens = torch.zeros(0, dtype=torch.long)
    while len(tokens) < 20 and (best := int(net.whole(prompt(), tokens)[-1].argmax())) != STOP:
        tokens = torch.cat([tokens, torch.tensor([best])])
    found = decode(Session(net, [prompt()]), 1, replace(PLAIN, temperature=0.0), rng(), STOP)
    assert len(tokens) > 2 and torch.equal(found.tokens[0], tokens)
    assert found.filtered_log_probabilities.tolist() == [0.0]


@pytest.mark.parametrize("decoding", [PLAIN, Decoding(1.5, 8, 0.9, max_tokens=20, min_tokens=3)])
def test_log_probabilities_are_those_of_the_whole_sequence(net: Net, decoding: Decoding) -> None:
    found = decode(Session(net, [prompt()]), 6, decoding, rng(), STOP)
    assert found.finished.any() and not found.finished.all()
    for i, tokens in enumerate(found.tokens):
        logits = net.whole(prompt(), tokens)[: int(found.choices[i])]
        chosen = torch.cat([tokens, torch.tensor([STOP])])[: len(logits), None]
        own = logits.log_softmax(-1).gather(-1, chosen).sum()
        drawn = sum(
            filtered(
                logits[n : n + 1], decoding, tokens[None, :n], STOP if n < decoding.min_tokens else None
            ).log_softmax(-1)[0, chosen[n, 0]]
            for n in range(len(logits))
        )
        assert float(found.log_probabilities[i]) == pytest.approx(float(own), abs=1e-4)
        assert float(found.filtered_log_probabilities[i]) == pytest.approx(float(drawn), abs=1e-4)
        assert len(tokens) == int(found.choices[i]) - bool(found.finished[i])


def test_a_candidate_does_not_depend_on_the_others(net: Net) -> None:
    one, four, many = (decode(Session(net, [prompt()]), count, PLAIN, rng(3), STOP) for count in (1, 4, 16))
    texts = [t.tolist() for t in many.tokens]
    assert [t.tolist() for t in four.tokens] == texts[:4] and one.tokens[0].tolist() == texts[0]
    assert len({tuple(text) for text in texts}) == 16
    again = decode(Session(net, [prompt()]), 4, replace(PLAIN, max_tokens=7), rng(3), STOP)
    assert [t.tolist() for t in again.tokens] == [text[:7] for text in texts[:4]]


def test_a_generator_for_each_candidate(net: Net) -> None:
    both = decode(Session(net, [prompt()]), 2, PLAIN, [rng(5), rng(6)], STOP)
    for seed, tokens in zip((5, 6), both.tokens, strict=True):
        assert torch.equal(decode(Session(net, [prompt()]), 1, PLAIN, [rng(seed)], STOP).tokens[0], tokens)
    with pytest.raises(ValueError, match="3 candidates and 2 generators"):
        decode(Session(net, [prompt()]), 3, PLAIN, [rng(), rng()], STOP)


def test_batches_of_candidates_are_those_of_one_batch(net: Net) -> None:
    whole = decode(Session(net, [prompt()]), 7, PLAIN, rng(4), STOP)
    rngs = generators(rng(4), 7)
    parts = [decode(Session(net, [prompt()]), len(some), PLAIN, some, STOP) for some in (rngs[:3], rngs[3:])]
    assert same(joined(parts), whole) and joined(parts).steps == parts[0].steps + parts[1].steps


def test_prompts_of_different_lengths_decode_as_they_do_alone(net: Net) -> None:
    prompts = [prompt(4), prompt(7), prompt(2)]
    together = decode_many(Session(net, prompts), 5, PLAIN, [rng(i) for i in range(3)], STOP)
    for i, found in enumerate(together):
        assert same(found, decode(Session(net, prompts[i : i + 1]), 5, PLAIN, rng(i), STOP))
    with pytest.raises(ValueError, match="3 prompts and 1 generators"):
        decode_many(Session(net, prompts), 5, PLAIN, [rng()], STOP)


@pytest.mark.parametrize("count", [1, 3])
def test_finished_candidates_are_left_out_and_nobody_notices(net: Net, count: int) -> None:
    decoding, prompts = replace(PLAIN, max_tokens=40), [prompt(4), prompt(6), prompt(2)][:count]
    plain, smaller = Session(net, prompts), Session(net, prompts)
    seeds = range(len(prompts))
    wanted = decode_many(plain, 8, decoding, [rng(i) for i in seeds], STOP, compact=False)
    found = decode_many(smaller, 8, decoding, [rng(i) for i in seeds], STOP)
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))
    assert set(plain.rows) == {8 * len(prompts)}
    lengths = torch.cat([result.choices for result in found])
    running = [int((lengths > n + 1).sum()) for n in range(len(smaller.rows))]
    assert smaller.rows[0] > smaller.rows[-1] and all(a >= b for a, b in itertools.pairwise(smaller.rows))
    if count == 1:
        assert smaller.rows == running
    assert found[0].steps == len(smaller.rows) == int(lengths.max()) - 1


def test_survivors_stay_where_they_are_if_they_can() -> None:
    running = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
    assert survivors(running).tolist() == [[0, 3], [8, 9]]
    assert survivors(torch.tensor([[0, 1, 1, 0, 1]]).bool()).tolist() == [[4, 1, 2]]


def test_nobody_stops_before_the_minimum_or_goes_beyond_the_maximum(net: Net) -> None:
    early = decode(Session(net, [prompt()]), 16, replace(PLAIN, max_tokens=12), rng(), STOP)
    assert min(len(t) for t in early.tokens) < 6 and max(len(t) for t in early.tokens) <= 12
    late = decode(Session(net, [prompt()]), 16, replace(PLAIN, max_tokens=12, min_tokens=6), rng(), STOP)
    assert min(len(t) for t in late.tokens) >= 6 and max(len(t) for t in late.tokens) <= 12
    assert all(STOP not in tokens for tokens in late.tokens)
    for found in (early, late):
        assert [len(t) < 12 for t in found.tokens] == found.finished.tolist()
    endless = decode(Session(net, [prompt()]), 3, replace(PLAIN, max_tokens=5), rng(), None)
    assert [len(t) for t in endless.tokens] == [5, 5, 5] and not endless.finished.any()


def test_sampled_frequencies_are_those_of_the_chain() -> None:
    """Chi-square of all texts of at most two tokens; the limit is the 0.999 quantile of the distribution."""
    table = logits_of(4, 4, 5) / 6
    decoding = Decoding(temperature=0.7, top_p=1.0, repetition=1.0, max_tokens=2)
    step = (table / 0.7).softmax(-1)
    wanted: dict[tuple[int, ...], float] = {(): float(step[0, 3])}
    for first in range(3):
        wanted[(first,)] = float(step[0, first] * step[first, 3])
        wanted |= {(first, second): float(step[0, first] * step[first, second]) for second in range(3)}
    count = 20_000
    texts = Counter(tuple(t.tolist()) for t in decode(Chain(table), count, decoding, rng(), 3).tokens)
    assert sum(wanted.values()) == pytest.approx(1) and min(wanted.values()) * count > 5
    distance = sum((texts[text] - count * p) ** 2 / (count * p) for text, p in wanted.items())
    assert len(wanted) == 13 and distance < 32.91


def test_what_is_filtered_out_never_comes() -> None:
    table = logits_of(1, 900).expand(900, 900)
    found = decode(Chain(table), 500, replace(PLAIN, top_k=3, max_tokens=4), rng(), None)
    assert set(torch.cat(found.tokens).tolist()) == set(table[0].topk(3).indices.tolist())


# --- stopping and ranking --------------------------------------------------------------------------------------------


def test_a_stuck_candidate_is_ended() -> None:
    stuck = torch.full((4, 4), -torch.inf)
    stuck[0, 1] = stuck[1, 2] = stuck[2, 2] = 0.0
    for minimum, length in ((0, 4), (9, 9)):
        found = decode(Chain(stuck), 2, replace(PLAIN, min_tokens=minimum), rng(), None, [RepeatedToken(3)])
        assert found.tokens[1].tolist() == [1] + [2] * (length - 1) and not found.finished.any()
        assert found.choices.tolist() == [length, length]
    with pytest.raises(ValueError, match="twice"):
        RepeatedToken(1)


def test_a_likely_end_is_the_end() -> None:
    table = torch.tensor([[0.0, 0.9, 0.1], [0.4, 0.35, 0.25], [1.0, 0.0, 0.0]]).log()
    greedy = replace(PLAIN, temperature=0.0)
    found = decode(Chain(table), 1, greedy, rng(), 2, [Likely(2, 0.2)])
    assert found.tokens[0].tolist() == [1] and found.finished.tolist() == [True] and found.choices.tolist() == [1]
    assert len(decode(Chain(table), 1, greedy, rng(), 2, [Likely(2, 0.3)]).tokens[0]) == 20


def test_the_order_of_candidates() -> None:
    logs, choices = torch.tensor([-4.0, -2.0, -9.0, -1.0]).double(), torch.tensor([8, 2, 9, 4])
    found = Decoded((), logs, logs, choices, torch.tensor([True, True, True, False]), 0)
    assert scores(logs, choices, 1.0).tolist() == [-0.5, -1.0, -1.0, -0.25]
    assert ranked(found, Decoding()).tolist() == [0, 1, 2, 3]
    assert ranked(found, Decoding(length_penalty=0.0)).tolist() == [1, 0, 2, 3]


def test_it_ends_when_nobody_can_overtake() -> None:
    """The first row stops at once, which had a probability of 1/2; the second goes on: 1/2, then 1/4 for each token."""
    first, last = [0.5, 0.0, 0.0, 0.0, 0.5], [0.25, 0.25, 0.25, 0.25, 0.0]
    rows = [[first] + [last] * 19] * 2
    seed = next(
        seed
        for seed in itertools.count()
        if decode(Script(rows), 2, replace(PLAIN, max_tokens=1), rng(seed), 4).finished.tolist() == [True, False]
    )
    # Its mean log-probability is log(1/2). The other has (2 n - 1) log(1/2) after n choices, and spread over the twenty
    # that it may have this is less from the eleventh on. If the mean is not what counts it can never be more.
    for penalty, steps in ((1.0, 10), (0.0, 0), (-1.0, 0)):
        decoding = replace(PLAIN, length_penalty=penalty)
        full, early = (decode(Script(rows), 2, decoding, rng(seed), 4, best=best) for best in (0, 1))
        assert (full.steps, early.steps) == (19, steps)
        assert ranked(early, decoding).tolist() == ranked(full, decoding).tolist() == [0, 1]
        assert early.finished.tolist() == [True, False]
        assert torch.equal(early.tokens[1], full.tokens[1][: steps + 1])
        assert decode(Script(rows), 2, decoding, rng(seed), 4, best=2).steps == 19


@pytest.mark.parametrize("penalty", [-0.5, 0.0, 0.5, 1.0])
def test_ending_early_does_not_change_the_best(net: Net, penalty: float) -> None:
    decoding, prompts, seeds = replace(PLAIN, length_penalty=penalty), [prompt(4), prompt(3)], range(6)
    fewer = 0
    for seed in seeds:
        full, early = (
            decode_many(Session(net, prompts), 6, decoding, [rng(seed), rng(seed + 50)], STOP, best=best)
            for best in (0, 2)
        )
        for a, b in zip(full, early, strict=True):
            assert ranked(a, decoding)[:2].tolist() == ranked(b, decoding)[:2].tolist()
            fewer += sum(len(t) for t in b.tokens) < sum(len(t) for t in a.tokens)
    assert penalty > 0.5 or fewer > 6


def test_the_fields_of_a_result_agree_in_their_length(net: Net) -> None:
    found = decode(Session(net, [prompt()]), 4, PLAIN, rng(), STOP)
    assert all(len(getattr(found, f.name)) == 4 for f in fields(found) if f.name != "steps")
    assert found.log_probabilities.dtype == torch.float64 and math.isfinite(float(found.log_probabilities.sum()))


# --- half precision --------------------------------------------------------------------------------------------------

packed = pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="no packed products")


@packed
@pytest.mark.parametrize("bias", [True, False])
def test_a_half_linear_layer_is_the_one_with_rounded_weights(bias: bool) -> None:
    x, linear = torch.randn(16, 1, 40, generator=rng()), nn.Linear(40, 24, bias).requires_grad_(False)
    linear.weight.copy_(torch.randn(24, 40, generator=rng(1)))
    wanted = nn.functional.linear(x, linear.weight.half().float(), linear.bias)
    torch.testing.assert_close(HalfLinear(linear)(x), wanted, atol=1e-5, rtol=1e-5)


@packed
def test_half_weights_hardly_change_what_is_decoded(net: Net) -> None:
    small = halved(net)
    blocks = [m for name, m in small.named_modules() if ".blocks." in name or name.startswith("blocks.")]
    assert not any(isinstance(m, nn.Linear) for m in blocks) and any(isinstance(m, HalfLinear) for m in blocks)
    # What is the network's own others may read; and the original stays as it is.
    assert isinstance(small.head, nn.Linear) and not any(isinstance(m, HalfLinear) for m in net.modules())
    full, half = (decode(Session(n, [prompt()]), 8, PLAIN, rng(), STOP) for n in (net, small))
    assert sum(torch.equal(a, b) for a, b in zip(full.tokens, half.tokens, strict=True)) >= 6


def test_half_weights_are_for_a_cpu() -> None:
    with pytest.raises(UserError, match="on a GPU take the network to bfloat16"):
        halved(nn.Linear(2, 2, device="meta"))
