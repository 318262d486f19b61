"""``python -m flowtts.demo``: speak two sentences in two voices, score them, write a page to open.

Everything comes from what is installed: the shipped checkpoints and voices. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import flowtts
from flowtts.audio.io import read
from flowtts.audio.mel import LogMel
from flowtts.compat import require
from flowtts.registry import load_metric
from flowtts.speech import Speech, write_json
from flowtts.types import Audio, Item, MelSpec, Score
from flowtts.voice import resolve

SENTENCES = (
    "The morning train leaves at 7:45, and breakfast costs about $12.",
    "Nobody believed the old captain, until the tide brought his ship home.",
)
VOICES = ("slt", "reader-m")
METRICS = ("wer", "wer-closed", "sim-o")


@dataclass(frozen=True, eq=False)
class Spoken:
    """One clip of the demonstration."""

    name: str
    voice: str
    text: str
    speech: Speech
    prompt: Audio


def make(out: Path, console: Console, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Speak, score and write ``out``/index.html, the recordings and scores.json.

    Args:
        out: a folder, made if missing.
        console: where the table goes.
        options: of ``Pipeline.say``, e.g. steps.

    Returns:
        Every metric's value, interval, back end and count.
    """
    out.mkdir(parents=True, exist_ok=True)
    tts = flowtts.load()
    spoken = []
    for voice in VOICES:
        prompt = read(resolve(voice, None)[0])
        for number, text in enumerate(SENTENCES, 1):
            console.print(f"[dim]{voice}:[/dim] {text}")
            speech = tts.say(text, voice=voice, seed=number, **(options or {}))
            name = f"{voice}-{number}"
            speech.save(out / f"{name}.wav")
            spoken.append(Spoken(name, voice, text, speech, prompt))
    items = [Item(s.speech.audio, s.speech.normalised, prompt=s.prompt, id=s.name) for s in spoken]
    scores = {name: load_metric(name)(items) for name in METRICS}
    console.print(_table(spoken, scores))
    (out / "index.html").write_text(_page(spoken, scores, tts.spec), encoding="utf-8")
    summary = {
        name: {"value": s.value, "low": s.low, "high": s.high, "backend": s.backend, "count": s.count}
        for name, s in scores.items()
    }
    write_json(out / "scores.json", {"clips": [s.speech.info(f"{s.name}.wav") for s in spoken], "metrics": summary})
    return summary


def _table(spoken: Sequence[Spoken], scores: Mapping[str, Score]) -> Table:
    table = Table(title="flowtts: two sentences in two voices")
    for column in ("clip", "seconds", "real-time factor", *scores):
        table.add_column(column, justify="left" if column == "clip" else "right")
    for clip in spoken:
        values = [_number(name, score.items.get(clip.name)) for name, score in scores.items()]
        table.add_row(clip.name, f"{clip.speech.seconds:.2f}", f"{clip.speech.rtf:.2f}", *values)
    table.add_section()
    table.add_row("all", "", "", *(_number(name, score.value) for name, score in scores.items()))
    return table


def _number(metric: str, value: float | None) -> str:
    if value is None:
        return "not judged"
    return f"{100 * value:.1f} %" if metric.startswith("wer") else f"{value:.3f}"


def _page(spoken: Sequence[Spoken], scores: Mapping[str, Score], spec: MelSpec) -> str:
    clips = "\n".join(_clip(clip, scores, spec) for clip in spoken)
    judges = "".join(
        f"<li><b>{name}</b> {_number(name, s.value)} over {s.count} clips, {len(s.dropped)} dropped, "
        f"judged by {html.escape(s.backend)} at {s.sample_rate} Hz</li>"
        for name, s in scores.items()
    )
    first = spoken[0].speech.info()
    how = f"{first['solver']}, {first['steps']} steps, guidance {first['guidance']}, {first['nfe']} evaluations"
    return _PAGE.format(clips=clips, judges=judges, how=html.escape(how), version=flowtts.__version__)


def _clip(clip: Spoken, scores: Mapping[str, Score], spec: MelSpec) -> str:
    values = " · ".join(f"{name} {_number(name, score.items.get(clip.name))}" for name, score in scores.items())
    prompt = resolve(clip.voice, None)[0]
    data = base64.b64encode(prompt.read_bytes()).decode()
    return (
        f"<section><h2>{html.escape(clip.text)}</h2>"
        f"<p>read as: {html.escape(clip.speech.normalised)}</p>"
        f'<div class="pair"><figure><figcaption>reference voice “{clip.voice}”</figcaption>'
        f'<audio controls src="data:audio/flac;base64,{data}"></audio></figure>'
        f'<figure><figcaption>flowtts</figcaption><audio controls src="{clip.name}.wav"></audio></figure></div>'
        f'<img alt="log-mel spectrogram with word times" src="data:image/png;base64,{_picture(clip.speech, spec)}">'
        f"<p>{values} · {clip.speech.seconds:.1f} s made at {clip.speech.rtf:.2f} of real time</p></section>"
    )


def _picture(speech: Speech, spec: MelSpec) -> str:
    """Log-mel of the recording with its words written under it, as base64 PNG."""
    figures = require("matplotlib.figure", "eval")
    features = LogMel(spec)(torch.from_numpy(speech.audio.samples)[None])[0].numpy()
    figure = figures.Figure(figsize=(10, 2.6), dpi=110)
    axes = figure.add_axes((0.005, 0.16, 0.99, 0.83))
    axes.imshow(np.asarray(features).T, origin="lower", aspect="auto", extent=(0, speech.seconds, 0, 1), cmap="magma")
    axes.set_yticks([])
    axes.set_xticks([(w.start + w.end) / 2 for w in speech.words], [w.text for w in speech.words], fontsize=7)
    for word in speech.words:
        axes.axvline(word.start, color="white", linewidth=0.3)
    made = io.BytesIO()
    figure.savefig(made, format="png")
    return base64.b64encode(made.getvalue()).decode()


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>flowtts demonstration</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c28 }}
section {{ border-top: 1px solid #ddd; padding: .5rem 0 1rem }}
h2 {{ font-size: 1.1rem }} img {{ width: 100% }} p {{ color: #555; margin: .3rem 0 }}
.pair {{ display: flex; gap: 2rem; flex-wrap: wrap }}
figure {{ margin: 0 }} figcaption {{ font-size: .85rem; color: #555 }}
</style>
<h1>flowtts {version}</h1>
<p>Two sentences in two voices, made on this machine by the shipped Voicebox ({how}) and the shipped Vocos.</p>
{clips}
<h2>Scores</h2><ul>{judges}</ul>
<p>wer-closed recognises with a language model of these very sentences: it knows the text, and says how clear the
speech is, not how well it would be transcribed by somebody who does not.</p>
</html>
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder (default: demo)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    console = Console()
    make(arguments.out, console)
    console.print(f"open {arguments.out / 'index.html'}")


if __name__ == "__main__":
    main()
