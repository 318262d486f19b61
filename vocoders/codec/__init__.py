"""The codec that comes with flowtts: see ``network``."""

from __future__ import annotations

from pathlib import Path

import torch

from flowtts import checkpoint
from flowtts.config import load as load_config
from flowtts.types import PathLike, UserError

from ..network_codec import NetworkCodec
from .network import CodecConfig, CodecNetwork

KIND = "codec"
"""What ``config.yaml`` of a checkpoint folder calls it."""


def save(
    network: CodecNetwork, folder: PathLike, readme: str | None = None, dtype: torch.dtype = torch.float16
) -> Path:
    """Write a checkpoint folder without what only training needs.

    Raises:
        UserError: the folder exists and is not a checkpoint.
    """
    kept = {name: x for name, x in network.state_dict().items() if name.rsplit(".", 1)[-1] not in _TRAINING}
    return checkpoint.save(folder, kind=KIND, config=network.config, state=kept, readme=readme, dtype=dtype)


def load_network(folder: PathLike) -> CodecNetwork:
    """Read a checkpoint folder.

    Raises:
        UserError: it is no checkpoint, or of another kind, or does not fit its configuration.
    """
    saved = checkpoint.load(checkpoint.find(folder))
    if saved.kind != KIND:
        raise UserError(f"{saved.folder} is a checkpoint of kind {saved.kind}, not {KIND}; choose a codec")
    network = CodecNetwork(load_config(CodecConfig, saved.config))
    state = dict(saved.state)
    for name, x in network.state_dict().items():
        if name.rsplit(".", 1)[-1] in _TRAINING:
            state[name] = torch.ones_like(x) if x.dtype == torch.bool else torch.zeros_like(x)
    checkpoint.load_state(network, state, saved.folder)
    return network.eval()


def load(folder: PathLike, codebooks: int | None = None) -> NetworkCodec:
    """The same behind ``flowtts.codec.Codec``, with so many codebooks."""
    path = checkpoint.find(folder)
    return NetworkCodec(KIND, load_network(path), codebooks, checkpoint.digest(path / checkpoint.WEIGHTS))


_TRAINING = frozenset({"counts", "sums", "idle", "started"})
"""Of the codebooks: what they are learning, not what they are."""
