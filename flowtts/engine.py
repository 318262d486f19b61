"""Engines: ways of computing the same network, chosen for the machine and said in the log.

eager          float32, as trained
bf16-autocast  float32 weights, converted for every product by autocast
bf16           weights converted once; sums of products, softmax and the state of the solver stay float32
half           linear layers with weights in float16 on a CPU, products in float32: for decoding token by token
int8           the inner linear layers in int8 (weights by output channel, activations by call), the rest float32
compiled       "bf16" or "eager" through torch.compile: slow to start, for long jobs
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from flowtts.decode.half import halved, inner_linears
from flowtts.device import multiplies_bfloat16, multiplies_int8
from flowtts.tuning import best, fingerprint, measurements
from flowtts.types import UserError

EngineName = Literal["eager", "bf16-autocast", "bf16", "half", "int8", "compiled"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
"""Every engine by name."""

Net = TypeVar("Net", bound=nn.Module)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """How to compute.

    Attributes:
        name: of `ENGINES`.
        device: where.
        reason: why this one, for the log.
    """

    name: EngineName
    device: torch.device
    reason: str = "asked for"

    @property
    def dtype(self) -> torch.dtype:
        """Of the converted weights."""
        if self.name == "compiled":
            return torch.bfloat16 if multiplies_bfloat16(self.device) else torch.float32
        return torch.bfloat16 if self.name == "bf16" else torch.float32

    def convert(self, network: Net) -> Net:
        """The network for this engine, on its device and ready to sample; the given one stays as it is.

        Call it under `running`.

        Raises:
            UserError: this build of PyTorch or this machine cannot.
        """
        if self.name == "half":
            return halved(network)
        made = copy.deepcopy(network).eval().requires_grad_(False).to(self.device)
        if self.name == "int8":
            _to_int8(made, self.device)
        elif self.dtype == torch.bfloat16:
            made = made.to(torch.bfloat16)
        if self.name == "compiled":
            _compile(made)
        return made

    def running(self) -> AbstractContextManager[object]:
        """What to sample under."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.name == "bf16-autocast")


def choose_engine(name: str, network: nn.Module, device: torch.device) -> Engine:
    """The engine called ``name``; "auto" takes the fastest that is safe, and logs which and why.

    "auto" is what `flowtts.tuning` measured for this network on this machine, if it did: the fastest engine whose error
    is small. Otherwise it is "bf16" where the device has instructions for bfloat16, and "eager" elsewhere. Both ways
    the same machine always gives the same answer, until it is measured anew.

    Raises:
        UserError: no such engine, or none on this device.
    """
    if name == "auto":
        engine = _automatic(network, device)
    elif name in ENGINES:
        engine = Engine(name, device)
    else:
        raise UserError(f"no engine '{name}'; there are auto, {', '.join(ENGINES)}")
    if engine.name == "int8":
        _require_cpu(device)
    log.info("engine %s: %s", engine.name, engine.reason)
    return engine


def _automatic(network: nn.Module, device: torch.device) -> Engine:
    found = best(measurements(), fingerprint(network, device))
    if found is not None and found[0] in ENGINES:
        return Engine(found[0], device, found[1])
    if multiplies_bfloat16(device):
        return Engine("bf16", device, f"the {device.type} has instructions for bfloat16")
    return Engine("eager", device, f"the {device.type} has no instructions for bfloat16")


class Int8Linear(nn.Module):
    """A linear layer with int8 weights and float32 inputs and outputs.

    Weights are scaled by output channel and inputs by position, when they come (dynamic quantisation). PyTorch's
    product knows one scale for all inputs, so that positions are first brought to one size: without it the error is
    ten times as large.

    Args:
        linear: float32, on the CPU.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(1).double() / 127).clamp_min(1e-12)
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():
            # Announced to leave PyTorch some day; `_to_int8` looks whether it is there.
            warnings.simplefilter("ignore")
            quantised = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(quantised, None)
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        self.bias = nn.Parameter(bias, requires_grad=False)
        # Without VNNI, two products are added up in 16 bits, where 8-bit inputs would overflow.
        self._reduce = not multiplies_int8(torch.device("cpu"))

    def forward(self, x: Tensor) -> Tensor:
        """X (..., in) -> (..., out)."""
        size = x.abs().amax(-1, keepdim=True).clamp_min_(1e-12)
        return torch.addcmul(self.bias, torch.ops.quantized.linear_dynamic(x / size, self._packed, self._reduce), size)


def _require_cpu(device: torch.device) -> None:
    if device.type != "cpu":
        raise UserError(f"engine 'int8' runs on a CPU, not on {device.type}: choose bf16")


def _to_int8(network: nn.Module, device: torch.device) -> None:
    """Replace the linear layers of the blocks."""
    _require_cpu(device)
    if torch.backends.quantized.engine == "none" or getattr(torch, "quantize_per_channel", None) is None:
        raise UserError("engine 'int8': this build of PyTorch has no quantised products; choose eager")
    for parent, name, child in inner_linears(network):
        setattr(parent, name, Int8Linear(child))


def _compile(network: nn.Module) -> None:
    """Compile the members of every list of modules (the blocks of a transformer), in place."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++", "cl")):
        raise UserError("engine 'compiled' needs a C++ compiler: install one (g++), or choose bf16 or eager")
    for parent in network.modules():
        if isinstance(parent, nn.ModuleList):
            for block in parent:
                if not isinstance(block, nn.Linear | nn.Conv1d):
                    block.compile()
