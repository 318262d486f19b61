"""A blind listening test: ``listen.html``, its clips under names that tell nothing, and the key to them.

Listeners rate how natural a clip is, by absolute category rating with the wording of ITU-T P.800 (08/96), annex B, how
similar its voice is to the one asked for, and which of two clips of one text is better. ``listen_plan`` says who hears
what. The page works from disk and sends nothing: answers stay in the browser until they are saved to a file, which
``ratings`` reads.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from flowtts.audio.active import TRAINING_RMS, active_rms, to_level
from flowtts.audio.io import read, replacing, resample, write
from flowtts.compare import store
from flowtts.compare.listen_plan import FORMAT, Layout, fingerprint, lay_out
from flowtts.compare.result import Result
from flowtts.compare.sounds import inside
from flowtts.speech import write_json
from flowtts.types import Audio, UserError

NAME = "listen.html"
FOLDER = "listen"
KEY = "key.json"

SESSION = 40
"""Trials of a sitting unless somebody says otherwise: some ten minutes."""

HIGHEST_RATE = 48_000
PEAK = 0.89
"""Clips stay below this at their common level, so that what resampling adds does not overload: -1 dB."""

QUIETEST_RMS = TRAINING_RMS / 4
"""The common level is not below this for the sake of single clips full of clicks, which overload then."""

WARNING = (
    "Do not open this before everybody has rated: it says which system made which clip. Listeners get listen.html "
    "and the FLAC files of this folder, without this file."
)


@dataclass(frozen=True)
class Mastering:
    """What is done to all clips alike, so that neither loudness nor a file's head tells them apart.

    Attributes:
        sample_rate: Hz, the highest of all recordings.
        rms: active level.
        left_out: recordings that cannot be read, with the reason.
    """

    sample_rate: int
    rms: float
    left_out: Mapping[str, str]


def write_listen(result: Result, folder: Path, *, seed: int = 0, trials: int | None = None) -> Path:
    """Write ``listen.html``, ``listen/*.flac`` and ``listen/key.json``.

    Clips have one channel, one sampling rate, one active level and no metadata. They are written once; the same test
    again writes the page alone.

    Args:
        result: what was found; its recordings are named relative to ``folder``.
        folder: of the comparison.
        seed: of names and order; another one is another test.
        trials: of a sitting, about; None for ``SESSION``. Every system is heard in each.

    Returns:
        The page.

    Raises:
        UserError: ``trials`` is not positive, or the folder cannot be written.
    """
    trials = SESSION if trials is None else trials
    if trials < 1:
        raise UserError(f"a sitting of {trials} trials is none; give 1 or more")
    mark = fingerprint(result, seed, trials)
    place = folder / FOLDER
    known = store.read(place / KEY) or {}
    same = known.get("comparison") == mark
    mastering = _known_mastering(known) if same else _mastering(result, folder)
    test = lay_out(result, seed, trials, mastering.left_out)
    if not same or not all((place / f"{name}.flac").is_file() for name in test.sources):
        place.mkdir(parents=True, exist_ok=True)
        # In the order of names, so that the files' dates tell nothing. The key comes last: with it the test is whole.
        for name, source in test.sources.items():
            write(place / f"{name}.flac", _mastered(_audio(folder, source), mastering))
        for path in place.glob("*.flac"):
            if path.stem not in test.sources:
                path.unlink()
        write_json(place / KEY, {
            "warning": WARNING, "format": FORMAT, "comparison": mark, "seed": seed, "trials": trials,
            "sample_rate": mastering.sample_rate, "rms": mastering.rms, "left_out": dict(mastering.left_out),
            "clips": test.clips,
        })  # fmt: skip
    path = folder / NAME
    with replacing(path) as part:
        part.write_text(_page(test, mastering, mark), encoding="utf-8", newline="\n")
    return path


def _known_mastering(key: Mapping[str, Any]) -> Mastering:
    return Mastering(key["sample_rate"], key["rms"], key["left_out"])


def _mastering(result: Result, folder: Path) -> Mastering:
    """What all recordings allow: the level is the recipes', or lower where a clip would overload."""
    names = [row["audio"] for row in result["items"]] + [prompt["voice_audio"] for prompt in result["prompts"]]
    rate, rms, left_out = 0, TRAINING_RMS, {}
    for name in dict.fromkeys(name for name in names if name):
        try:
            audio = _audio(folder, name)
        except UserError as error:
            left_out[name] = str(error)
            continue
        rate = max(rate, min(audio.sample_rate, HIGHEST_RATE))
        peak = float(np.abs(audio.samples).max())
        if peak > 0:
            rms = min(rms, PEAK * active_rms(audio.samples, audio.sample_rate) / peak)
    return Mastering(rate, max(rms, QUIETEST_RMS), left_out)


def _mastered(audio: Audio, mastering: Mastering) -> Audio:
    return to_level(resample(audio, mastering.sample_rate), mastering.rms)[0]


def _audio(folder: Path, name: str) -> Audio:
    path = inside(folder, name)
    if path is None:
        raise UserError(f"{folder / name}: no such file; make the comparison again")
    return read(path).mono()


def _page(test: Layout, mastering: Mastering, mark: str) -> str:
    assets = files("flowtts.compare") / "assets"
    frame, style, script = (
        assets.joinpath(f"listen.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    data = json.dumps({"format": FORMAT, "comparison": mark, **test.sheets}, ensure_ascii=False, separators=(",", ":"))
    return Template(frame).substitute(
        policy=_policy(style, script),
        style=style,
        script=script,
        # Nothing that people wrote can end the element.
        test=data.replace("<", "\\u003c"),
        level=f"−{-20 * math.log10(mastering.rms):.0f} dB",
        left_out=_left_out(len(mastering.left_out)),
    )


def _left_out(count: int) -> str:
    """A line about recordings that nobody can hear."""
    if not count:
        return ""
    what = "One clip could not be read and is" if count == 1 else f"{count} clips could not be read and are"
    return f'<p class="soft">{what} not part of this test.</p>'


def _policy(*own: str) -> str:
    """Nothing but this page's own style and script runs, and nothing is fetched but clips beside it."""
    style, script = (f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in own)
    return (
        f"default-src 'none'; style-src {style}; script-src {script}; img-src data:; media-src 'self' file:; "
        "base-uri 'none'; form-action 'none'"
    )
