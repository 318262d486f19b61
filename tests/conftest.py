"""What every test may rely on: fixed seeds, one thread, no network."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flowtts.types import Audio

# The order of additions depends on the number of threads, and several test runs on one machine slow each other down.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection beyond this machine fails, unless the test is marked ``network``."""
    if request.node.get_closest_marker("network"):
        return
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and not (isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1")):
            raise OSError(f"a test tried to connect to {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def rng() -> torch.Generator:
    """A seeded generator."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def noise() -> Callable[[float, int], Audio]:
    """(seconds, sample rate) -> quiet white noise, always the same."""

    def make(seconds: float = 1.0, sample_rate: int = 16_000) -> Audio:
        samples: NDArray[np.float32] = np.random.default_rng(0).standard_normal(round(seconds * sample_rate), "f4")
        return Audio(0.1 * samples, sample_rate)

    return make
