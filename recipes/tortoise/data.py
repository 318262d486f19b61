"""From a manifest of cuts to batches of text, codes and reference clips."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from flowtts.data.dataset import Corpus
from flowtts.data.manifest import Timed, read_cuts
from flowtts.data.plan import BatchPlan, Entry
from flowtts.text.symbols import ids
from flowtts.types import MelSpec, PathLike, UserError

logger = logging.getLogger(__name__)

UNSAID = "SIL"
"""A gap that may last no time. Only a recording tells which do, so the text that is read has none."""

Pad = Callable[..., Tensor]


@dataclass(frozen=True)
class CodeBatch:
    """A training batch of any of the networks after the VQ-VAE.

    Attributes:
        text: (B, L) int64 phone ids, 0 on padding.
        text_lengths: (B,) int64.
        codes: (B, N) int64, 0 on padding.
        code_lengths: (B,) int64.
        clips: (B, K, T', C) reference clips of the same speakers.
        clip_frames: (B, K) int64 real frames of each.
        features: (B, T, C) what the diffusion decoder emits, or (B, 0, C).
        frames: (B,) int64 real frames of each.
        latents: (B, N, D) states of the autoregressive model, or None.
        heard_clips: the clips as the autoregressive model hears them, or None where it hears ``clips``.
        heard_clip_frames: (B, K) int64 real frames of each, or None.
        spoken: (B, N) int64, which symbol of the text each code says, -1 for one that says none; None if not known.
        ids: B names.
    """

    text: Tensor
    text_lengths: Tensor
    codes: Tensor
    code_lengths: Tensor
    clips: Tensor
    clip_frames: Tensor
    features: Tensor
    frames: Tensor
    latents: Tensor | None = None
    heard_clips: Tensor | None = None
    heard_clip_frames: Tensor | None = None
    spoken: Tensor | None = None
    ids: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> CodeBatch:
        """Moved to a device."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: x.to(device) for name, x in held.items() if isinstance(x, Tensor)}
        return replace(self, **moved)

    def heard(self) -> tuple[Tensor, Tensor]:
        """Clips for the autoregressive model, and their frames."""
        if self.heard_clips is None or self.heard_clip_frames is None:
            return self.clips, self.clip_frames
        return self.heard_clips, self.heard_clip_frames


class CodeSequence(Protocol):
    """An endless sequence of batches, as ``flowtts.train.fit`` takes it."""

    def __call__(self, start: int, stride: int = 1) -> Iterator[CodeBatch]:
        """Yield batches start, start + stride, and so on."""
        ...


class Tokeniser(Protocol):
    """Features to codes."""

    @property
    def hash(self) -> str:
        """Of its weights."""
        ...

    def __call__(self, features: Tensor) -> Tensor:
        """(N,) int64 codes of (T, C) features."""
        ...


@dataclass(frozen=True)
class Reading:
    """How utterances are read.

    Attributes:
        heard: the mel that codes are made of, and reference clips for the autoregressive model.
        emitted: the mel of features and reference clips for the diffusion decoder, or None to read none.
        clips: K; 0 reads none.
        clip_seconds: length of a reference clip, at most.
        both_clips: read clips as heard beside those as emitted.
        cache: folder of computed features and codes, or None.
        speeds: every utterance is used at each of these speeds, as so many voices.
        longest: seconds; longer utterances are left out, …
        shortest: … and shorter ones, which fill no code.
        longest_text: symbols; utterances of longer texts are left out, or None.
        transcribed: leave out utterances whose text is unknown.
    """

    heard: MelSpec
    emitted: MelSpec | None = None
    clips: int = 1
    clip_seconds: float = 6.0
    both_clips: bool = False
    cache: PathLike | None = None
    speeds: tuple[float, ...] = (1.0,)
    longest: float = 16.0
    shortest: float = 0.1
    longest_text: int | None = None
    transcribed: bool = True


@dataclass(eq=False)
class CodeCorpus:
    """A manifest's utterances as text and codes.

    Attributes:
        cuts: what the manifest holds.
        reading: how they are read.
        tokeniser: makes the codes.
        symbols: the text vocabulary.
    """

    cuts: Sequence[Timed]
    reading: Reading
    tokeniser: Tokeniser
    symbols: Sequence[str]
    _heard: Corpus = field(init=False, repr=False)
    _emitted: Corpus | None = field(init=False, repr=False)
    _of_speaker: dict[str | None, list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        how, cache = self.reading, None if self.reading.cache is None else Path(self.reading.cache)
        self._heard = Corpus(self.cuts, how.heard, self.symbols, cache)
        self._emitted = None
        if how.emitted is not None:
            same = how.emitted == how.heard
            self._emitted = self._heard if same else Corpus(self.cuts, how.emitted, self.symbols, cache)
        self._of_speaker = {}
        for index, cut in enumerate(self.cuts):
            if cut.speaker is not None:
                self._of_speaker.setdefault(cut.speaker, []).append(index)

    def __len__(self) -> int:
        return len(self.cuts)

    def frames(self, index: int) -> int:
        """Heard frames of an utterance, from its length alone."""
        return self._heard.frames(index)

    def text(self, index: int) -> Tensor:
        """(L,) int64 ids of what is read: phones and pauses that the text asks for."""
        return torch.tensor(ids(_said(self.cuts[index]), self.symbols), dtype=torch.long)

    def codes(self, index: int) -> Tensor:
        """(N,) int64."""
        path = self._place(index)
        if path is not None and path.is_file():
            try:
                return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.int64))
            except (ValueError, EOFError, OSError):
                logger.warning("%s is broken and is made again", path)
        made = self.tokeniser(self._heard.features(index))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.stem}.{os.getpid()}.part")
            with part.open("wb") as file:
                np.save(file, made.numpy().astype(np.int32))
            os.replace(part, path)
        return made

    def spoken(self, index: int, codes: int) -> Tensor:
        """(N,) int64, which symbol of `text` is said in the middle of each code; -1 for a gap and without a text."""
        cut = self.cuts[index]
        if not cut.symbols:
            return torch.full((codes,), -1)
        middle = (np.arange(codes) + 0.5) * cut.seconds / max(1, codes)
        phone = np.searchsorted(cut.ends, middle, side="right").clip(max=len(cut.symbols) - 1)
        said = np.array([symbol != UNSAID for symbol in cut.symbols])
        return torch.from_numpy(np.where(said[phone], (said.cumsum() - 1)[phone], -1))

    def features(self, index: int) -> Tensor:
        """(T, C) what the diffusion decoder emits; (0, C) if none is read."""
        if self._emitted is None:
            return torch.zeros(0, self.reading.heard.channels)
        return self._emitted.features(index)

    def clips(self, index: int, rng: np.random.Generator) -> tuple[list[Tensor], list[Tensor]]:
        """K stretches of other utterances of the same speaker; of this one if there is no other.

        As they are emitted if anything is, and again as they are heard if both are wanted and differ.
        """
        corpus = self._emitted or self._heard
        both = self.reading.both_clips and corpus is not self._heard
        size = round(self.reading.clip_seconds * corpus.spec.frame_rate)
        others = [i for i in self._of_speaker.get(self.cuts[index].speaker, []) if i != index]
        found, heard = [], []
        for _ in range(self.reading.clips):
            other = others[int(rng.integers(len(others)))] if others else index
            features = corpus.features(other)
            # A speaker's only utterance must not tell everything that is to be said.
            longest = min(size, len(features)) if others else min(size, max(1, len(features) // 2))
            begin = int(rng.integers(len(features) - longest + 1))
            found.append(features[begin : begin + longest])
            if both:
                scale = self._heard.spec.frame_rate / corpus.spec.frame_rate
                first, last = round(begin * scale), round((begin + longest) * scale)
                heard.append(self._heard.features(other)[first : max(last, first + 1)])
        return found, heard

    def _place(self, index: int) -> Path | None:
        if self.reading.cache is None:
            return None
        place = self._heard.place(index)
        digest = hashlib.sha1(f"{self.tokeniser.hash}/{place.stem}".encode()).hexdigest()
        return Path(self.reading.cache) / "codes" / digest[:2] / f"{digest}.npy"


def corpus_of(
    manifests: Sequence[PathLike], reading: Reading, tokeniser: Tokeniser, symbols: Sequence[str]
) -> CodeCorpus:
    """The utterances of manifests that are short enough, and transcribed if they must be.

    Raises:
        UserError: a broken manifest, or nothing is left.
    """
    cuts = [cut.at_speed(speed) for path in manifests for cut in read_cuts(path) for speed in reading.speeds]
    kept = [cut for cut in cuts if _usable(cut, reading)]
    if not kept:
        what = "transcribed utterance" if reading.transcribed else "utterance"
        raise UserError(f"{manifests[0]}: holds no {what} of at most {reading.longest:g} s; prepare others")
    if len(kept) < len(cuts):
        logger.info("%d of %d utterances are left out: too long, too short or not transcribed", len(cuts) - len(kept),
                    len(cuts))  # fmt: skip
    return CodeCorpus(kept, reading, tokeniser, symbols)


def _usable(cut: Timed, reading: Reading) -> bool:
    """Whether an utterance is short enough, long enough, and transcribed if it must be."""
    fits = reading.longest_text is None or len(_said(cut)) <= reading.longest_text
    return fits and reading.shortest <= cut.seconds <= reading.longest and bool(cut.symbols or not reading.transcribed)


def _said(cut: Timed) -> list[str]:
    """What is read of an utterance: phones, and pauses that the text asks for."""
    return [symbol for symbol in cut.symbols if symbol != UNSAID]


def code_batches(corpus: CodeCorpus, *, max_frames_per_batch: int, seed: int) -> CodeSequence:
    """An endless sequence in which batch i is a function of (seed, i) alone.

    Args:
        corpus: the utterances.
        max_frames_per_batch: padded frames of a batch, heard ones.
        seed: of all choices.
    """
    lengths = [corpus.frames(i) for i in range(len(corpus))]
    plan = BatchPlan(lengths, max_frames_per_batch=max_frames_per_batch, seed=seed, max_frames=max(lengths))

    def sequence(start: int, stride: int = 1) -> Iterator[CodeBatch]:
        index = start
        while True:
            yield _collate(corpus, plan.batch(index))
            index += stride

    return sequence


def _collate(corpus: CodeCorpus, entries: Sequence[Entry]) -> CodeBatch:
    pad: Pad = torch.nn.utils.rnn.pad_sequence
    members = [entry.members[0] for entry in entries]
    text, codes = [corpus.text(i) for i in members], [corpus.codes(i) for i in members]
    features = [corpus.features(i) for i in members]
    clips = [corpus.clips(e.members[0], np.random.default_rng(e.seed)) for e in entries]
    shown, shown_frames = _clips([pair[0] for pair in clips])
    heard, heard_frames = _clips([pair[1] for pair in clips]) if clips[0][1] else (None, None)
    return CodeBatch(
        text=pad(text, batch_first=True),
        text_lengths=torch.tensor([len(x) for x in text]),
        codes=pad(codes, batch_first=True),
        code_lengths=torch.tensor([len(x) for x in codes]),
        clips=shown,
        clip_frames=shown_frames,
        features=pad(features, batch_first=True),
        frames=torch.tensor([len(x) for x in features]),
        heard_clips=heard,
        heard_clip_frames=heard_frames,
        spoken=pad([corpus.spoken(i, len(x)) for i, x in zip(members, codes, strict=True)], True, -1),
        ids=tuple(corpus.cuts[i].id for i in members),
    )


def _clips(groups: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
    """Clips (B, K, T, C) and their frames (B, K) from K of them for each of B items."""
    pad: Pad = torch.nn.utils.rnn.pad_sequence
    shape = (len(groups), len(groups[0]))
    flat = [clip for group in groups for clip in group]
    if not flat:
        return torch.zeros(*shape, 0, 0), torch.zeros(shape, dtype=torch.long)
    padded = pad(flat, batch_first=True)
    return padded.view(*shape, *padded.shape[1:]), torch.tensor([len(clip) for clip in flat]).view(shape)


def windowed(batch: CodeBatch, size: int, frames_of: Callable[[int], int], seed: Sequence[int]) -> CodeBatch:
    """A random stretch of at most ``size`` codes of each utterance with its frames, and no text.

    Args:
        batch: with features.
        size: codes.
        frames_of: frames that so many codes stand for.
        seed: decides where.
    """
    rng = np.random.default_rng(tuple(seed))
    pad: Pad = torch.nn.utils.rnn.pad_sequence
    codes, latents, features = [], [], []
    for index, length in enumerate(batch.code_lengths.tolist()):
        kept = min(size, length)
        begin = int(rng.integers(length - kept + 1))
        codes.append(batch.codes[index, begin : begin + kept])
        if batch.latents is not None:
            latents.append(batch.latents[index, begin : begin + kept])
        first = frames_of(begin)
        last = min(first + frames_of(kept), int(batch.frames[index]))
        features.append(batch.features[index, first:last])
    return replace(
        batch,
        text=batch.text[:, :0], text_lengths=torch.zeros_like(batch.text_lengths),
        codes=pad(codes, batch_first=True), code_lengths=torch.tensor([len(x) for x in codes]),
        features=pad(features, batch_first=True), frames=torch.tensor([len(x) for x in features]),
        latents=pad(latents, batch_first=True) if latents else None,
    )  # fmt: skip
