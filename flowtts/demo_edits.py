"""The edits of the demonstration: made, made again without splicing for comparison, and measured."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from flowtts.audio.io import read, write
from flowtts.edit.diff import diff
from flowtts.edit.editor import piece_of, windows
from flowtts.edit.recording import Recording
from flowtts.edit.request import make_edit_request
from flowtts.edit.result import Edited
from flowtts.edit.studio import Studio, fill
from flowtts.pipeline import Pipeline
from flowtts.registry import load_metric, load_vocoder
from flowtts.tasks import infilling
from flowtts.text import FrontEnd
from flowtts.types import Audio, Item, Score, Word
from flowtts.voice import shipped

EDITS: tuple[tuple[str, str], ...] = (
    (
        "reader-m",
        "After twenty-four eventful days our two students of human motives found themselves together again by the"
        " fireplace,",
    ),
    ("slt", "She kept the silver letters in a box beside the window, and read one of them every winter."),
)
"""Voices and what their recordings are made to say: a word replaced, and a word put in with another taken out."""

NOISY = ("reader-f", 1.95, 2.5)
"""A voice, and between which seconds of its recording a noise is put: over most of "chapter"."""

RESTYLED = ("accented-f", "reader-f")
"""Whose words are said again, and in whose voice."""

SNR = -5.0
"""dB of speech over noise, within the noise."""

METRICS = ("untouched", "boundary", "sim")
"""Families of metrics of edits; words are judged of whole recordings, to compare before and after."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording on the page.

    Attributes:
        id: its name among the scores, and of its file.
        path: the file, beside the page.
        caption: what it is.
        text: what it should say.
        words: with times.
        marks: seconds (start, end) that differ from the recording.
        changed: which of the words were changed.
    """

    id: str
    path: Path
    caption: str
    text: str
    words: tuple[Word, ...] = ()
    marks: tuple[tuple[float, float], ...] = ()
    changed: frozenset[int] = frozenset()

    @cached_property
    def audio(self) -> Audio:
        """The sound of the file."""
        return read(self.path)


@dataclass(frozen=True, eq=False)
class Kept:
    """How many samples of a recording are found again.

    Attributes:
        total: samples of the recording.
        compared: those outside what was changed.
        identical: of these, equal bit by bit.
    """

    total: int
    compared: int
    identical: int


@dataclass(frozen=True, eq=False)
class Example:
    """Something done to a recording.

    Attributes:
        name: of the example.
        verb: what was done.
        clips: before, after, and what to compare with.
        made: the result.
        kept: by clip, for those that keep the recording's samples or might have.
        item: of ``flowtts.eval.edit_items``, or None if nothing of the recording is kept.
    """

    name: str
    verb: str
    clips: tuple[Clip, ...]
    made: Edited
    kept: Mapping[str, Kept]
    item: Any = None


def make_examples(tts: Pipeline, out: Path, options: Mapping[str, Any]) -> list[Example]:
    """Edit, remove a noise and restyle; the recordings go into ``out``.

    Args:
        tts: the models.
        out: an existing folder.
        options: of ``Pipeline.edit`` and its sisters.
    """
    edits = [edit_example(tts, out, voice, to, options) for voice, to in EDITS]
    return [*edits, denoise_example(tts, out, options), restyle_example(tts, out, options)]


def edit_example(tts: Pipeline, out: Path, voice: str, to: str, options: Mapping[str, Any]) -> Example:
    """A shipped recording with other words, and the same edit without splicing."""
    source, text = _shipped(voice)
    name = f"edit-{voice}"
    before = out / f"{name}-before.flac"
    shutil.copyfile(source, before)
    made = tts.edit(before, text, to, **options)
    after = made.save(out / f"{name}-after.flac")
    whole, heard, spans = resynthesised(tts, before, text, to, options)
    other = out / f"{name}-griffin-lim.flac"
    write(other, whole)
    changes = diff([word.text for word in heard], [word.text for word in made.words])
    gone = frozenset(i for change in changes for i in range(change.start, change.end))
    new = frozenset(i for change in changes for i in range(change.first, change.last))
    marks = tuple((start / whole.sample_rate, end / whole.sample_rate) for _, _, start, end in spans)
    clips = (
        Clip(f"{name}-before", before, "before", text, heard, _marks(made, out=False), gone),
        Clip(f"{name}-after", after, "after: spliced into the recording", to, made.words, _marks(made, out=True), new),
        Clip(f"{name}-griffin-lim", other, "the same edit, all of it by Griffin-Lim", to, made.words, marks, new),
    )
    kept = {
        clips[1].id: _kept(before, after, _samples(made)),
        clips[2].id: _kept(before, other, spans),
    }
    return Example(name, "edit", clips, made, kept, _item(name, before, after, made, text, to))


def resynthesised(
    tts: Pipeline, path: Path, text: str, to: str, options: Mapping[str, Any]
) -> tuple[Audio, tuple[Word, ...], list[tuple[int, int, int, int]]]:
    """The edit without splicing: the features of the whole edited utterance, kept frames included, by Griffin-Lim.

    Returns:
        The sound; the words of the recording; and where new frames are, as samples (start, end) of the recording and
        (start, end) of the sound.
    """
    request = make_edit_request(options)
    vocoder = load_vocoder("griffin-lim", tts.spec)
    filler = infilling(tts.recipe, "edit", tts.name)
    studio = Studio(tts.recipe, filler, vocoder, tts.spec, FrontEnd(), tts.name, tts.hash)
    said, wanted = studio.frontend.analyse(text), studio.frontend.analyse(to)
    changes = diff([word.text for word in said.words], [word.text for word in wanted.words])
    # The shipped recordings are short: one window is everything.
    ((window, own),) = windows(studio, Recording.open(path), said, changes)
    layout = piece_of(studio, window, said, wanted, own, request.seed).layout
    filled = fill(studio, window, layout, request.sampling, request.seed, True, lambda: None)
    sound = Audio(studio.sound(filled.features, window.gain).clip(-0.99, 0.99), tts.spec.sample_rate)
    hop = tts.spec.hop_length
    spans = [(s.source_start * hop, s.source_end * hop, s.start * hop, s.end * hop) for s in layout.stretches]
    return sound, window.words, spans


def denoise_example(tts: Pipeline, out: Path, options: Mapping[str, Any]) -> Example:
    """A noise put over a word of a shipped recording, and removed."""
    voice, start, end = NOISY
    source, text = _shipped(voice)
    before = out / "denoise-before.flac"
    write(before, noisy(read(source), start, end))
    made = tts.denoise(before, text, [(start, end)], **options)
    after = made.save(out / "denoise-after.flac")
    clean = out / "denoise-clean.flac"
    shutil.copyfile(source, clean)
    clips = (
        Clip("denoise-before", before, f"with a noise from {start:g} to {end:g} s", text, made.words, ((start, end),)),
        Clip("denoise-after", after, "after: the span said anew", text, made.words, _marks(made, out=True)),
        Clip("denoise-clean", clean, "the recording without the noise", text, made.words),
    )  # fmt: skip
    kept = {clips[1].id: _kept(before, after, _samples(made))}
    return Example("denoise", "denoise", clips, made, kept, _item("denoise", before, after, made, text, text))


def noisy(audio: Audio, start: float, end: float, snr: float = SNR) -> Audio:
    """A recording with a burst of noise between two places, seconds; always the same."""
    first, last = round(start * audio.sample_rate), round(end * audio.sample_rate)
    samples = audio.mono().samples.copy()
    speech = samples[first:last].astype(np.float64)
    rng = np.random.default_rng(0)
    # Noise that swells and dies away, as a passing car's, without a click at either end.
    noise = rng.standard_normal(last - first) * np.hanning(last - first)
    gain = np.sqrt(np.square(speech).mean() / np.square(noise).mean() / 10 ** (snr / 10))
    samples[first:last] = (speech + gain * noise).clip(-0.99, 0.99)
    return Audio(samples, audio.sample_rate)


def restyle_example(tts: Pipeline, out: Path, options: Mapping[str, Any]) -> Example:
    """A shipped recording in another shipped voice."""
    voice, style = RESTYLED
    source, text = _shipped(voice)
    wanted, style_text = _shipped(style)
    before, model = out / "restyle-before.flac", out / "restyle-style.flac"
    shutil.copyfile(source, before)
    shutil.copyfile(wanted, model)
    made = tts.restyle(before, text, style, style_text, **options)
    after = made.save(out / "restyle-after.flac")
    clips = (
        Clip("restyle-before", before, f"before: {voice}", text, made.words),
        Clip("restyle-after", after, f"after: the same words and timing as {style}", text, made.words),
        Clip("restyle-style", model, f"the voice asked for: {style}", style_text),
    )
    return Example("restyle", "restyle", clips, made, {})


def judge(examples: Sequence[Example]) -> dict[str, Score]:
    """Scores by name: ``wer-closed`` of every clip, ``sim-style`` of what was restyled, and ``METRICS`` of the edits.

    ``wer-closed`` and ``sim-style`` are by clip, the metrics of edits by example.
    """
    spoken = [clip for example in examples for clip in example.clips]
    found = {"wer-closed": load_metric("wer-closed")([Item(clip.audio, clip.text, id=clip.id) for clip in spoken])}
    pairs = [
        Item(clip.audio, clip.text, prompt=example.clips[2].audio, id=clip.id)
        for example in examples
        if example.verb == "restyle"
        for clip in example.clips[:2]
    ]
    found["sim-style"] = load_metric("sim-o")(pairs)
    items = [example.item for example in examples if example.item is not None]
    found.update(import_module("flowtts.eval.edits").evaluate_edits(items, METRICS))
    return found


def summary(example: Example, scores: Mapping[str, Score]) -> dict[str, Any]:
    """For scores.json."""
    own = {example.name, *(clip.id for clip in example.clips)}
    kept = {name: {"total": k.total, "compared": k.compared, "identical": k.identical}
            for name, k in example.kept.items()}  # fmt: skip
    judged = {name: {k: v for k, v in s.items.items() if k in own} for name, s in scores.items()}
    made = example.made.info(example.clips[1].path.name)
    files = {clip.id: clip.path.name for clip in example.clips}
    return {**made, "files": files, "kept": kept, "scores": {name: values for name, values in judged.items() if values}}


def _shipped(voice: str) -> tuple[Path, str]:
    path = shipped()[voice]
    return path, path.with_suffix(".txt").read_text(encoding="utf-8").strip()


def _marks(made: Edited, *, out: bool) -> tuple[tuple[float, float], ...]:
    found = [(s.start_out_sample, s.end_out_sample) if out else (s.start_sample, s.end_sample) for s in made.spans]
    return tuple((start / made.sample_rate, end / made.sample_rate) for start, end in found)


def _samples(made: Edited) -> list[tuple[int, int, int, int]]:
    return [(s.start_sample, s.end_sample, s.start_out_sample, s.end_out_sample) for s in made.spans]


def _kept(before: Path, after: Path, spans: Sequence[tuple[int, int, int, int]]) -> Kept:
    """Compare two files as they are stored."""
    span = import_module("flowtts.eval.edit_items").EditSpan
    found = import_module("flowtts.eval.untouched").untouched(before, after, [span(*places) for places in spans])
    recording = Recording.open(before)
    return Kept(recording.length * recording.channels, found.compared, found.compared - found.samples)


def _item(name: str, before: Path, after: Path, made: Edited, text: str, to: str) -> Any:
    return import_module("flowtts.eval.edit_items").from_sidecar(
        before, after, made.info(after), text=text, to=to, id=name
    )
