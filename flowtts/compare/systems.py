"""What is compared: models, copies of the recordings, the recordings, other programs' finished audio."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from flowtts import __version__, checkpoint, opus, readme
from flowtts.bench.store import key_of
from flowtts.compare.result import Kind
from flowtts.registry import (
    CODECS,
    DEPENDENCIES,
    KINDS,
    RECIPES,
    VOCODERS,
    codec_folder,
    find_model,
    find_vocoder,
    vocoder_of,
)
from flowtts.request import make_request
from flowtts.solve.grid import resolved
from flowtts.types import UserError

RECORDINGS = "recordings"
COPY = "-copy"
"""What follows a vocoder's or a codec's name to copy the recordings through it: the best that a model of its features
can do."""

OPUS = "opus"
"""The codec without weights: see ``flowtts.opus``."""

COPYING: Mapping[str, type] = {"codebooks": int, "kbps": float}
"""What can be said of a copy: through so many codebooks of a codec; through so many kbit/s of Opus."""

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
            # Codes are no features that a prompt could go through.
            return None if self.settings else self.source
        return str(self.settings.get("vocoder") or vocoder_of(self.source)) if self.kind == "model" else None


def parse(words: Sequence[str], given: Mapping[str, Sequence[Any]], seeds: Sequence[int]) -> tuple[System, ...]:
    """Systems as they stand on a command line: ``[LABEL=]NAME[:OPTION=VALUE…]``.

    NAME is a model's name or folder, ``VOCODER-copy``, ``CODEC-copy:codebooks=4``, ``opus-copy:kbps=12``,
    ``recordings``, or a folder of finished audio, whose recordings are named by the prompts' ids.

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
    kind = _kind(source)
    settings = dict(_option(word, part, COPYING if kind == "copy" else OPTIONS) for part in parts)
    if kind not in ("model", "copy") and settings:
        raise UserError(f"{word}: {source} takes no options; only models and copies do")
    if kind == "copy":
        shown = " ".join([source, *(f"{key}={value:g}" for key, value in settings.items())])
        found = System(label or shown, kind, source.removesuffix(COPY), settings)
        _check_copy(word, found)
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
    copied = source.removesuffix(COPY)
    if copied != source and (copied in (*VOCODERS, *CODECS, OPUS) or Path(copied).is_dir()):
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


def _check_copy(word: str, system: System) -> None:
    """The same of a copy.

    Raises:
        UserError: there is nothing of that name to go through, or not in that way.
    """
    given = set(system.settings)
    if system.source == OPUS:
        if given != {"kbps"}:
            raise UserError(f"{word}: a copy through Opus needs its bitrate alone; write opus-copy:kbps=12")
        opus.check(system.settings["kbps"])
    elif given == {"codebooks"}:
        codec_folder(system.source)
        if system.settings["codebooks"] < 1:
            raise UserError(f"{word}: a codec needs at least one of its codebooks")
    elif given:
        raise UserError(f"{word}: only Opus has a bitrate to choose; a codec takes codebooks=NUMBER")
    else:
        find_vocoder(system.source)


def _option(word: str, part: str, known: Mapping[str, type]) -> tuple[str, Any]:
    key, _, value = part.partition("=")
    key = key.replace("-", "_")
    return key, value_of(key, value, word, known)


def value_of(key: str, value: Any, where: str, known: Mapping[str, type] = OPTIONS) -> Any:
    """An option's value as the option wants it.

    Raises:
        UserError: no such option, or not such a value.
    """
    if key not in known:
        whose = "a model" if known is OPTIONS else "a copy"
        raise UserError(f"{where}: no option {key!r} of {whose}; there are {', '.join(known)}")
    try:
        made = known[key](str(value).strip())
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
    if system.kind == "copy" and system.settings:
        found["codec"] = opus.version() if system.source == OPUS else weights(codec_folder(system.source))
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
