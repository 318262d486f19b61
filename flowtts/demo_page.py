"""The page of the demonstration: HTML that a browser shows with nothing but the files beside it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import flowtts
from flowtts.audio.io import resample
from flowtts.audio.mel import LogMel
from flowtts.compat import require
from flowtts.demo_edits import Clip, Example, Kept
from flowtts.edit.diff import diff
from flowtts.speech import Speech
from flowtts.types import Audio, MelSpec, Score, Word


@dataclass(frozen=True, eq=False)
class Spoken:
    """A text that was said.

    Attributes:
        name: of the recording, and of its file.
        voice: whose it is.
        text: what was asked for.
        speech: what came.
        prompt: the reference recording.
        reference: its file.
    """

    name: str
    voice: str
    text: str
    speech: Speech
    prompt: Audio
    reference: Path


@dataclass(frozen=True, eq=False)
class Shown:
    """A row of a picture: sound, words written beneath, stretches that are framed, words that stand out."""

    audio: Audio
    words: Sequence[Word]
    marks: Sequence[tuple[float, float]] = ()
    changed: frozenset[int] = frozenset()


def page(
    spoken: Sequence[Spoken], spoken_scores: Mapping[str, Score],
    examples: Sequence[Example], scores: Mapping[str, Score], spec: MelSpec,
) -> str:  # fmt: skip
    """The whole page.

    Args:
        spoken: texts that were said.
        spoken_scores: of these.
        examples: edits of recordings.
        scores: of these, from ``flowtts.demo_edits.judge``.
        spec: the features that pictures show.
    """
    first = spoken[0].speech.info()
    how = f"{first['solver']}, {first['steps']} steps, guidance {first['guidance']}, {first['nfe']} evaluations"
    parts = {verb: [_example(e, scores, spec) for e in examples if e.verb == verb] for verb in _INTRODUCTIONS}
    return _PAGE.format(
        version=flowtts.__version__,
        how=html.escape(how),
        edits="\n".join(_INTRODUCTIONS[verb] + "\n".join(sections) for verb, sections in parts.items()),
        edit_judges=_judges(scores, "recordings"),
        clips="\n".join(_spoken(clip, spoken_scores, spec) for clip in spoken),
        judges=_judges(spoken_scores, "clips"),
    )


def number(metric: str, value: float | None) -> str:
    """A value of a metric for people."""
    if value is None:
        return "not judged"
    if metric.startswith(("wer", "boundary")):
        return f"{100 * value:.1f} %"
    return f"{value:g}" if metric in ("untouched", "differing") else f"{value:.3f}"


def statement(kept: Kept) -> str:
    """How much of a recording is found again, in words."""
    return (
        f"{kept.identical:,} of the {kept.compared:,} samples outside the spans are identical bit by bit "
        f"(the recording has {kept.total:,})"
    )


def _judges(scores: Mapping[str, Score], what: str) -> str:
    return "".join(
        f"<li><b>{name}</b> {number(name, s.value)} over {s.count} {what}, {len(s.dropped)} dropped, "
        f"judged by {html.escape(s.backend)} at {s.sample_rate} Hz</li>"
        for name, s in scores.items()
    )


def _spoken(clip: Spoken, scores: Mapping[str, Score], spec: MelSpec) -> str:
    values = " · ".join(f"{name} {number(name, score.items.get(clip.name))}" for name, score in scores.items())
    data = base64.b64encode(clip.reference.read_bytes()).decode()
    picture = _picture([Shown(clip.speech.audio, clip.speech.words)], spec)
    return (
        f"<section><h3>{html.escape(clip.text)}</h3>"
        f"<p>read as: {html.escape(clip.speech.normalised)}</p>"
        f'<div class="row"><figure><figcaption>reference voice “{clip.voice}”</figcaption>'
        f'<audio controls src="data:audio/flac;base64,{data}"></audio></figure>'
        f'<figure><figcaption>flowtts</figcaption><audio controls src="{clip.name}.wav"></audio></figure></div>'
        f'<img alt="log-mel spectrogram with word times" src="data:image/png;base64,{picture}">'
        f"<p>{values} · {clip.speech.seconds:.1f} s made at {clip.speech.rtf:.2f} of real time</p></section>"
    )


def _example(example: Example, scores: Mapping[str, Score], spec: MelSpec) -> str:
    """Sounds, pictures, spans and scores of one example."""
    before, after = example.clips[:2]
    shown = [clip for clip in example.clips if clip.words]
    picture = _picture([Shown(clip.audio, clip.words, clip.marks, clip.changed) for clip in shown], spec)
    names = ", ".join(clip.caption for clip in shown)
    statements = "".join(
        f"<p><b>{html.escape(_caption(example, clip))}</b>: {statement(kept)}.</p>"
        for clip, kept in example.kept.items()
    )
    return (
        f'<section id="{example.name}"><h3>{_texts(before.text, after.text)}</h3>'
        f'<div class="row">{"".join(map(_player, example.clips))}</div>'
        f'<img alt="log-mel spectrograms: {html.escape(names)}" src="data:image/png;base64,{picture}">'
        f"{_spans(example) if example.kept else ''}{statements}{_scores(example, scores)}"
        f"<p>{example.made.seconds:.1f} s, made at {example.made.rtf:.2f} of real time: "
        f"{example.made.nfe} evaluations of the model</p></section>"
    )


def _caption(example: Example, id: str) -> str:
    return next(clip.caption for clip in example.clips if clip.id == id)


def _player(clip: Clip) -> str:
    caption = f"<figcaption>{html.escape(clip.caption)}</figcaption>"
    return f'<figure>{caption}<audio controls src="{clip.path.name}"></audio></figure>'


def _spans(example: Example) -> str:
    rows = "".join(
        f"<tr><td><del>{html.escape(s.removed) or '–'}</del></td><td><ins>{html.escape(s.inserted) or '–'}</ins></td>"
        f"<td>{s.start_sample / s.sample_rate:.3f} – {s.end_sample / s.sample_rate:.3f}</td>"
        f"<td>{s.start_out_sample / s.sample_rate:.3f} – {s.end_out_sample / s.sample_rate:.3f}</td>"
        f"<td>{'–' if s.confidence is None else f'{s.confidence:.2f}'}</td></tr>"
        for s in example.made.spans
    )
    return (
        "<table><tr><th>removed</th><th>inserted</th><th>seconds before</th><th>seconds after</th>"
        f"<th>confidence</th></tr>{rows}</table>"
    )


def _scores(example: Example, scores: Mapping[str, Score]) -> str:
    """Those by clip as a table, those of the edit in a line."""
    by_clip = [n for n, s in scores.items() if any(clip.id in s.items for clip in example.clips)]
    head = "".join(f"<th>{name}</th>" for name in by_clip)
    rows = "".join(
        f"<tr><td>{html.escape(clip.caption)}</td>"
        + "".join(f"<td>{number(name, scores[name].items.get(clip.id))}</td>" for name in by_clip)
        + "</tr>"
        for clip in example.clips
    )
    own = [f"{n} {number(n, s.items[example.name])}" for n, s in scores.items() if example.name in s.items]
    return f"<table><tr><th></th>{head}</tr>{rows}</table><p>{' · '.join(own)}</p>"


def _texts(text: str, to: str) -> str:
    """Two texts in one: what goes struck out, what comes marked."""
    old, new = text.split(), to.split()
    parts, at = [], 0
    for change in diff(old, new):
        parts.append(html.escape(" ".join(old[at : change.start])))
        parts += [f"<del>{html.escape(' '.join(old[change.start : change.end]))}</del>"] * (change.end > change.start)
        parts += [f"<ins>{html.escape(' '.join(new[change.first : change.last]))}</ins>"] * (change.last > change.first)
        at = change.end
    parts.append(html.escape(" ".join(old[at:])))
    return " ".join(part for part in parts if part)


def _picture(rows: Sequence[Shown], spec: MelSpec) -> str:
    """Log-mels under each other on one scale of time, as base64 PNG."""
    figures = require("matplotlib.figure", "eval")
    longest = max(row.audio.seconds for row in rows)
    figure = figures.Figure(figsize=(10, 0.1 + 2.1 * len(rows)), dpi=110)
    height = 1 / len(rows)
    for index, row in enumerate(rows):
        axes: Any = figure.add_axes((0.005, 1 - (index + 0.83) * height, 0.99, 0.81 * height))
        extent = (0, row.audio.seconds, 0, 1)
        axes.imshow(_mel(row.audio, spec).T, origin="lower", aspect="auto", extent=extent, cmap="magma")
        axes.set_xlim(0, longest)
        axes.set_yticks([])
        axes.set_xticks([(w.start + w.end) / 2 for w in row.words], [w.text for w in row.words], fontsize=7)
        for place, label in enumerate(axes.get_xticklabels()):
            if place in row.changed:
                label.set(color="#b00", fontweight="bold")
        for word in row.words:
            axes.axvline(word.start, color="white", linewidth=0.3)
        for start, end in row.marks:
            axes.axvspan(start, end, fill=False, edgecolor="cyan", linewidth=1.6)
    made = io.BytesIO()
    figure.savefig(made, format="png")
    return base64.b64encode(made.getvalue()).decode()


def _mel(audio: Audio, spec: MelSpec) -> NDArray[np.float32]:
    samples = resample(audio.mono(), spec.sample_rate).samples
    return np.asarray(LogMel(spec)(torch.from_numpy(samples)[None])[0].numpy())


_INTRODUCTIONS: Mapping[str, str] = {
    "edit": (
        "<h2>Editing a recording</h2><p>The words were changed by their text alone. Framed: what is new, which takes "
        "in a little of the words beside it. The third recording is the same edit with the same features, all of which "
        "are made audible again by Griffin-Lim, as an editor without splicing does it: the words that nobody asked to "
        "change are no longer the recording's.</p>"
    ),
    "denoise": (
        "<h2>Removing a noise</h2><p>A burst of noise was put over a word, 5 dB louder than the speech; the span was "
        "given. What it covers is said anew from the text, the rest is kept.</p>"
    ),
    "restyle": (
        "<h2>Restyling</h2><p>The words and their timing are those of one recording, the voice of another. Nothing "
        "is spliced here: all of it is new. sim-style is the likeness to the voice that was asked for.</p>"
    ),
}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>flowtts demonstration</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c28 }}
section {{ border-top: 1px solid #ddd; padding: .5rem 0 1rem }}
h2 {{ margin-top: 2.5rem }} h3 {{ font-size: 1.1rem; margin: .6rem 0 }}
img {{ width: 100% }} p {{ color: #555; margin: .3rem 0 }}
.row {{ display: flex; gap: 1.5rem; flex-wrap: wrap; margin: .5rem 0 }}
figure {{ margin: 0 }} figcaption {{ font-size: .85rem; color: #555 }}
table {{ border-collapse: collapse; margin: .6rem 0; font-size: .9rem }}
td, th {{ border-bottom: 1px solid #ddd; padding: .15rem .9rem .15rem 0; text-align: left }}
del {{ color: #b00 }} ins {{ color: #071; font-weight: 600; text-decoration: none }}
</style></head><body>
<h1>flowtts {version}</h1>
<p>Made on this machine by the shipped Voicebox ({how}) and the shipped Vocos; nothing was downloaded.</p>
{edits}
<h2>Scores of the edits</h2><ul>{edit_judges}</ul>
<p><b>untouched</b> is the largest difference of two samples outside the spans, <b>differing</b> how many differ; both
must be 0. <b>boundary</b> is the share of joins that are no more abrupt than 95 % of the boundaries between words that
nobody touched (<b>boundary-natural</b>: these boundaries themselves). <b>sim-span</b> compares the voice of what is new
with the rest of the recording, <b>sim-span-natural</b> a stretch of the same place and length before the edit.
So few recordings show how it works, not how well: the figures over many edits are in the README.</p>
<h2>Speaking a text</h2><p>Two sentences in two voices.</p>
{clips}
<h2>Scores of what was spoken</h2><ul>{judges}</ul>
<p>wer-closed recognises with a language model of these very sentences: it knows the text, and says how clear the
speech is, not how well it would be transcribed by somebody who does not.</p>
</body></html>
"""
