"""Half-precision weights for decoding on a CPU: a step of few rows costs what it takes to read the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from flowtts.types import UserError

Net = TypeVar("Net", bound=nn.Module)


class HalfLinear(nn.Module):
    """A linear layer with weights in float16, packed for products of few rows; inputs and sums are float32.

    It needs no instructions for half precision, which PyTorch's own products in float16 and bfloat16 do.

    Args:
        linear: on the CPU.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        bias = None if linear.bias is None else linear.bias.detach().float()
        self._packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach().float(), bias)

    def forward(self, x: Tensor) -> Tensor:
        """X (..., in) float32 -> (..., out)."""
        out: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        return out


def inner_linears(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """The linear layers of a network's blocks, each with its parent and its name there.

    Those that are the network's own, or stand in a list of modules (skips), are few and sensitive, and others may read
    their weights.
    """
    for parent in list(network.modules()):
        if parent is network or isinstance(parent, nn.ModuleList):
            continue
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                yield parent, name, child


def halved(network: Net) -> Net:
    """A copy of a network, ready to decode, whose `inner_linears` are `HalfLinear`.

    Raises:
        UserError: it is not on the CPU, or this build of PyTorch cannot.
    """
    if any(parameter.device.type != "cpu" for parameter in network.parameters()):
        raise UserError("weights packed in float16 are for a CPU; on a GPU take the network to bfloat16")
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        raise UserError("this build of PyTorch cannot multiply weights packed in float16: leave them in float32")
    made = copy.deepcopy(network).eval().requires_grad_(False)
    for parent, name, child in inner_linears(made):
        setattr(parent, name, HalfLinear(child))
    return made
