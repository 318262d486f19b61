"""Where to compute and in what precision."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

import torch

from flowtts.types import UserError

log = logging.getLogger(__name__)


def choose_device(name: str) -> torch.device:
    """A device that is there from "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        UserError: it is not there; nothing falls back silently.
    """
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "cpu"
        log.info("computing on %s", found)
        return torch.device(found)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        raise UserError(f"the device {name!r} is not available here; use --device cpu") from None
    return device


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_features())


def multiplies_int8(device: torch.device) -> bool:
    """Whether the CPU has instructions for dot products of int8."""
    return device.type == "cpu" and bool({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"} & cpu_features())


@lru_cache(maxsize=1)
def cpu_features() -> frozenset[str]:
    """Instruction sets of this CPU as Linux names them; none elsewhere."""
    return frozenset(_cpu_field("flags", "Features").split())


@lru_cache(maxsize=1)
def cpu_model() -> str:
    """The CPU's name, or "" where nothing says."""
    return _cpu_field("model name", "CPU part").strip()


def _cpu_field(*names: str) -> str:
    """The value of the first line of /proc/cpuinfo with one of these names."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value for name, _, value in pairs if name.strip() in names), "")
