from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from flowtts.nn import ConvPosition, Transformer, TransformerConfig, alibi_bias
from flowtts.nn.attention import ALIGNMENT, attend_bias, attend_flex, choose_kernel, is_whole
from flowtts.nn.position import convolve

CPU = torch.device("cpu")


def padding(batch: int, length: int) -> torch.Tensor:
    mask = torch.ones(batch, length, dtype=torch.bool)
    mask[1:, length - 5 :] = False
    return mask


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("padded", [False, True])
def test_flex_equals_bias(rng: torch.Generator, extra: int, padded: bool) -> None:
    length, heads, size = 37, 3, 37 + extra
    q, k, v = (torch.randn(2, heads, size, 16, generator=rng) for _ in range(3))
    present = F.pad(padding(2, length), (0, extra), value=True) if padded else None
    wanted = attend_bias(present, length, heads, extra, torch.float32, CPU)(q, k, v)
    found = attend_flex(present, length, heads, extra, CPU)(q, k, v)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_bias_is_alibi_with_padding_out_of_sight(rng: torch.Generator) -> None:
    q, k = (torch.randn(2, 4, 9, 8, generator=rng) for _ in range(2))
    v = torch.eye(9).expand(2, 4, 9, 9)
    mask = padding(2, 9)
    found = attend_bias(mask, 9, 4, 0, torch.float32, CPU)(q, k, v)
    logits = q @ k.transpose(2, 3) / 8**0.5 + alibi_bias(9, 4)
    wanted = logits.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
    torch.testing.assert_close(found, wanted)
    assert found[1, :, :, 4:].abs().max() == 0


def test_flex_refuses_dropout(rng: torch.Generator) -> None:
    q = torch.randn(1, 2, 4, 8, generator=rng)
    with pytest.raises(ValueError, match="no dropout"):
        attend_flex(None, 4, 2, 0, CPU)(q, q, q, 0.1)


def test_the_rule_of_kernels() -> None:
    cuda = torch.device("cuda")
    assert choose_kernel(CPU, 64, 3000, 16, torch.bfloat16, False) == "bias"
    assert choose_kernel(cuda, 64, 3000, 16, torch.bfloat16, True) == "bias"
    assert choose_kernel(cuda, 64, 3000, 16, torch.bfloat16, False) == "flex"
    assert choose_kernel(cuda, 2, 500, 16, torch.bfloat16, False) == "bias"
    assert is_whole(torch.ones(2, 3, dtype=torch.bool)) and not is_whole(padding(2, 9))


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_channels_last_convolution_is_the_same(rng: torch.Generator, groups: int) -> None:
    conv = nn.Conv1d(8, 8, 5, padding=2, groups=groups)
    x = torch.randn(2, 11, 8, generator=rng)[:, :9]  # not contiguous, as with a token behind
    wanted = conv(x.transpose(1, 2)).transpose(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(convolve(conv, x), wanted.detach())
    assert torch.equal(convolve(conv, x), wanted)


def test_conv_position_ignores_padding(rng: torch.Generator) -> None:
    layer = ConvPosition(8, kernel=5, groups=2)
    x = torch.randn(1, 9, 8, generator=rng)
    longer = torch.cat([x, torch.full((1, 4, 8), 7.0)], dim=1)
    gate = torch.tensor([1.0] * 9 + [0.0] * 4)[None, :, None]
    with torch.no_grad():
        torch.testing.assert_close(layer(longer, gate)[:, :9], layer(x))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("kernel", ["bias", "flex"])
@pytest.mark.parametrize("token", [False, True])
def test_prepared_equals_forward_and_padded_equals_alone(rng: torch.Generator, kernel: str, token: bool) -> None:
    config = TransformerConfig(4, 2, 32, 64, position_kernel=5, position_groups=4, block_kernel=3, dropout=0.0)
    net = Transformer(config).eval()
    x, mask = torch.randn(2, 14, 32, generator=rng), padding(2, 14)
    given = torch.randn(2, 32, generator=rng) if token else None
    with torch.no_grad():
        layout = net.prepare(mask, extra=token, dtype=x.dtype, kernel="flex" if kernel == "flex" else "bias")
        found = net.run(x, layout, given)
        torch.testing.assert_close(found, net(x, mask, given), rtol=1e-4, atol=1e-5)
        alone = net(x[1:, :9], mask[1:, :9], None if given is None else given[1:])
    torch.testing.assert_close(found[1:, :9], alone, rtol=1e-4, atol=1e-5)


def test_training_and_sampling_agree(rng: torch.Generator) -> None:
    config = TransformerConfig(2, 2, 32, 64, position_kernel=5, position_groups=4, block_kernel=3, dropout=0.0)
    net = Transformer(config)
    x, mask = torch.randn(2, 12, 32, generator=rng), padding(2, 12)
    trained = net(x, mask, torch.ones(2, 32))
    trained.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    with torch.no_grad():
        torch.testing.assert_close(net(x, mask, torch.ones(2, 32)), trained.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_the_memory_efficient_kernel_takes_the_bias(rng: torch.Generator) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q = torch.randn(2, 4, 37, 64, generator=rng).to("cuda", torch.bfloat16)
    attend = attend_bias(None, 36, 4, 1, torch.bfloat16, "cuda")
    assert attend.bias.stride(-2) % ALIGNMENT == 0
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        found = attend(q, q, q)
    torch.testing.assert_close(found.cpu().float(), attend_bias(None, 36, 4, 1, torch.float32, CPU)(
        *(q.cpu().float() for _ in range(3))), rtol=0.03, atol=0.03)  # fmt: skip
