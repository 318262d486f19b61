"""Checkpoints: a folder that anyone can read, and nothing in it is code.

    config.yaml         format, kind, the flowtts version that wrote it, and the whole configuration
    model.safetensors   the weights
    vocabulary.txt      one symbol a line, the line number is the id (where the kind has symbols)
    README.md           licence, training data, results

What a training run needs to continue lies beside these in ``train_state/`` and is not needed to use the model.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flowtts import __version__
from flowtts.config import dump, plain, read_yaml
from flowtts.quantised import pack, unpack
from flowtts.types import PathLike, UserError

FORMAT = 1
"""The layout of the folder; raised when an older reader could not understand a newer folder."""

FORMAT_INT8 = 2
"""The same with weights in 8 bits (`flowtts.quantised`)."""

SHIPPED = Path(__file__).parent / "checkpoints"
"""Where the checkpoints inside the package lie."""

CONFIG, WEIGHTS, VOCABULARY, README = "config.yaml", "model.safetensors", "vocabulary.txt", "README.md"


@dataclass(frozen=True)
class Card:
    """What a checkpoint says about itself beside its weights.

    Attributes:
        kind: what the weights are, e.g. "voicebox", "voicebox-duration", "vocos".
        config: the whole configuration: a dataclass or a mapping.
        vocabulary: symbols in the order of their ids.
        readme: Markdown: licence, training data, results.
    """

    kind: str
    config: Any
    vocabulary: Sequence[str] | None = None
    readme: str | None = None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        kind: what the weights are.
        config: the configuration as plain values; ``flowtts.config.load(cls, checkpoint.config)`` makes it a dataclass.
        state: weights by name; floating point ones are float32 whatever the file holds.
        vocabulary: symbols in the order of their ids, or None.
        hash: the first 12 hexadecimal digits of the SHA-256 of the weights' file.
        folder: where it lies.
    """

    kind: str
    config: Mapping[str, Any]
    state: Mapping[str, Tensor]
    vocabulary: tuple[str, ...] | None
    hash: str
    folder: Path


def save(
    folder: PathLike,
    *,
    kind: str,
    config: Any,
    state: Mapping[str, Tensor],
    vocabulary: Sequence[str] | None = None,
    readme: str | None = None,
    dtype: torch.dtype | None = None,
    extra: Callable[[Path], None] | None = None,
) -> Path:
    """Writes a checkpoint so that its name never stands for half of one.

    Args:
        folder: where; an older checkpoint there is replaced, anything else is left alone.
        kind: what the weights are.
        config: the whole configuration, a dataclass or a mapping.
        state: weights by name, on any device.
        vocabulary: symbols in the order of their ids.
        readme: Markdown for README.md.
        dtype: what floating point weights are stored in, None as they are; those that float16 cannot hold keep theirs.
            int8 stores matrices in 8 bits with a scale for every row.
        extra: writes more files into the folder it is given, before that gets its name.

    Raises:
        UserError: ``folder`` exists and is not a checkpoint, or cannot be written.
    """
    target = Path(folder)
    if target.exists() and not _replaceable(target):
        raise UserError(f"{target} exists and is not a checkpoint: choose another name or move it away")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = target.parent / f".{target.name}.{uuid4().hex}.part"
        made.mkdir()
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {target}: {error.strerror}") from None
    try:
        packed = dtype == torch.int8
        header = {
            "format": FORMAT_INT8 if packed else FORMAT,
            "kind": kind,
            "flowtts": __version__,
            "config": plain(config),
        }
        (made / CONFIG).write_text(dump(header), encoding="utf-8")
        about = readme or f"# {target.name}\n\nA flowtts checkpoint of kind {kind}.\n"
        (made / README).write_text(about, encoding="utf-8")
        if vocabulary is not None:
            (made / VOCABULARY).write_bytes(_lines(vocabulary).encode())
        stored = pack(state) if packed else {name: _stored(x, dtype) for name, x in state.items()}
        save_tensors(made / WEIGHTS, {name: stored[name] for name in sorted(stored)})
        if extra is not None:
            extra(made)
        _rename(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def load(folder: PathLike) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        UserError: no such folder, a piece missing or broken, or a format this version does not know.
    """
    path = Path(folder)
    header = read_header(path)
    weights = path / WEIGHTS
    try:
        state = unpack(load_tensors(weights))
    except KeyError as missing:
        raise UserError(f"{weights} is broken: it lacks {missing.args[0]}; fetch the checkpoint again") from None
    vocabulary = None
    if (path / VOCABULARY).exists():
        vocabulary = tuple((path / VOCABULARY).read_bytes().decode().removesuffix("\n").split("\n"))
    return Checkpoint(
        kind=header["kind"],
        config=header["config"],
        state={name: x.float() if x.is_floating_point() else x for name, x in state.items()},
        vocabulary=vocabulary,
        hash=digest(weights),
        folder=path,
    )


def read_header(folder: Path) -> dict[str, Any]:
    """``config.yaml`` of a checkpoint: format, kind, flowtts, config.

    Raises:
        UserError: not a checkpoint, or of another format.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} is not a checkpoint: it has no {CONFIG}")
    header = read_yaml(folder / CONFIG)
    if header.get("format") not in (FORMAT, FORMAT_INT8):
        said = header.get("format", "no")
        raise UserError(
            f"{folder / CONFIG} has format {said}, this flowtts {__version__} reads format {FORMAT} and {FORMAT_INT8}: "
            f"use the version that wrote it ({header.get('flowtts', 'unknown')}) or convert it"
        )
    if not isinstance(header.get("kind"), str) or not isinstance(header.get("config"), dict):
        raise UserError(f"{folder / CONFIG} is broken: it needs the keys kind and config; fetch the checkpoint again")
    return header


def find(name: PathLike) -> Path:
    """The folder that a name or a path means.

    Args:
        name: a shipped checkpoint's name, a checkpoint folder, or a training run's folder (its newest checkpoint).

    Raises:
        UserError: neither, naming what is shipped.
    """
    known = shipped()
    if str(name) in known:
        return SHIPPED / str(name)
    path = Path(name).expanduser()
    if (path / CONFIG).is_file():
        return path
    saved = steps(path)
    if saved:
        return saved[-1]
    if path.is_dir():
        raise UserError(f"{path} is not a checkpoint: it has no {CONFIG}")
    near = difflib.get_close_matches(str(name), known, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    names = ", ".join(known) or "none"
    raise UserError(f"no model or folder {name}{meant} (shipped: {names}; or give a checkpoint's folder)")


def shipped() -> list[str]:
    """Names of the checkpoints inside the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG}"))


def steps(run: Path) -> list[Path]:
    """A training run's checkpoints, oldest first."""
    found = [path.parent for path in run.glob(f"checkpoints/step-*/{CONFIG}")]
    numbered = [(int(match[1]), path) for path in found if (match := re.fullmatch(r"step-(\d+)", path.name))]
    return [path for _, path in sorted(numbered)]


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: PathLike = "the checkpoint") -> None:
    """Loads weights, all of them and no others.

    Raises:
        UserError: a name is missing, unknown, or of another shape; the first few are listed.
    """
    own = module.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is unknown" for name in state if name not in own]
    problems += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(x.shape)}"
        for name, x in own.items()
        if name in state and state[name].shape != x.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"{source} does not fit {type(module).__name__}: {', '.join(problems[:3])}{more}")
    module.load_state_dict(dict(state))


def require_kind(found: Checkpoint, kind: str, name: PathLike) -> Checkpoint:
    """The checkpoint itself, if it is of a kind.

    Raises:
        UserError: it is not; ``name`` is what the user called it.
    """
    if found.kind != kind:
        raise UserError(f"{name} is a checkpoint of kind {found.kind}, not {kind}")
    return found


def begin(module: nn.Module, init: PathLike, kind: str) -> None:
    """Loads the weights that a training starts from, out of a checkpoint's name or folder.

    Raises:
        UserError: there is none, it is of another kind, or it does not fit.
    """
    load_state(module, require_kind(load(find(init)), kind, init).state, init)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file on the CPU.

    Raises:
        UserError: missing or broken.
    """
    if not path.is_file():
        raise UserError(f"{path.parent} is not a whole checkpoint: {path.name} is missing; fetch or write it again")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is broken ({str(error).splitlines()[0]}): fetch or write it again") from None


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file atomically; tensors may share memory and lie on any device."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        copies = {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}
        beside.touch()
        mode = beside.stat().st_mode
        save_file(copies, beside, dict(metadata) if metadata else None)
        beside.chmod(mode)  # safetensors makes files that only their owner may read, whatever the umask
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """The first 12 hexadecimal digits of a file's SHA-256."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()[:12]


def read_torch(path: PathLike) -> Any:
    """What ``torch.save`` wrote, without running any code in it: for converters of published weights.

    Raises:
        UserError: unreadable, or it holds more than tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of protocols that it may refuse; then it refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError … for what it refuses
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{path} is not a file of plain tensors that can be read safely: {reason}") from None


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and ((folder / CONFIG).is_file() or not any(folder.iterdir()))


def _lines(vocabulary: Sequence[str]) -> str:
    broken = [symbol for symbol in vocabulary if not symbol or "\n" in symbol]
    if broken:
        raise ValueError(f"a vocabulary's symbols are not empty and have no line breaks: {broken[:3]}")
    return "\n".join(vocabulary) + "\n"


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """In the file's dtype, unless that would make a finite weight infinite."""
    if dtype is None or not tensor.is_floating_point():
        return tensor
    largest = tensor.detach().abs().max().item() if tensor.numel() else 0.0
    return tensor if math.isfinite(largest) and largest > torch.finfo(dtype).max else tensor.to(dtype)


def _rename(made: Path, target: Path) -> None:
    """Gives a finished folder its name; a full folder cannot be renamed over, so the old one steps aside first."""
    if not target.exists():
        made.rename(target)
        return
    aside = made.with_suffix(".old")
    target.rename(aside)
    try:
        made.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
