"""The causal transformer and its cache: step by step is the whole at once, for many continuations of padded prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flowtts.nn.causal import CausalConfig, CausalTransformer, KVCache

CONFIG = CausalConfig(layers=3, heads=4, width=32, ffn=48)
LENGTHS = torch.tensor([5, 3])
B, N, P, STEPS = 2, 3, 5, 6


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.fixture
def network() -> CausalTransformer:
    """With weights so large that every position matters to those behind it."""
    rng = torch.Generator().manual_seed(0)
    made = CausalTransformer(CONFIG).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=rng))
    return made


def alone(network: CausalTransformer, prompt: Tensor, own: Tensor) -> Tensor:
    """(T, D) of one continuation (T, D) behind its prompt (P, D), all at once."""
    out: Tensor = network(torch.cat([prompt, own])[None])[0, len(prompt) :]
    return out


@pytest.mark.parametrize("static", [False, True])
def test_every_step_equals_the_whole_sequence_at_once(network: CausalTransformer, static: bool) -> None:
    prompts, own = randn(B, P, 32), randn(B * N, STEPS, 32)
    hidden, cache = network.prefill(prompts, N, STEPS, LENGTHS, static)
    for b, length in enumerate(LENGTHS):
        torch.testing.assert_close(hidden[b, :length], network(prompts[b : b + 1, :length])[0], atol=1e-5, rtol=1e-5)
    found = torch.cat([network.step(own[:, t : t + 1], cache) for t in range(STEPS)], 1)
    for row in range(B * N):
        wanted = alone(network, prompts[row // N, : LENGTHS[row // N]], own[row])
        torch.testing.assert_close(found[row], wanted, atol=1e-5, rtol=1e-5)
    assert cache.length == STEPS and cache.rows == B * N


def test_a_position_does_not_feel_the_later_ones(network: CausalTransformer) -> None:
    x = randn(1, 6, 32).requires_grad_()
    for i in range(6):
        (gradient,) = torch.autograd.grad(network(x)[0, i].sum(), x)
        felt = gradient[0].abs().amax(-1) > 0
        assert felt.tolist() == [j <= i for j in range(6)]


@pytest.mark.parametrize("static", [False, True])
def test_rows_can_be_forgotten_and_change_their_places(network: CausalTransformer, static: bool) -> None:
    prompts, own = randn(B, P, 32), randn(B * N, STEPS, 32)
    _, cache = network.prefill(prompts, N, STEPS, LENGTHS, static)
    for t in range(2):
        network.step(own[:, t : t + 1], cache)
    rows = torch.arange(B * N).view(B, N)
    for chosen in ([[2, 1], [3, 5]], [[3, 2]], [[0]]):
        kept = torch.tensor(chosen)
        cache.keep(kept)
        rows = rows.flatten()[kept]
        t = cache.length
        found = network.step(own[rows.flatten(), t : t + 1], cache)[:, 0]
        for row, hidden in zip(rows.flatten().tolist(), found, strict=True):
            wanted = alone(network, prompts[row // N, : LENGTHS[row // N]], own[row, : t + 1])[-1]
            torch.testing.assert_close(hidden, wanted, atol=1e-5, rtol=1e-5)
    assert cache.rows == 1


def test_rows_of_two_prompts_do_not_mix(network: CausalTransformer) -> None:
    _, cache = network.prefill(randn(B, P, 32), N, 1)
    with pytest.raises(ValueError, match="one prompt"):
        cache.keep(torch.tensor([[2, 3]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("static", [False, True])
def test_half_precision_stays_near(network: CausalTransformer, dtype: torch.dtype, static: bool) -> None:
    prompts, own = randn(B, P, 32), randn(B * N, STEPS, 32)
    _, exact = network.prefill(prompts, N, STEPS, LENGTHS)
    wanted = torch.cat([network.step(own[:, t : t + 1], exact) for t in range(STEPS)], 1)
    half = CausalTransformer(CONFIG).eval().requires_grad_(False)
    half.load_state_dict(network.state_dict())
    half = half.to(dtype)
    _, cache = half.prefill(prompts.to(dtype), N, STEPS, LENGTHS, static)
    found = torch.cat([half.step(own[:, t : t + 1].to(dtype), cache) for t in range(STEPS)], 1)
    assert found.dtype == dtype
    assert (found.float() - wanted).norm() < 12 * torch.finfo(dtype).eps * wanted.norm()


class Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the shape of everything that is computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes: list[tuple[int, ...]] = []
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
        for x in out if isinstance(out, tuple) else (out,):
            if isinstance(x, Tensor):
                self.shapes.append(tuple(x.shape))
                if x.untyped_storage().data_ptr() not in given:
                    self.largest = max(self.largest, x.numel())
        return out


def test_no_prompt_is_repeated(network: CausalTransformer) -> None:
    many, long = 16, 400
    _, cache = network.prefill(randn(1, long, 32), many, 2)
    x = randn(many, 1, 32)
    with Made() as made:
        network.step(x, cache)
    # The scores are the largest: a number for each head, row and position, where keys would be D / H numbers.
    assert made.largest == many * CONFIG.heads * (long + 1)


def test_static_steps_have_the_same_shapes(network: CausalTransformer) -> None:
    _, cache = network.prefill(randn(B, P, 32), N, STEPS, LENGTHS, static=True)
    seen = []
    for t in range(3):
        with Made() as made:
            network.step(randn(B * N, 1, 32), cache)
        seen.append(made.shapes)
        assert cache.position is not None and cache.position.tolist() == [t + 1]
    assert seen[0] == seen[1] == seen[2]


def test_what_decoding_refuses(network: CausalTransformer) -> None:
    _, cache = network.prefill(randn(1, 2, 32), 1, 1)
    network.step(randn(1, 1, 32), cache)
    with pytest.raises(ValueError, match="room for 1 steps"):
        network.step(randn(1, 1, 32), cache)
    network.train()
    with pytest.raises(ValueError, match="call eval"):
        network.prefill(randn(1, 2, 32))
    with pytest.raises(ValueError, match="needs a candidate"):
        KVCache(0, 1)
