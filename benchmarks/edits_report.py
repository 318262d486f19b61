"""The page of ``edits.py``: figures, and every join as a picture, before and after."""

from __future__ import annotations

import base64
import difflib
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import soundfile
import torch
from edit_cases import Case

from flowtts.audio.io import resample
from flowtts.audio.mel import LogMel
from flowtts.compat import require
from flowtts.eval.boundary import places
from flowtts.eval.edit_items import EditItem, sound
from flowtts.types import Audio, MelSpec

SIDE = 0.4
"""Seconds of sound on either side of a join."""

SPEC = MelSpec(hop_length=80)


def page(cases: Sequence[Case], items: Sequence[EditItem], found: Mapping[str, Any], players: int) -> str:
    """The whole page; it needs no other file.

    Args:
        cases: all edits.
        items: those that were made.
        found: what ``scores.json`` holds.
        players: how many edits have sound; they are taken from all kinds alike.
    """
    made = {item.id: item for item in items}
    spread = sorted(made, key=lambda name: (_turn(name, cases), name))
    heard = set(spread[:players])
    sections = [_section(case, made[case.id], case.id in heard, found) for case in cases if case.id in made]
    failed = "".join(f"<li>{html.escape(n)}: {html.escape(e)}</li>" for n, e in found["failed"].items())
    took = found["seconds_per_edit"]
    head = (
        f"{found['edits']} edits, {found['crashes']} crashes, {found['refused']} refused; "
        f"{took['value']:.1f} s each [{took['low']:.1f}, {took['high']:.1f}]"
    )
    return _PAGE.format(
        head=head,
        failed=f"<ul>{failed}</ul>" if failed else "",
        metrics=_metrics(found["metrics"]),
        kinds=_kinds(found["kinds"], list(found["metrics"])),
        edits="\n".join(sections),
        side=1000 * SIDE,
        version=html.escape(str(found["flowtts"])),
    )


def _turn(name: str, cases: Sequence[Case]) -> int:
    """The how-manieth of its kind an edit is."""
    kinds = {case.id: case.kind for case in cases}
    return [case.id for case in cases if case.kind == kinds[name]].index(name)


def _metrics(scores: Mapping[str, Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{name}</td><td>{_number(name, s['value'])}</td>"
        f"<td>{_number(name, s['low'])} – {_number(name, s['high'])}</td><td>{s['count']}</td>"
        f"<td>{len(s['dropped'])}</td><td>{html.escape(s['backend'])}</td></tr>"
        for name, s in scores.items()
    )
    return (
        f"<table><tr><th>metric</th><th>value</th><th>95 % interval</th><th>edits</th><th>dropped</th>"
        f"<th>judge</th></tr>{rows}</table>"
    )


def _kinds(kinds: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{kind}</td>"
        + "".join(f"<td>{_number(name, values[name]) if name in values else '–'}</td>" for name in names)
        + "</tr>"
        for kind, values in kinds.items()
    )
    return f"<table><tr><th>kind</th>{head}</tr>{rows}</table>"


def _number(name: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    if name.startswith(("wer", "boundary")):
        return f"{100 * value:.1f} %"
    return f"{value:.3g}"


def _section(case: Case, item: EditItem, heard: bool, found: Mapping[str, Any]) -> str:
    values = " · ".join(
        f"{name} {_number(name, s['items'][case.id])}" for name, s in found["metrics"].items() if case.id in s["items"]
    )
    sounds = ""
    if heard:
        given = [("before", item.input), ("after", item.output), ("engine", item.reference)]
        sounds = "".join(
            f"<figure><figcaption>{name}</figcaption>"
            f"<audio controls preload='none' src='{_data(sound(source))}'></audio></figure>"
            for name, source in given
            if source is not None
        )
    picture = _picture(item)
    shown = f'<img loading="lazy" alt="spectrograms across the joins" src="data:image/png;base64,{picture}">'
    shown = shown if picture else "<p>no join</p>"
    return (
        f"<section><h3>{html.escape(case.id)}</h3><p class='text'>{_texts(case.text, case.to)}</p>"
        f"<div class='row'>{sounds}</div>{shown}<p class='values'>{values}</p></section>"
    )


def _texts(text: str, to: str) -> str:
    """The two texts in one, what goes struck out."""
    old, new = text.split(), to.split()
    parts = []
    for kind, a, b, c, d in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(html.escape(" ".join(old[a:b])))
            continue
        parts += [f"<del>{html.escape(' '.join(old[a:b]))}</del>"] * (b > a)
        parts += [f"<ins>{html.escape(' '.join(new[c:d]))}</ins>"] * (d > c)
    return " ".join(parts)


def _data(audio: Audio) -> str:
    made = io.BytesIO()
    soundfile.write(made, audio.samples, audio.sample_rate, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(made.getvalue()).decode()}"


def _picture(item: EditItem) -> str:
    """Log-mels around every join as base64 PNG: above the recording at that place, below what was made."""
    before, after = sound(item.input).mono(), sound(item.output).mono()
    rate = after.sample_rate
    pairs = []
    for span in item.spans:
        shifts = (span.start - span.start_out) / rate, (span.end - span.end_out) / rate
        joins = places([span], rate)
        for index, at in enumerate(joins):
            if SIDE / 8 < at < after.seconds - SIDE / 8:
                pairs.append((at + shifts[0 if index == 0 else 1], at))
    if not pairs:
        return ""
    figures = require("matplotlib.figure", "eval")
    figure = figures.Figure(figsize=(2.4 * len(pairs), 2.6), dpi=80)
    axes = figure.subplots(2, len(pairs), squeeze=False)
    mels = [[_mel(before, was), _mel(after, at)] for was, at in pairs]
    low = min(float(mel.min()) for pair in mels for mel in pair)
    high = max(float(mel.max()) for pair in mels for mel in pair)
    for column, (pair, (_, at)) in enumerate(zip(mels, pairs, strict=True)):
        for row, mel in enumerate(pair):
            place = axes[row][column]
            extent = (-SIDE, SIDE, 0, 1)
            place.imshow(mel.T, "magma", origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high)
            place.axvline(0, color="cyan", linewidth=0.8, linestyle=":")
            place.set_xticks([])
            place.set_yticks([])
        axes[0][column].set_title(f"{at:.2f} s", fontsize=8)
    for row, name in enumerate(("before", "after")):
        axes[row][0].set_ylabel(name, fontsize=8)
    figure.subplots_adjust(0.04 if len(pairs) > 2 else 0.08, 0.02, 0.995, 0.9, 0.03, 0.05)
    made = io.BytesIO()
    figure.savefig(made, format="png")
    return base64.b64encode(made.getvalue()).decode()


def _mel(audio: Audio, at: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(T, 80) log-mel of ``SIDE`` on either side of a place; silence beyond the ends."""
    middle, reach = round(at * audio.sample_rate), round(SIDE * audio.sample_rate)
    index = np.arange(middle - reach, middle + reach)
    inside = (index >= 0) & (index < len(audio.samples))
    stretch = np.zeros(len(index), np.float32)
    stretch[inside] = audio.samples[index[inside]]
    samples = resample(Audio(stretch, audio.sample_rate), SPEC.sample_rate).samples
    return np.asarray(LogMel(SPEC)(torch.from_numpy(samples)[None])[0].numpy())


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>flowtts: edits of recordings</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c28 }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0 }}
td, th {{ border-bottom: 1px solid #ddd; padding: .2rem .6rem; text-align: left; font-variant-numeric: tabular-nums }}
section {{ border-top: 1px solid #ccc; padding: .5rem 0 }} h3 {{ margin: .3rem 0; font-size: .95rem; color: #666 }}
.text {{ font-size: 1.1rem; margin: .3rem 0 }} del {{ color: #a11 }}
ins {{ color: #071; text-decoration: none; font-weight: 600 }}
.row {{ display: flex; flex-wrap: wrap; gap: 1rem }} figure {{ margin: 0 }} img {{ max-width: 100% }}
.values {{ color: #555; font-size: .85rem; margin: .3rem 0 }}
</style>
<h1>Edits of recordings</h1>
<p>{head}. flowtts {version}.</p>{failed}
<p>Every sample outside the patches must be as it was: <b>untouched</b> is the largest difference, <b>differing</b> the
mean number of samples that differ. <b>boundary</b> is the share of joins that are no more abrupt than the 95th
percentile of the word boundaries of the unedited recordings; <b>boundary-natural</b> is what these reach themselves.
<b>wer-span</b> is of the words that were put there, <b>wer-rest</b> of those kept, <b>wer-rest-before</b> of the same
words before the edit. <b>sim-span</b> compares the voice of patches with the rest, <b>sim-span-natural</b> that of
unedited stretches of the same length and place.</p>
{metrics}
<h2>By kind</h2><p>Means over edits, so that rates differ from those over all words above.</p>{kinds}
<h2>Edits</h2>
<p>Above: the recording at the place of each join. Below: what was made. {side:.0f} ms on either side of the line.</p>
{edits}
</html>
"""
