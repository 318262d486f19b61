"""From a manifest of cuts to training batches."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from flowtts.audio.active import to_level
from flowtts.audio.io import resample
from flowtts.data.manifest import Timed, read_cuts
from flowtts.data.plan import BatchPlan, Entry
from flowtts.features import Extractor, extractor
from flowtts.features import frames as frame_count
from flowtts.text.symbols import SYMBOLS, is_pause
from flowtts.types import Audio, Batch, FeatureSpec, MelSpec, PathLike, UserError

logger = logging.getLogger(__name__)

_SILENCE = "SIL"


class BatchSequence(Protocol):
    """An endless sequence of batches, as ``flowtts.train.fit`` takes it."""

    def __call__(self, start: int, stride: int = 1) -> Iterator[Batch]:
        """Yield batches start, start + stride, and so on."""
        ...


@dataclass(frozen=True, eq=False)
class Item:
    """An utterance ready for a batch.

    Attributes:
        id: its name.
        features: (T, C) normalised log-mel, or whatever the spec says.
        phones: (L,) int64 ids.
        durations: (L,) int64 frames, sums to T.
        transcribed: False where the phones say nothing.
    """

    id: str
    features: Tensor
    phones: Tensor
    durations: Tensor
    transcribed: bool


@dataclass(eq=False)
class Corpus:
    """A manifest's utterances by number.

    Attributes:
        cuts: what the manifest holds.
        spec: of the features.
        symbols: vocabulary; index is the phone id.
        cache: a folder for computed features (float16, one file per utterance and spec), or None to compute them anew.
        level: bring speech to the level at which recipes are trained.
    """

    cuts: Sequence[Timed]
    spec: FeatureSpec
    symbols: Sequence[str] = SYMBOLS
    cache: Path | None = None
    level: bool = True
    _extract: Extractor = field(init=False, repr=False)
    _ids: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._extract = extractor(self.spec)
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        unknown = {symbol for cut in self.cuts for symbol in cut.symbols} - self._ids.keys()
        if unknown:
            raise UserError(
                f"the manifest has {len(unknown)} phones outside the vocabulary, such as '{min(unknown)}'; "
                "prepare it again, or train with its vocabulary"
            )

    def frames(self, index: int) -> int:
        """Frames of an utterance, from its length alone."""
        return frame_count(self.spec, round(self.cuts[index].seconds * self.spec.sample_rate))

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, index: int) -> Item:
        cut = self.cuts[index]
        features = self.features(index)
        alignment = cut.alignment()
        if alignment is None:
            phones, durations = torch.tensor([self._ids[_SILENCE]]), torch.tensor([len(features)])
        else:
            phones = torch.tensor([self._ids[symbol] for symbol in cut.symbols])
            durations = alignment.durations(self.spec.frame_rate, len(features))
        return Item(cut.id, features, phones, durations, alignment is not None)

    def features(self, index: int) -> Tensor:
        """(T, C) of the spec, through float16 if there is a cache: first and later reads are the same."""
        if self.cache is None:
            return self._compute(index)
        path = self.place(index)
        if path.is_file():
            try:
                return torch.from_numpy(np.load(path, allow_pickle=False)).float()
            except (ValueError, EOFError, OSError):
                logger.warning("%s is broken and is made again", path)
        made = self._compute(index).half()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.stem}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                np.save(file, made.numpy())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return made.float()

    def place(self, index: int) -> Path:
        """The file of an utterance in the cache."""
        assert self.cache is not None
        cut = self.cuts[index]
        source = cut.cut.recording.sources[0].source if cut.cut.has_recording else ""
        # A spec of amplitudes has the key that it had before there were powers: caches stay good.
        spec = sorted(item for item in asdict(self.spec).items() if item != ("power", 1.0))
        key = repr((cut.id, str(source), cut.cut.start, cut.seconds, self.level, spec))
        digest = hashlib.sha1(key.encode()).hexdigest()
        return self.cache / digest[:2] / f"{digest}.npy"

    def _compute(self, index: int) -> Tensor:
        cut = self.cuts[index]
        try:
            samples = cut.cut.load_audio()
        except Exception as error:  # Lhotse's readers raise many kinds
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"{cut.id}: its sound cannot be read ({reason}); prepare the corpus again") from error
        mono = np.ascontiguousarray(np.atleast_2d(samples).mean(axis=0), dtype=np.float32)
        audio = resample(Audio(mono, round(cut.cut.sampling_rate * cut.speed)), self.spec.sample_rate)
        if self.level:
            audio, _ = to_level(audio)
        with torch.inference_mode():
            features = self._extract(torch.from_numpy(audio.samples))[0]
        return features.clone()


def colour(item: Item, deviation: float, spec: MelSpec, rng: np.random.Generator) -> Item:
    """Another microphone and room: a smooth random curve over frequency, the same in all frames.

    Args:
        item: whose features are changed.
        deviation: of each of the curve's four cosines, dB.
        spec: of the features, whose floor stays the floor.
        rng: decides.
    """
    if deviation <= 0:
        return item
    place = (np.arange(spec.channels) + 0.5) / spec.channels
    waves = np.cos(np.pi * np.arange(1, 5)[:, None] * place)
    curve = (rng.normal(0.0, deviation, 4) @ waves) * (np.log(10) / 20) / spec.std
    lowest = (np.log(spec.floor) - spec.mean) / spec.std
    changed = item.features + torch.from_numpy(curve).to(item.features.dtype)
    return replace(item, features=changed.clamp(min=float(lowest)))


def crop(item: Item, max_frames: int, pauses: Sequence[bool], rng: np.random.Generator) -> Item:
    """A random stretch of at most ``max_frames`` frames, cut at phone boundaries and rather at pauses.

    Args:
        item: returned as it is if it is short enough.
        max_frames: at most this many frames remain.
        pauses: for every symbol of the vocabulary, whether it is a pause.
        rng: decides where.
    """
    total = len(item.features)
    if total <= max_frames:
        return item
    if not item.transcribed:
        start = int(rng.integers(total - max_frames + 1))
        kept = item.features[start : start + max_frames]
        return replace(item, features=kept, durations=torch.tensor([max_frames]))
    ends = item.durations.cumsum(0)
    starts = ends - item.durations
    pause = torch.tensor([pauses[i] for i in item.phones.tolist()])
    latest = int(torch.searchsorted(starts, total - max_frames).clamp(max=len(starts) - 1))
    usable = (starts <= starts[latest]) & (item.durations <= max_frames)
    possible = torch.nonzero(usable & pause)[:, 0]
    if not len(possible):
        possible = torch.nonzero(usable)[:, 0]
    if len(possible):
        first = int(possible[int(rng.integers(len(possible)))])
        begin = int(starts[first])
        stop = int((ends <= begin + max_frames).sum())  # one past the last phone that ends in time
        closing = torch.nonzero(pause[first:stop] & (ends[first:stop] > begin))[:, 0]
        if len(closing) and int(closing[-1]) > 0:
            stop = first + int(closing[-1]) + 1
        if int(ends[stop - 1]) > begin:
            return _part(item, first, stop, begin, int(ends[stop - 1]))
    # One phone fills the limit, in practice a long silence: a piece of it.
    longest = int(item.durations.argmax())
    begin = int(starts[longest])
    return _part(item, longest, longest + 1, begin, begin + min(max_frames, int(item.durations[longest])))


def _part(item: Item, first: int, stop: int, begin: int, end: int) -> Item:
    """Phones [first, stop) over frames [begin, end); a phone that is cut through gives up the rest."""
    durations = item.durations[first:stop].clone()
    durations[-1] -= int(durations.sum()) - (end - begin)
    return replace(item, features=item.features[begin:end], phones=item.phones[first:stop], durations=durations)


def join(first: Item, second: Item, pauses: Sequence[bool]) -> Item:
    """Two utterances in a row; where a pause ends one and begins the other, they become one pause."""
    if first.transcribed != second.transcribed:
        raise ValueError("only utterances that are both transcribed, or both not, can be joined")
    phones, durations = second.phones, second.durations.clone()
    head = first.durations.clone()
    if pauses[int(first.phones[-1])] and pauses[int(phones[0])]:
        head[-1] += durations[0]
        phones, durations = phones[1:], durations[1:]
    return Item(
        f"{first.id}+{second.id}", torch.cat([first.features, second.features]), torch.cat([first.phones, phones]),
        torch.cat([head, durations]), first.transcribed,
    )  # fmt: skip


def collate(items: Sequence[Item]) -> Batch:
    """Pad items to a batch."""
    sequence: Callable[..., Tensor] = torch.nn.utils.rnn.pad_sequence
    return Batch(
        features=sequence([i.features for i in items], batch_first=True),
        frames=torch.tensor([len(i.features) for i in items]),
        phones=sequence([i.phones for i in items], batch_first=True),
        durations=sequence([i.durations for i in items], batch_first=True),
        lengths=torch.tensor([len(i.phones) for i in items]),
        transcribed=torch.tensor([i.transcribed for i in items]),
        ids=tuple(i.id for i in items),
    )


def batches(
    manifest: PathLike | Sequence[PathLike],
    spec: FeatureSpec,
    *,
    max_frames_per_batch: int,
    seed: int,
    max_frames: int = 1600,
    join_share: float = 0.0,
    symbols: Sequence[str] = SYMBOLS,
    cache: PathLike | None = None,
    level: bool = True,
    speeds: Sequence[float] = (1.0,),
    colour_db: float = 0.0,
) -> BatchSequence:
    """Training data for ``flowtts.train.fit``: an endless sequence in which batch i is a function of (seed, i) alone.

    Args:
        manifest: one or more manifests of cuts (or folders made by ``prepare``).
        spec: of the features.
        max_frames_per_batch: padded frames of a batch, at most.
        seed: of all choices.
        max_frames: longer utterances are cropped at phone boundaries; 1600 in arXiv 2306.15687, section 5.1.
        join_share: share of each speaker's utterances that may be joined in pairs.
        symbols: vocabulary.
        cache: folder for computed features.
        level: bring speech to the training level.
        speeds: every utterance is used at each of these speeds, as so many voices.
        colour_db: see ``colour``.

    Returns:
        ``(start, stride) -> iterator`` over batches start, start + stride, …; several processes take the same stride
        (their number) and different starts (their ranks).

    Raises:
        UserError: a broken or empty manifest, or phones outside the vocabulary.
    """
    paths = [manifest] if isinstance(manifest, (str, Path)) else list(manifest)
    cuts = [cut.at_speed(speed) for path in paths for cut in read_cuts(path) for speed in speeds]
    if not cuts:
        raise UserError(f"{paths[0]}: holds no cuts; prepare the corpus again")
    corpus = Corpus(cuts, spec, symbols, None if cache is None else Path(cache), level)
    return corpus_batches(
        corpus, max_frames_per_batch=max_frames_per_batch, seed=seed, max_frames=max_frames, join_share=join_share,
        colour_db=colour_db,
    )  # fmt: skip


def corpus_batches(
    corpus: Corpus,
    *,
    max_frames_per_batch: int,
    seed: int,
    max_frames: int = 1600,
    join_share: float = 0.0,
    colour_db: float = 0.0,
) -> BatchSequence:
    """``batches`` of a corpus in memory."""
    if colour_db > 0 and not isinstance(corpus.spec, MelSpec):
        raise UserError("a random filter (data.colour_db) changes mels, and latents it cannot: set it to 0")
    # Utterances are joined only with their like: the speaker's name is qualified by whether there is a transcript.
    speakers = [None if c.speaker is None else f"{bool(c.symbols)} {c.speaker}" for c in corpus.cuts]
    lengths = [corpus.frames(i) for i in range(len(corpus))]
    plan = BatchPlan(
        lengths, max_frames_per_batch=max_frames_per_batch, seed=seed, max_frames=max_frames, speakers=speakers,
        join=join_share,
    )  # fmt: skip
    pauses = [is_pause(symbol) for symbol in corpus.symbols]

    def made(entry: Entry) -> Item:
        items = [corpus[i] for i in entry.members]
        item = items[0] if len(items) == 1 else join(items[0], items[1], pauses)
        rng = np.random.default_rng(entry.seed)
        item = crop(item, max_frames, pauses, rng)
        return colour(item, colour_db, corpus.spec, rng) if isinstance(corpus.spec, MelSpec) else item

    def sequence(start: int, stride: int = 1) -> Iterator[Batch]:
        index = start
        while True:
            yield collate([made(entry) for entry in plan.batch(index)])
            index += stride

    return sequence
