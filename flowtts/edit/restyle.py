"""``restyle``: the same words in another voice (arXiv 2306.15687, section 1.5: alignment-preserving style transfer).

Voicebox infills the whole utterance anew with the style's recording as its known beginning: z is that of the source
speech, with its phones and, unless they are predicted, its durations; the context is the style prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowtts.audio.io import resample
from flowtts.audio.level import peak_guard
from flowtts.edit import durations
from flowtts.edit.canvas import Canvas, Slot
from flowtts.edit.locate import align_long
from flowtts.edit.recording import Patch, Recording
from flowtts.edit.request import EditRequest, Progress
from flowtts.edit.result import Edited, Span
from flowtts.edit.source import settings
from flowtts.edit.studio import Studio
from flowtts.edit.takes import Take, choose
from flowtts.edit.window import WHOLE, Window, open_window
from flowtts.registry import load_metric
from flowtts.request import RANKERS, derive
from flowtts.text import Analysis
from flowtts.types import Audio, Item, PathLike, Phone, UserError, Utterance, Word
from flowtts.voice import Voice

TIMINGS = ("kept", "predicted", "style")

_CHUNK = 10.0
"""Seconds that one call of the model generates, beside its prompts."""

_WINDOW = 20.0
"""Seconds of a long recording that are aligned at once."""


@dataclass(frozen=True)
class Chunk:
    """Phones that are generated at once, with their frames."""

    phones: tuple[Phone, ...]
    durations: tuple[int, ...]


def restyle(
    studio: Studio, source: PathLike | Audio, text: str, style: Voice, timing: str, accent: Voice | None,
    request: EditRequest, progress: Progress | None = None,
) -> Edited:  # fmt: skip
    """Give a recording another voice.

    Args:
        studio: the models.
        source: the recording.
        text: what it says.
        style: whose voice, and manner, it gets.
        timing: "kept": every phone lasts as long as in the recording, and so does the whole. "predicted": durations
            from the text alone. "style": durations predicted in the context of the style's.
        accent: if given, a second speaker, from whom timing and pronunciation come: durations are predicted in the
            context of this recording's, and the model hears it before the style's recording, which stands next to the
            new sound and gives the voice. Takes the place of ``timing``.
        request: how.
        progress: see ``Progress``.

    Raises:
        UserError: the text is not what is said, or the options contradict each other.
    """
    if timing not in TIMINGS:
        raise UserError(f"no timing {timing!r}; there are {', '.join(TIMINGS)}")
    if accent is not None and timing != "kept":
        raise UserError(f"the accent's recording gives the timing: leave out either accent or timing {timing}")
    if request.rank == "boundary":
        raise UserError("a restyled recording has no joins to rank by: rank by wer or sim")
    recording = Recording.open(source)
    said = studio.frontend.analyse(text)
    found = _windows(studio, recording, said, request.confidence)
    kept = timing == "kept" and accent is None
    timed = [tuple(_lengths(studio, window, timing, style, accent, request.seed)) for window in found]
    rows = [
        row
        for window, lengths in zip(found, timed, strict=True)
        for row in chunks(window.analysis.phones, lengths, studio.spec.frame_rate)
    ]
    prompts = [voice.prompt for voice in (accent, style) if voice is not None]
    gain = float(np.exp(np.mean([np.log(window.gain) for window in found])))
    length = recording.length if kept else None

    def make(seed: int, report: Callable[[], None]) -> Take:
        features, nfe, calls = _generate(studio, rows, prompts, request, seed, report)
        return Take((_whole(studio, recording, features, gain, length),), nfe, calls)

    def judge(take: Take) -> dict[str, float]:
        audio = Audio(take.patches[0].samples.mean(axis=1, dtype=np.float32), recording.sample_rate)
        item = Item(audio, said.normalised, prompt=style.audio, id="take")
        return {request.rank: load_metric(RANKERS[request.rank])([item]).value}

    started = time.perf_counter()
    best, takes, candidates = choose(make, judge, request, len(rows), progress)
    spent = time.perf_counter() - started
    take = takes[best]
    own = {
        "text": text, "style": style.info(), "timing": timing,
        "accent": None if accent is None else accent.info(),
    }  # fmt: skip
    size = len(take.patches[0].samples)
    span = Span(said.normalised, said.normalised, 0, recording.length, 0, size, recording.sample_rate, _least(found))
    words, phones = _times(found, timed, said, studio.spec.frame_rate)
    return Edited(
        recording, take.patches, (span,), words, phones, said.normalised,
        settings(studio, source, recording, request, "restyle", own), candidates[best].seed,
        sum(t.nfe for t in takes), sum(t.network_calls for t in takes),
        spent * recording.sample_rate / max(size * len(takes), 1), candidates,
    )  # fmt: skip


def chunks(phones: Sequence[Phone], lengths: Sequence[int], frame_rate: float) -> list[Chunk]:
    """An utterance in parts of at most ``_CHUNK`` seconds, cut after pauses, the longest in the later half of each.

    A part that begins with a word gets a pause of no length before it: the model has not heard utterances without one.
    """
    most, found, start = int(_CHUNK * frame_rate), [], 0
    while start < len(phones):
        ends = np.cumsum(lengths[start:])
        last = len(phones)
        if ends[-1] > most:
            pauses = [i for i in range(start + 1, len(phones)) if phones[i].word < 0]
            fitting = [i for i in pauses if ends[i - start] <= most] or pauses[:1]
            late = [i for i in fitting if ends[i - start] >= most // 2] or fitting
            last = max(late, key=lambda i: (lengths[i], i)) + 1
        lead = (Phone("SIL", -1, phones[start].start, phones[start].start),) if phones[start].word >= 0 else ()
        found.append(Chunk((*lead, *phones[start:last]), (*(0 for _ in lead), *(int(n) for n in lengths[start:last]))))
        start = last
    return found


def _windows(studio: Studio, recording: Recording, said: Analysis, confidence: float | None) -> list[Window]:
    """The recording in windows without gaps."""
    if recording.seconds <= WHOLE:
        return [open_window(recording, said, studio.spec, confidence)]
    words = align_long(recording, said.words)
    found, first, start = [], 0, 0.0
    while first < len(words):
        last = len(words)
        cuts = [k for k in range(first + 1, len(words)) if words[k].start - start <= _WINDOW]
        if recording.seconds - start > _WINDOW * 1.2 and first + 1 < len(words):
            late = [k for k in cuts if words[k].start - start >= _WINDOW / 2] or cuts or [first + 1]
            last = max(late, key=lambda k: words[k].start - words[k - 1].end)
        end = recording.seconds if last == len(words) else (words[last - 1].end + words[last].start) / 2
        where = (round(start * recording.sample_rate), round(end * recording.sample_rate), first, last)
        found.append(open_window(recording, said, studio.spec, confidence, where))
        first, start = last, end
    return found


def _lengths(studio: Studio, window: Window, timing: str, style: Voice, accent: Voice | None, seed: int) -> list[int]:
    """Frames of every phone of a window."""
    if timing == "kept" and accent is None:
        return list(window.durations)
    voice = accent if accent is not None else style if timing == "style" else None
    known = None
    if voice is not None:
        known = durations.Known(voice.prompt.phones, tuple(int(n) for n in voice.prompt.durations))
    canvas = Canvas(tuple(Slot(phone) for phone in window.analysis.phones), (), window.frames)
    return durations.fill(studio.filler, canvas, derive(seed, f"durations/{window.start}", 0), known)


def _generate(
    studio: Studio, rows: Sequence[Chunk], prompts: Sequence[Utterance], request: EditRequest, seed: int,
    report: Callable[[], None],
) -> tuple[Tensor, int, int]:  # fmt: skip
    heard = torch.cat([prompt.features for prompt in prompts])
    given = torch.cat([prompt.durations for prompt in prompts])
    before = [phone for prompt in prompts for phone in prompt.phones]
    parts, nfe, calls = [], 0, 0
    for index, row in enumerate(rows):
        frames = sum(row.durations)
        if frames:
            rng = torch.Generator().manual_seed(derive(seed, "noise", index))
            features = torch.cat([heard, torch.zeros(frames, studio.spec.channels)])
            lengths = torch.cat([given, torch.tensor(row.durations, dtype=torch.long)])
            known = torch.arange(len(features)) < len(heard)
            made = studio.filler.infill((*before, *row.phones), lengths, features, known, request.sampling, rng)
            parts.append(made.features[len(heard) :])
            nfe, calls = nfe + made.nfe, calls + made.network_calls
        report()
    return torch.cat(parts), nfe, calls


def _whole(studio: Studio, recording: Recording, features: Tensor, gain: float, length: int | None) -> Patch:
    """New sound in place of the whole recording, in all its channels."""
    audio = resample(Audio(studio.sound(features, gain), studio.spec.sample_rate), recording.sample_rate)
    samples = peak_guard(audio, 0.99).samples
    if length is not None:
        samples = np.pad(samples[:length], (0, max(0, length - len(samples))))
    stacked = np.repeat(samples[:, None], recording.channels, axis=1)
    return Patch(0, recording.length, np.ascontiguousarray(stacked), 0, 0)


def _least(windows: Sequence[Window]) -> float | None:
    found = [word.confidence for window in windows for word in window.words if word.confidence is not None]
    return min(found, default=None)


def _times(
    windows: Sequence[Window], timed: Sequence[Sequence[int]], said: Analysis, frame_rate: float
) -> tuple[tuple[Word, ...], tuple[dict[str, object], ...]]:
    """When words and phones are said."""
    spans: dict[int, tuple[float, float]] = {}
    phones: list[dict[str, object]] = []
    at = 0
    for window, lengths in zip(windows, timed, strict=True):
        for phone, frames in zip(window.analysis.phones, lengths, strict=True):
            start, end = round(at / frame_rate, 4), round((at + frames) / frame_rate, 4)
            word = None if phone.word < 0 else phone.word + window.first
            if word is not None:
                spans[word] = (spans.get(word, (start, end))[0], end)
            phones.append({"phone": phone.symbol, "word": word, "start": start, "end": end})
            at += frames
    words = tuple(Word(said.words[word].text, *span) for word, span in sorted(spans.items()))
    return words, tuple(phones)
