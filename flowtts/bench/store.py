"""What is already measured: one file per setting, keyed by everything that decides its content."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowtts import __version__
from flowtts.bench.speak import Utterance
from flowtts.checkpoint import load_tensors, save_tensors
from flowtts.speech import write_json
from flowtts.types import UserError

FORMAT = 1


def machine(device: torch.device) -> dict[str, Any]:
    """What the times depend on."""
    found: dict[str, Any] = {
        "cpu": _cpu(), "cores": len(_cores()), "threads": torch.get_num_threads(), "device": str(device),
        "system": f"{platform.system()} {platform.machine()}",
    }  # fmt: skip
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def versions() -> dict[str, str]:
    """What the results depend on."""
    return {
        "flowtts": __version__, "torch": torch.__version__, "numpy": np.__version__,
        "python": platform.python_version(),
    }  # fmt: skip


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _cores() -> range:
    import os

    return range(os.cpu_count() or 1)


def key_of(content: Mapping[str, Any]) -> str:
    """Equal for equal content, in any order of keys."""
    text = json.dumps({"format": FORMAT, **content}, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Store:
    """The folder of a benchmark.

        bench.json bench.md bench.svg bench.png
        audio/SETTING/ID.flac            what was said
        settings/SETTING.json            what was measured, with the scores of every utterance
        reference/SETTING.safetensors    features of the converged runs

    Attributes:
        folder: where.
    """

    folder: Path

    def audio(self, setting: str, utterance: Utterance | None = None) -> Path:
        """The recordings of a setting, or one of them."""
        folder = self.folder / "audio" / setting
        return folder if utterance is None else folder / f"{utterance.id}.flac"

    def load(self, setting: str, key: str, utterances: tuple[Utterance, ...]) -> dict[str, Any] | None:
        """What was measured under this key, or None if that is not whole any more."""
        path = self._entry(setting)
        try:
            entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        whole = entry.get("key") == key and all(self.audio(setting, one).is_file() for one in utterances)
        return entry if whole else None

    def save(self, setting: str, entry: Mapping[str, Any]) -> None:
        """Keep what was measured, instead of what was there."""
        path = self._entry(setting)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, entry)

    def forget(self, setting: str) -> None:
        """Take away what is about to be measured again, so that an interruption leaves nothing that looks whole."""
        self._entry(setting).unlink(missing_ok=True)
        self._features(setting).unlink(missing_ok=True)
        for path in self.audio(setting).glob("*.flac"):
            path.unlink()

    def save_features(self, setting: str, features: Mapping[str, Tensor]) -> None:
        """Keep the features of a reference by utterance."""
        path = self._features(setting)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, features)

    def features(self, setting: str) -> dict[str, Tensor] | None:
        """The features of a reference by utterance, or None if they are not there."""
        try:
            return load_tensors(self._features(setting))
        except UserError:
            return None

    def _entry(self, setting: str) -> Path:
        return self.folder / "settings" / f"{setting}.json"

    def _features(self, setting: str) -> Path:
        return self.folder / "reference" / f"{setting}.safetensors"
