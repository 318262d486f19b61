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


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """A precision from its name; "auto" is bfloat16 where the device multiplies it natively, else float32.

    Raises:
        UserError: an unknown name.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name in known:
        return known[name]
    if name != "auto":
        raise UserError(f"no precision {name!r}; there are auto, {', '.join(known)}")
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and "avx512_bf16" in _cpu_features()
    return torch.bfloat16 if native else torch.float32


@lru_cache(maxsize=1)
def _cpu_features() -> frozenset[str]:
    try:
        found = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(next((line for line in found.splitlines() if line.startswith("flags")), "").split())
