"""Recordings made again from what their sidecars say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowtts.edit.result import Edited
from flowtts.edit.source import IN_MEMORY
from flowtts.speech import Speech
from flowtts.types import PathLike, UserError

if TYPE_CHECKING:
    from flowtts.pipeline import Pipeline

_HOW = ("solver", "grid", "steps", "guidance", "temperature", "rank", "lexicon")


def replay(sidecar: PathLike, out: PathLike, device: str = "cpu") -> Speech | Edited:
    """Make the recording that a sidecar describes again; on the same CPU build the bytes are the same.

    Raises:
        UserError: the sidecar cannot be read, or the model, the voice or the recording it names has changed since.
    """
    from flowtts.pipeline import load

    settings = _read(sidecar)
    # Engines differ in the last bits. Older sidecars do not name theirs, and what they describe carries no tag.
    engine, tag = settings.get("engine", "auto"), bool(settings.get("tag", False))
    tts = load(settings["model"], settings["vocoder"], device, engine, tag)
    if tts.hash != settings["model_hash"]:
        raise UserError(
            f"{sidecar} was made with weights {settings['model_hash']} of {settings['model']} and "
            f"these are {tts.hash}; install the flowtts or the checkpoint that made it"
        )
    made = _VERBS[settings["verb"]](tts, settings, _options(settings))
    _same(settings, made.plan.settings if isinstance(made, Speech) else made.settings, sidecar)
    made.save(out)
    return made


def _read(sidecar: PathLike) -> dict[str, Any]:
    """Settings with the verb, checked for what every verb needs."""
    try:
        settings: dict[str, Any] = json.loads(Path(sidecar).read_text(encoding="utf-8"))
        settings.setdefault("verb", "say")
        needed = {*_NEEDED[settings["verb"]], *_HOW, "model", "vocoder", "model_hash", "seed", "candidates", "best_of"}
        missing = needed - settings.keys()
    except OSError as error:
        raise UserError(f"cannot read {sidecar}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{sidecar} is not the sidecar of a recording made by flowtts") from None
    if missing:
        raise UserError(f"{sidecar} is not the sidecar of a recording made by flowtts: it lacks {min(missing)}")
    if "recording" in settings and settings["recording"]["name"] == IN_MEMORY:
        raise UserError(f"{sidecar}: the recording was given as samples and not as a file; it cannot be made again")
    return settings


def _options(settings: Mapping[str, Any]) -> dict[str, Any]:
    # The sidecar's seed is that of the take that was kept; takes are derived from the first one's.
    best = settings["best_of"]
    seed = settings["seed"] if best == 1 else settings["candidates"][0]["seed"]
    options = {"seed": int(seed), "best_of": best, **{key: settings[key] for key in _HOW}}
    # Only what is made of a recording with its transcript has one.
    return options | ({"confidence": settings["confidence"]} if settings.get("confidence") is not None else {})


def _same(before: Mapping[str, Any], now: Mapping[str, Any], sidecar: PathLike) -> None:
    """Refuse to call something a replay that was made from other recordings."""
    for role in ("voice", "recording", "style", "accent"):
        old = before.get(role)
        if old is not None and old["hash"] != now[role]["hash"]:
            raise UserError(f"the {role} {old['name']} is not the recording that {sidecar} was made with")


def _say(tts: Pipeline, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Speech:
    voice = settings["voice"]
    return tts.say(
        settings["text"], voice=voice["name"], voice_text=voice["text"], speed=settings["speed"],
        duration=settings["duration"], decoding=settings.get("decoding"), **options,
    )  # fmt: skip


def _edit(tts: Pipeline, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Edited:
    return tts.edit(settings["recording"]["name"], settings["text"], settings["to"], **options)


def _fill(tts: Pipeline, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Edited:
    return tts.fill(settings["recording"]["name"], settings["text"], settings["at"], **options)


def _denoise(tts: Pipeline, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Edited:
    return tts.denoise(settings["recording"]["name"], settings["text"], settings["at"], **options)


def _restyle(tts: Pipeline, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Edited:
    style, accent = settings["style"], settings["accent"] or {"name": None, "text": None}
    return tts.restyle(
        settings["recording"]["name"], settings["text"], style["name"], style["text"], settings["timing"],
        accent["name"], accent["text"], **options,
    )  # fmt: skip


def _continue(tts: Pipeline, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Edited:
    return tts.continue_(settings["recording"]["name"], settings["text"], settings["then"], **options)


def _sample(tts: Pipeline, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Speech:
    # Only free recipes write these here.
    free = {name: settings.get(name) for name in ("decoding", "speed", "duration")}
    given = {name: value for name, value in free.items() if value is not None}
    return tts.sample(settings["text"], 1, settings["durations"], **given, **options)[0]


_VERBS: Mapping[str, Callable[[Pipeline, Mapping[str, Any], Mapping[str, Any]], Speech | Edited]] = {
    "say": _say,
    "edit": _edit,
    "fill": _fill,
    "denoise": _denoise,
    "restyle": _restyle,
    "continue": _continue,
    "sample": _sample,
}

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "say": ("text", "voice", "speed", "duration"),
    "edit": ("text", "recording", "to"),
    "fill": ("text", "recording", "at"),
    "denoise": ("text", "recording", "at"),
    "restyle": ("text", "recording", "style", "timing", "accent"),
    "continue": ("text", "recording", "then"),
    "sample": ("text", "durations"),
}
