"""What is compared: models, copies of the recordings, the recordings, other programs' finished audio."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from flowtts import __version__, checkpoint, readme
from flowtts.bench.store import key_of
from flowtts.compare.result import Kind
from flowtts.registry import DEPENDENCIES, KINDS, RECIPES, VOCODERS, find_model, find_vocoder, vocoder_of
from flowtts.request import make_request
from flowtts.solve.grid import resolved
from flowtts.types import UserError

RECORDINGS = "recordings"
COPY = "-copy"
"""What follows a vocoder's name to copy the recordings through it: the best that a model of its features can do."""

SAMPLING: Mapping[str, type] = {"solver": str, "grid": str, "steps": int, "guidance": str, "temperature": float}
"""Settings that the command line multiplies, all but the last by options of their own."""

OPTIONS: Mapping[str, type] = {
    **SAMPLING, "vocoder": str, "engine": str, "preset": str, "decoding": str, "best_of": int, "rank": str,
    "speed": float,
}  # fmt: skip
"""What can be said of a model -> how it is read."""

_PART = re.compile(r":(?=[A-Za-z_-]+=)")


@dataclass(frozen=True, eq=False)
class System:
    """One column of a comparison.

    Attributes:
        label: for people, unique.
        kind: see ``result.Kind``.
        source: a model's name or folder, a vocoder's, or the folder of finished audio; "recordings".
        settings: options that were given, by name; the others are the model's own.
        seeds: each says every prompt once.
    """

    label: str
    kind: Kind
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)

    @property
    def name(self) -> str:
        """The label as a folder's name."""
        return re.sub(r"[^\w.+=-]+", "_", self.label).strip("._") or "system"

    @property
    def vocoder(self) -> str | None:
        """What makes its features audible; None for finished audio."""
        if self.kind == "copy":
            return self.source
        return str(self.settings.get("vocoder") or vocoder_of(self.source)) if self.kind == "model" else None


def parse(words: Sequence[str], given: Mapping[str, Sequence[Any]], seeds: Sequence[int]) -> tuple[System, ...]:
    """Systems as they stand on a command line: ``[LABEL=]NAME[:OPTION=VALUE…]``.

    NAME is a model's name or folder, ``VOCODER-copy``, ``recordings``, or a folder of finished audio, whose recordings
    are named by the prompts' ids.

    Args:
        words: one per system.
        given: options with several values, by name, which multiply every model that does not say its own.
        seeds: of every model.

    Raises:
        UserError: there is no such thing, an option is unknown or no value, or two systems have one name.
    """
    found: list[System] = []
    for word in words:
        system, named = _one(word)
        if system.kind != "model":
            found.append(system)
            continue
        free = {key: values for key, values in given.items() if values and key not in system.settings}
        several = [key for key, values in free.items() if len(values) > 1]
        for values in product(*free.values()):
            settings = {**system.settings, **dict(zip(free, values, strict=True))}
            shown = settings if not named else {key: settings[key] for key in several}
            label = " ".join([system.label, *(f"{key}={shown[key]}" for key in sorted(shown))])
            _check(settings)
            found.append(replace(system, label=label, settings=settings, seeds=tuple(seeds)))
    names = [system.name.casefold() for system in found]
    twice = next((found[i].label for i, name in enumerate(names) if names.index(name) < i), None)
    if twice is not None:
        raise UserError(f"two systems are called {twice!r}; name one of them, such as other={words[0]}")
    if not found:
        raise UserError("nothing to compare: name a model, a folder of recordings, griffin-lim-copy or recordings")
    return tuple(found)


def _one(word: str) -> tuple[System, bool]:
    """A system with the options of its own, and whether the user labelled it."""
    label, equals, rest = word.partition("=")
    named = bool(equals) and ":" not in label and not Path(word).exists()
    label, source = (label, rest) if named else ("", word)
    source, *parts = _PART.split(source)
    settings = dict(_option(word, part) for part in parts)
    kind = _kind(source)
    if kind != "model" and settings:
        raise UserError(f"{word}: {source} takes no options; only models do")
    if kind == "copy":
        found = System(label or source, kind, source.removesuffix(COPY))
        find_vocoder(found.source)
    else:
        shown = source if kind == "recordings" or source in RECIPES else Path(source).resolve().name
        found = System(label or shown, kind, source, settings)
    return found, named


def _kind(source: str) -> Kind:
    """What a name stands for.

    Raises:
        UserError: for nothing.
    """
    if source == RECORDINGS:
        return "recordings"
    if source.endswith(COPY) and (source.removesuffix(COPY) in VOCODERS or Path(source.removesuffix(COPY)).is_dir()):
        return "copy"
    folder = Path(source).expanduser()
    if folder.is_dir() and not (folder / checkpoint.CONFIG).is_file():
        return "folder"
    find_model(source)
    return "model"


def _check(settings: Mapping[str, Any]) -> None:
    """Refuse what can be refused without loading a model.

    Raises:
        UserError: a number out of range, or no such solver, grid, ranker or vocoder.
    """
    elsewhere = ("vocoder", "engine", "preset", "decoding")
    make_request("", None, **{key: value for key, value in settings.items() if key not in elsewhere})
    if "vocoder" in settings:
        find_vocoder(settings["vocoder"])


def _option(word: str, part: str) -> tuple[str, Any]:
    key, _, value = part.partition("=")
    key = key.replace("-", "_")
    return key, value_of(key, value, word)


def value_of(key: str, value: Any, where: str) -> Any:
    """An option's value as the option wants it.

    Raises:
        UserError: no such option, or not such a value.
    """
    if key not in OPTIONS:
        raise UserError(f"{where}: no option {key!r} of a model; there are {', '.join(OPTIONS)}")
    try:
        made = OPTIONS[key](str(value).strip())
    except ValueError:
        raise UserError(f"{where}: {key} {str(value)!r} is no number") from None
    if made == "":
        raise UserError(f"{where}: {key} has no value")
    return made


def identity(system: System) -> dict[str, Any]:
    """What decides, beside the prompt and the seed, what a system makes: weights, settings, versions.

    Raises:
        UserError: it is not there.
    """
    if system.kind in ("recordings", "folder"):
        return {"kind": system.kind}
    found: dict[str, Any] = {"kind": system.kind, "flowtts": __version__, "settings": dict(system.settings)}
    folder = None if system.vocoder is None else find_vocoder(system.vocoder)
    found["vocoder"] = [system.vocoder, None if folder is None else weights(folder)]
    if system.kind == "model":
        model = find_model(system.source)
        recipe = KINDS[str(checkpoint.read_header(model)["kind"])]
        found["model"] = weights(model)
        found["others"] = [weights(checkpoint.find(name)) for name in DEPENDENCIES.get(recipe, ())]
        grid = Path(resolved(str(system.settings.get("grid", "uniform")), model))
        found["grid"] = checkpoint.digest(grid) if grid.is_file() else None
    return found


@lru_cache(maxsize=64)
def weights(folder: Path) -> str:
    """A hash of a checkpoint: of every file in it that decides what it makes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")
    return _digest([(path.relative_to(folder).as_posix(), checkpoint.digest(path)) for path in files])


def _digest(pairs: Sequence[tuple[str, str]]) -> str:
    return key_of({"files": [list(pair) for pair in pairs]})


def licence(system: System) -> str | None:
    """That of a model's weights, as its README states it."""
    if system.kind != "model":
        return None
    return readme.licence(readme.read(find_model(system.source)))
