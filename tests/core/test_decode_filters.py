"""Filters of distributions are those of transformers, one by one and all in their order; settings are read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from flowtts.compat import require
from flowtts.decode import Decoding, filtered, min_p, penalised, top_k, top_p, typical
from flowtts.types import UserError

PLAIN = Decoding(temperature=1.0, top_p=1.0, repetition=1.0, max_tokens=20)


def logits_of(rows: int, size: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


def transformers() -> Any:
    try:
        return require("transformers", "hf")
    except UserError as missing:
        pytest.skip(str(missing))


# --- settings --------------------------------------------------------------------------------------------------------


def test_a_spelling_is_read_back() -> None:
    for decoding in (Decoding(), PLAIN, Decoding(0.0, 5, 0.9, 0.2, 0.05, 1.1, -0.5, 30, 7)):
        assert Decoding.parse(decoding.spelled) == decoding
    assert Decoding().spelled == ""
    assert Decoding(temperature=0.7, top_k=40).spelled == "temperature=0.7,top_k=40"
    assert Decoding.parse(" top_p = 0.9 , max_tokens=9", PLAIN) == replace(PLAIN, top_p=0.9, max_tokens=9)


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("heat=1", "unknown decoding part 'heat'"),
        ("top-p=1", "did you mean 'top_p'"),
        ("temperature", "write temperature=VALUE"),
        ("temperature=hot", "'hot' is not a number"),
        ("top_k=1.5", "top_k is a whole number, not 1.5"),
        ("max_tokens=inf", "whole number"),
        ("top_p=0.5,top_p=0.6", "given twice"),
        ("top_p=0.5,", "unknown decoding part ''"),
        ("temperature=-1", "temperature is a number from 0"),
        ("temperature=nan", "temperature"),
        ("top_k=-1", "top_k"),
        ("top_p=0", "more than 0 and at most 1"),
        ("top_p=1.1", "top_p"),
        ("typical=1", "typical is from 0"),
        ("min_p=2", "min_p"),
        ("repetition=0", "repetition is more than 0"),
        ("length_penalty=inf", "length_penalty"),
        ("max_tokens=0", "max_tokens is at least 1"),
        ("max_tokens=5,min_tokens=6", r"min_tokens is from 0 to max_tokens \(5\), not 6"),
    ],
)
def test_what_a_spelling_may_not_be(spelling: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Decoding.parse(spelling)


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 300, 5000])
@pytest.mark.parametrize(
    ("ours", "name", "values"),
    [
        (top_k, "TopKLogitsWarper", [1, 5, 250]),
        (top_p, "TopPLogitsWarper", [0.01, 0.3, 0.8, 0.97]),
        (min_p, "MinPLogitsWarper", [0.001, 0.1, 0.7, 1.0]),
        (typical, "TypicalLogitsWarper", [0.01, 0.3, 0.8, 0.97]),
    ],
)
def test_filters_are_those_of_transformers(
    ours: Callable[[Tensor, Any], Tensor], name: str, values: list[Any], size: int
) -> None:
    tokens = torch.zeros(6, 1, dtype=torch.long)
    for seed, value in enumerate(values):
        theirs = getattr(transformers().generation, name)(value)
        whole = logits_of(6, size, seed).double()
        # Also where another filter was before it.
        for logits in (whole, whole.masked_fill(whole < 0, -torch.inf)):
            assert torch.equal(ours(logits, value), theirs(tokens, logits))
            # In float32 the last token depends on the order in which probabilities are added up.
            mine, other = (found.isfinite() for found in (ours(logits.float(), value), theirs(tokens, logits.float())))
            assert int((mine != other).sum(1).max()) <= 1


def test_the_penalty_is_that_of_transformers() -> None:
    generation = transformers().generation
    logits, before = logits_of(6, 40), torch.randint(40, (6, 15), generator=torch.Generator().manual_seed(0))
    for penalty in (0.5, 1.3, 2.0):
        wanted = generation.RepetitionPenaltyLogitsProcessor(penalty)(before, logits)
        assert torch.equal(penalised(logits, before, penalty), wanted)


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(),
        Decoding(1.3, 20, 0.9, 0.9, 0.02, 1.7, max_tokens=12, min_tokens=5),
        Decoding(0.5, 0, 1.0, 0.4, 0.0, 0.8, max_tokens=12),
        Decoding(2.0, 3, 0.5, 0.0, 0.3, 1.0, max_tokens=12, min_tokens=12),
    ],
)
def test_all_filters_in_the_order_of_generate(decoding: Decoding) -> None:
    """What transformers drew from, computed by us from the logits of its network."""
    torch.manual_seed(0)
    config = transformers().GPT2Config(vocab_size=50, n_positions=64, n_embd=16, n_layer=1, n_head=1)
    network = transformers().GPT2LMHeadModel(config).eval()
    network.transformer.wte.weight.data *= 60
    made = network.generate(
        inputs_embeds=torch.randn(4, 3, 16), attention_mask=torch.ones(4, 3, dtype=torch.long), do_sample=True,
        temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p, min_p=decoding.min_p or None,
        typical_p=decoding.typical or 1.0, repetition_penalty=decoding.repetition, max_new_tokens=12,
        min_new_tokens=decoding.min_tokens, eos_token_id=3, pad_token_id=3, output_scores=True, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    for n, (raw, wanted) in enumerate(zip(made.logits, made.scores, strict=True)):
        early = 3 if n < decoding.min_tokens else None
        torch.testing.assert_close(filtered(raw, decoding, made.sequences[:, :n], early), wanted)


def test_equally_likely_tokens_are_treated_alike() -> None:
    flat = torch.zeros(1, 600)
    for found in (top_k(flat, 3), top_p(flat, 0.1), min_p(flat, 1.0), typical(flat, 0.1)):
        assert torch.equal(found, flat)


def test_a_nucleus_is_the_smallest_set_with_its_mass() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    for mass, left in ((0.4, 1), (0.6, 2), (0.79, 2), (0.81, 3), (0.96, 4)):
        assert int(top_p(logits, mass).isfinite().sum()) == left
