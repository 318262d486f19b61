"""What a training run leaves on the disk: its checkpoints, and beside each what is needed to continue from it.

    OUT/checkpoints/step-00001000/               a checkpoint (flowtts.checkpoint) with the averaged weights
    OUT/checkpoints/step-00001000/train_state/   network.safetensors, optimiser.safetensors, position.json, train.yaml

Every random number of step s on rank r comes from (seed, s, r), and batch i is a function of i alone. The position
is therefore the whole state beside the tensors: no generator and no data loader has to be saved.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.checkpoint import Card, load_state, load_tensors, save_tensors
from flowtts.config import dump, plain
from flowtts.ema import EMA
from flowtts.types import UserError

STATE, NETWORK, OPTIMISER, POSITION = "train_state", "network.safetensors", "optimiser.safetensors", "position.json"


@dataclass(frozen=True)
class Position:
    """How far a run is.

    Attributes:
        step: updates done.
        batches: batches consumed by all ranks together; the index of the next one.
        seconds: wall-clock time spent training, over all resumptions.
        warmed: progress (0 to 1) at which the warm-up ended.
    """

    step: int = 0
    batches: int = 0
    seconds: float = 0.0
    warmed: float = 0.0


def save(
    out: Path, card: Card, position: Position, network: nn.Module, ema: EMA, optimiser: torch.optim.Optimizer,
    *, config: Any, keep: int,
) -> Path:  # fmt: skip
    """Writes a checkpoint with its training state and removes the oldest ones beyond ``keep``."""

    def extra(folder: Path) -> None:
        state = folder / STATE
        state.mkdir()
        save_tensors(state / NETWORK, network.state_dict())
        save_tensors(state / OPTIMISER, _flatten(network, optimiser))
        (state / POSITION).write_text(json.dumps(asdict(position), indent=2) + "\n", encoding="utf-8")
        (state / "train.yaml").write_text(dump(config), encoding="utf-8")

    folder = out / "checkpoints" / f"step-{position.step:08d}"
    checkpoint.save(
        folder, kind=card.kind, config=card.config, state=ema.network.state_dict(),
        vocabulary=card.vocabulary, readme=card.readme, extra=extra,
    )  # fmt: skip
    for old in checkpoint.steps(out)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def load(folder: Path, card: Card, network: nn.Module, ema: EMA | None, optimiser: torch.optim.Optimizer) -> Position:
    """Puts a run back where it was.

    Raises:
        UserError: ``folder`` holds another model, or no training state.
    """
    header = checkpoint.read_header(folder)
    if header["kind"] != card.kind:
        raise UserError(f"{folder} is a {header['kind']}, not a {card.kind}: choose another folder for this run")
    changed = _difference(header["config"], plain(card.config))
    if changed is not None:
        raise UserError(f"{folder} was trained with another {changed}: give the same configuration, or a new folder")
    state = folder / STATE
    if not (state / POSITION).is_file():
        raise UserError(f"{folder} has no {STATE}/{POSITION}: it can be used but not trained further")
    load_state(network, load_tensors(state / NETWORK), state / NETWORK)
    _unflatten(network, optimiser, load_tensors(state / OPTIMISER), state / OPTIMISER)
    if ema is not None:
        load_state(ema.network, load_tensors(folder / checkpoint.WEIGHTS), folder)
    try:
        return Position(**json.loads((state / POSITION).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UserError(f"{state / POSITION} is broken: remove {folder} to resume from the one before") from None


def _order(network: nn.Module, optimiser: torch.optim.Optimizer) -> list[str]:
    """Names of the parameters in the optimiser's numbering."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [names[id(parameter)] for group in optimiser.param_groups for parameter in group["params"]]


def _flatten(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors under "parameter/what"."""
    order, state = _order(network, optimiser), optimiser.state_dict()["state"]
    return {f"{order[index]}/{what}": value for index, slots in state.items() for what, value in slots.items()}


def _unflatten(network: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path) -> None:
    number = {name: index for index, name in enumerate(_order(network, optimiser))}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, what = key.rpartition("/")
        if name not in number:
            raise UserError(f"{path} is of another network: it has {name}")
        state.setdefault(number[name], {})[what] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})


def _difference(old: Any, new: Any, place: str = "") -> str | None:
    """The first dotted key in which two plain configurations differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            found = _difference(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
            if found is not None:
                return found
        return None
    return None if old == new else f"{place or 'configuration'} ({old}, now {new})"
