"""``python -m flowtts.demo``: edit recordings, speak two sentences in two voices, score it all, write a page to open.

Everything comes from what is installed: the shipped checkpoints and voices. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import flowtts
from flowtts.audio.io import read
from flowtts.demo_edits import EDITS, Example, judge, make_examples, summary
from flowtts.demo_page import Spoken, number, page
from flowtts.pipeline import Pipeline
from flowtts.registry import load_metric
from flowtts.speech import write_json
from flowtts.types import VOICEBOX_MEL, Item, Score
from flowtts.voice import shipped

SENTENCES = (
    "The morning train leaves at 7:45, and breakfast costs about $12.",
    "Nobody believed the old captain, until the tide brought his ship home.",
)
VOICES = ("slt", "reader-m")
METRICS = ("wer", "wer-closed", "sim-o")


def make(out: Path, console: Console, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Edit, speak, score, and write ``out``/index.html, the recordings and scores.json.

    Args:
        out: a folder, made if missing.
        console: where the tables go.
        options: of ``Pipeline.say`` and ``Pipeline.edit``, e.g. steps.

    Returns:
        What scores.json holds: ``clips`` and ``edits``, each with its own scores, and every metric's value, interval,
        back end and count over the clips (``metrics``) and over the edits (``edit_metrics``).
    """
    out.mkdir(parents=True, exist_ok=True)
    given = dict(options or {})
    tts = flowtts.load()
    for voice, to in EDITS:
        console.print(f"[dim]{voice} is edited to:[/dim] {to}")
    console.print("[dim]a noise is removed, a recording restyled[/dim]")
    examples = make_examples(tts, out, given)
    spoken = _speak(tts, out, console, given)
    edit_scores = judge(examples)
    items = [Item(s.speech.audio, s.speech.normalised, prompt=s.prompt, id=s.name) for s in spoken]
    scores = {name: load_metric(name)(items) for name in METRICS}
    console.print(_edits(examples, edit_scores))
    console.print(_table(spoken, scores))
    (out / "index.html").write_text(page(spoken, scores, examples, edit_scores, VOICEBOX_MEL), encoding="utf-8")
    found = {
        "clips": [s.speech.info(f"{s.name}.wav") for s in spoken],
        "metrics": _values(scores),
        "edits": [summary(example, edit_scores) for example in examples],
        "edit_metrics": _values(edit_scores),
    }
    write_json(out / "scores.json", found)
    return found


def _speak(tts: Pipeline, out: Path, console: Console, options: Mapping[str, Any]) -> list[Spoken]:
    spoken = []
    for voice in VOICES:
        reference = shipped()[voice]
        prompt = read(reference)
        for seed, text in enumerate(SENTENCES, 1):
            console.print(f"[dim]{voice} says:[/dim] {text}")
            speech = tts.say(text, **{"voice": voice, "seed": seed, **options})
            name = f"{voice}-{seed}"
            speech.save(out / f"{name}.wav")
            spoken.append(Spoken(name, voice, text, speech, prompt, reference))
    return spoken


def _values(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {
        name: {"value": s.value, "low": s.low, "high": s.high, "backend": s.backend, "count": s.count}
        for name, s in scores.items()
    }


def _edits(examples: Sequence[Example], scores: Mapping[str, Score]) -> Table:
    table = Table(title="flowtts: recordings changed (wer-closed before and after)")
    columns = ("recording", "removed → inserted", "identical outside", "before", "after")
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:2] else "right", no_wrap=column != columns[1])
    words = scores["wer-closed"].items
    for example in examples:
        before, after = example.clips[:2]
        spans = "\n".join(f"{s.removed or '–'} → {s.inserted or '–'}" for s in example.made.spans)
        kept = example.kept.get(after.id)
        table.add_row(
            example.name,
            spans if example.kept else "the whole",
            f"{kept.identical:,} of {kept.compared:,}" if kept else "–",
            number("wer", words.get(before.id)),
            number("wer", words.get(after.id)),
        )
    return table


def _table(spoken: Sequence[Spoken], scores: Mapping[str, Score]) -> Table:
    table = Table(title="flowtts: two sentences in two voices")
    for column in ("clip", "seconds", "real-time factor", *scores):
        table.add_column(column, justify="left" if column == "clip" else "right")
    for clip in spoken:
        values = [number(name, score.items.get(clip.name)) for name, score in scores.items()]
        table.add_row(clip.name, f"{clip.speech.seconds:.2f}", f"{clip.speech.rtf:.2f}", *values)
    table.add_section()
    table.add_row("all", "", "", *(number(name, score.value) for name, score in scores.items()))
    return table


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
