"""The recordings on the page: for each prompt every system's, with what was heard, its scores and a picture."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from flowtts.audio.io import read
from flowtts.compare.figures import NOTHING, Figures
from flowtts.compare.page_parts import unseen
from flowtts.compare.result import Prompt, Row
from flowtts.compare.sounds import Sounds, inside
from flowtts.compare.spectrogram import picture
from flowtts.compare.svg import key
from flowtts.compare.words import Piece, align
from flowtts.recognise import spoken_words
from flowtts.types import UserError

_SECOND = 130
"""Width of a second of sound, pixels."""

_HEIGHT = 128


def recordings(figures: Figures, folder: Path, sounds: Sounds) -> str:
    """The whole section: filters, then the prompts."""
    result = figures.result
    rows: dict[str, list[Row]] = {prompt["id"]: [] for prompt in result["prompts"]}
    for row in result["items"]:
        rows.setdefault(row["prompt"], []).append(row)
    prompts = "\n".join(_prompt(figures, prompt, rows[prompt["id"]], folder, sounds) for prompt in result["prompts"])
    options = "".join(
        f'<option value="{escape(name)}">{escape(system["label"])}</option>' for name, system in figures.systems.items()
    )
    return (
        '<form class="tools" hidden id="row-tools" role="search" aria-label="Recordings">'
        '<label>Text <input type="search" id="row-text" autocomplete="off"></label>'
        f'<label>System <select id="row-system"><option value="">all</option>{options}</select></label>'
        '<label><input type="checkbox" id="row-errors"> only with errors</label>'
        f'<output id="row-count"></output></form>{prompts}'
    )


def _prompt(figures: Figures, prompt: Prompt, rows: Sequence[Row], folder: Path, sounds: Sounds) -> str:
    """A prompt with its recordings."""
    about = [f"{prompt['id']} · {prompt['set']}", f"voice {prompt['voice']}"]
    if prompt["speaker"] != prompt["voice"]:
        about.append(f"speaker {prompt['speaker']}")
    players = [
        f"<span>{name} {sounds.player(audio, name + ' of ' + prompt['id'])}</span>"
        for name, audio in (("voice", prompt["voice_audio"]), ("reference", prompt["reference_audio"]))
        if audio
    ]
    if prompt["task"] == "edit":
        text = f'<p class="before">in place of “<span dir="auto">{escape(prompt["voice_text"] or "")}</span>”</p>'
    else:
        text = f'<p class="before">the voice says “{escape(prompt["voice_text"])}”</p>' if prompt["voice_text"] else ""
    words = spoken_words(prompt["text"])
    takes = "".join(_take(figures, prompt, row, words, folder, sounds) for row in rows)
    search = " ".join((prompt["id"], prompt["set"], prompt["voice"], prompt["speaker"], prompt["text"])).lower()
    return (
        f'<article class="prompt" data-search="{escape(search)}">'
        f'<header><h3 dir="auto">{escape(prompt["text"])}</h3><p class="about">{escape(" · ".join(about))}</p>'
        f'{text}<div class="players">{"".join(players)}</div></header>'
        f'<ul class="takes">{takes or "<li>no system was asked for this</li>"}</ul></article>'
    )


def _take(
    figures: Figures, prompt: Prompt, row: Row, words: Sequence[str], folder: Path, sounds: Sounds
) -> str:  # fmt: skip
    """One recording, or why there is none."""
    name = row["system"]
    label = figures.label(name)
    seeds = len(figures.systems[name]["seeds"]) if name in figures.systems else 1
    if seeds > 1:
        label += f", seed {row['seed']}"
    mark = key(list(figures.systems).index(name)) if name in figures.systems else ""
    heard, errors = _heard(figures, row, words)
    wrong = bool(row["error"] or row["dropped"] or errors)
    parts = [f'<h4>{mark}<span>{escape(label)}</span></h4><div class="sound">']
    if row["error"]:
        parts.append(f'<p class="failure"><b>Failed:</b> {escape(row["error"])}</p>')
    if row["audio"]:
        parts.append(sounds.player(row["audio"], f"{label}: {prompt['text']}"))
        parts.append(f'<small class="facts">{_facts(row)}</small>')
    parts.append(f'</div><div class="judged">{heard}{_scores(figures, row)}</div>')
    if row["audio"]:
        parts.append(_picture(row, label, folder))
    return f'<li class="take" data-system="{escape(name)}" data-wrong="{int(wrong)}">{"".join(parts)}</li>'


def _facts(row: Row) -> str:
    facts = [] if row["seconds"] is None else [f"{row['seconds']:.2f} s"]
    facts += [] if not row["sample_rate"] else [f"{row['sample_rate'] / 1000:g} kHz"]
    facts += [] if row["nfe"] is None else [f"NFE {row['nfe']}"]
    return " · ".join(facts)


def _heard(figures: Figures, row: Row, words: Sequence[str]) -> tuple[str, int]:
    """Each different transcript once, with its errors marked; and how many errors there are in all."""
    names: dict[str, list[str]] = {}
    for metric, text in row["heard"].items():
        names.setdefault(text, []).append(figures.metrics[metric]["label"] if metric in figures.metrics else metric)
    lines, total = [], 0
    for text, labels in names.items():
        pieces = align(words, spoken_words(text))
        errors = sum(piece.errors for piece in pieces)
        total += errors
        said = " ".join(map(_piece, pieces)) or "<i>nothing</i>"
        count = f'<small class="count">{errors} {"error" if errors == 1 else "errors"}</small>' if errors else ""
        lines.append(f'<p class="heard"><small>{escape(", ".join(labels))} heard</small> {said} {count}</p>')
    return "".join(lines), total


def _piece(piece: Piece) -> str:
    """Words that were heard alike, with words for those who do not see how they are marked."""
    wanted, heard = escape(" ".join(piece.wanted)), escape(" ".join(piece.heard))
    if piece.kind == "equal":
        return wanted
    gone = f"<del>{unseen('missing: ')}{wanted}</del>"
    new = f"<ins>{unseen('added: ')}{heard}</ins>"
    if piece.kind != "substitute":
        return gone if piece.kind == "delete" else new
    return f"<mark><del>{unseen('instead of ')}{wanted}</del> <ins>{unseen('heard ')}{heard}</ins></mark>"


def _scores(figures: Figures, row: Row) -> str:
    """A value by metric, or why there is none; a failure has said so already."""
    if row["error"]:
        return ""
    parts = []
    for name, metric in figures.metrics.items():
        if metric["level"] == "set":
            continue
        value, reason = row["scores"].get(name), row["dropped"].get(name)
        shown = figures.scales[name].text(value) + (f" {escape(metric['unit'])}" if value is not None else "")
        if reason is not None:
            shown = f'<span class="failure">not judged: {escape(reason)}</span>'
        elif value is None:
            shown = f"{NOTHING}{unseen('no value')}"
        parts.append(f"<div><dt>{escape(metric['label'])}</dt><dd>{shown}</dd></div>")
    return f'<dl class="scores">{"".join(parts)}</dl>' if parts else ""


def _picture(row: Row, label: str, folder: Path) -> str:
    """A spectrogram with the times of words and edits, which opens when asked for."""
    path = inside(folder, row["audio"] or "")
    if path is None:
        return ""
    try:
        sound = read(path)
    except UserError as error:
        return f'<p class="failure">no picture: {escape(str(error).replace(str(path), row["audio"] or ""))}</p>'
    width = max(1, round(_SECOND * sound.seconds))
    data = base64.b64encode(picture(sound)).decode()
    alt = f"log-mel spectrogram of {label}, {sound.seconds:.2f} s from left to right, 0 to 8 kHz upwards"
    return (
        '<details class="picture"><summary>Spectrogram</summary>'
        f'<div class="wide" role="region" aria-label="{escape(f"Spectrogram of {label}")}" tabindex="0">'
        f'<img src="data:image/png;base64,{data}" width="{width}" height="{_HEIGHT}" loading="lazy" '
        f'alt="{escape(alt)}">{_times(row, sound.seconds, width)}</div></details>'
    )


def _times(row: Row, seconds: float, width: int) -> str:
    """The axis of time beneath a spectrogram, with words and edited stretches where they are."""
    ticks = "".join(
        f'<path class="axis" d="M{_SECOND * tenth / 10:.1f},0v{6 if tenth % 10 == 0 else 3}"/>'
        for tenth in range(int(10 * seconds) + 1)
    )
    ticks += "".join(f'<text x="{_SECOND * n + 3}" y="12">{n} s</text>' for n in range(int(seconds) + 1))
    words = [word for word in row["words"] if _span(word, "start", "end")]
    # Neighbours stand on two lines, so that long words do not run into each other.
    parts = [
        f'<path class="grid" d="M{_SECOND * word["start"]:.1f},16V48"/>'
        f'<text class="middle" x="{_SECOND * (word["start"] + word["end"]) / 2:.1f}" y="{28 + 15 * (n % 2)}">'
        f"{escape(str(word.get('text', '')))}</text>"
        for n, word in enumerate(words)
    ]
    spans = [span for span in row["spans"] if _span(span, "start_out", "end_out")]
    parts += [
        f'<rect class="edit" x="{_SECOND * span["start_out"]:.1f}" y="16" '
        f'width="{_SECOND * (span["end_out"] - span["start_out"]):.1f}" height="31"/>'
        for span in spans
    ]
    said = [f"{word.get('text', '')} {word['start']:.2f} to {word['end']:.2f} s" for word in words]
    said += [f"edited {span['start_out']:.2f} to {span['end_out']:.2f} s" for span in spans]
    told = f'role="img" aria-label="{escape("; ".join(said))}"' if said else 'aria-hidden="true"'
    height = 50 if said else 16
    return f'<svg class="times" width="{width}" height="{height}" {told}>{ticks}{"".join(parts)}</svg>'


def _span(value: Mapping[str, Any], start: str, end: str) -> bool:
    return isinstance(value.get(start), (int, float)) and isinstance(value.get(end), (int, float))
