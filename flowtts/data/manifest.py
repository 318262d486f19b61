"""Lhotse manifests: alignments in, training utterances out."""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowtts.alignment.base import Alignment, PhoneTime
from flowtts.compat import require
from flowtts.types import PathLike, UserError

EXTRA = "train"
NAMES = ("recordings", "supervisions", "cuts")


def lhotse() -> ModuleType:
    """The package, or a UserError that says how to get it."""
    return require("lhotse", EXTRA)


@dataclass(frozen=True, eq=False)
class Timed:
    """What training needs to know of a cut without reading its sound; compact, as a corpus has many.

    Attributes:
        cut: Lhotse's, which loads the sound.
        id: the cut's.
        speaker: or None.
        seconds: its length.
        symbols: its phones; empty if it is not transcribed.
        ends: (L,) float64 seconds from the cut's start at which they end; each begins where the one before ended.
        speed: the sound is to be played this much faster, pitch and formants with it; the times above already are.
    """

    cut: Any
    id: str
    speaker: str | None
    seconds: float
    symbols: tuple[str, ...]
    ends: NDArray[np.float64]
    speed: float = 1.0

    def at_speed(self, speed: float) -> Timed:
        """Played ``speed`` times as fast, like a tape: somebody else's voice (Ko et al. 2015, speed perturbation)."""
        if speed == 1.0:
            return self
        return replace(
            self, id=f"{self.id}@{speed:g}", speaker=None if self.speaker is None else f"{self.speaker}@{speed:g}",
            seconds=self.seconds / speed, ends=self.ends / speed, speed=self.speed * speed,
        )  # fmt: skip

    def alignment(self) -> Alignment | None:
        """Times of its phones (words are not known here), or None."""
        if not self.symbols:
            return None
        bounds = [0.0, *self.ends.tolist()]
        return Alignment(
            (), tuple(PhoneTime(s, -1, a, b) for s, (a, b) in zip(self.symbols, pairwise(bounds), strict=True))
        )


def write_manifests(out: Path, entries: Iterable[dict[str, Any]]) -> Path:
    """Write recordings, supervisions and cuts (``*.jsonl.gz``), each atomically; the cuts, which stand alone, last.

    Args:
        out: an existing folder.
        entries: accepted rows, see ``flowtts.data.work``.

    Returns:
        The path of the cuts.
    """
    package = lhotse()
    # The suffix must stay: Lhotse decides by it how to write.
    parts = {name: out / f".{name}.{os.getpid()}.part.jsonl.gz" for name in NAMES}
    sets = dict(zip(NAMES, (package.RecordingSet, package.SupervisionSet, package.CutSet), strict=True))
    known: set[str] = set()
    try:
        with ExitStack() as stack:
            writers = {name: stack.enter_context(sets[name].open_writer(parts[name])) for name in NAMES}
            for entry in entries:
                recording, supervision, cut = _lhotse(package, entry)
                if recording.id not in known:
                    known.add(recording.id)
                    writers["recordings"].write(recording)
                writers["supervisions"].write(supervision)
                writers["cuts"].write(cut)
        for name in NAMES:
            os.replace(parts[name], out / f"{name}.jsonl.gz")
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return out / "cuts.jsonl.gz"


def _lhotse(package: ModuleType, entry: dict[str, Any]) -> tuple[Any, Any, Any]:
    path = entry["audio"]
    name = f"{Path(path).stem}-{hashlib.sha1(path.encode()).hexdigest()[:8]}"
    channels = list(range(entry["channels"]))
    source = package.audio.AudioSource(type="file", channels=channels, source=path)
    rate, start, duration = entry["sample_rate"], entry["start"], entry["duration"]
    recording = package.Recording(name, [source], rate, entry["samples"], entry["samples"] / rate, channel_ids=channels)
    item = package.supervision.AlignmentItem
    tiers = {
        singular: [item(s, round(start + a, 8), round(b - a, 8), score) for s, a, b, score in entry[plural]]
        for singular, plural in (("word", "words"), ("phone", "phones"))
        if plural in entry
    }
    channel: Any = channels if len(channels) > 1 else channels[0]
    custom = {k: entry[k] for k in ("normalised", "confidence") if entry.get(k) is not None}
    supervision = package.SupervisionSegment(
        id=entry["id"], recording_id=name, start=start, duration=duration, channel=channel, text=entry["text"],
        speaker=entry["speaker"], alignment=tiers or None, custom={**custom, "transcribed": "phones" in entry},
    )  # fmt: skip
    kind = package.cut.MultiCut if len(channels) > 1 else package.MonoCut
    cut = kind(
        id=entry["id"], start=start, duration=duration, channel=channel, recording=recording,
        supervisions=[supervision.with_offset(-start)],
    )  # fmt: skip
    return recording, supervision, cut


def read_cuts(path: PathLike) -> Iterator[Timed]:
    """The cuts of a manifest, in its order.

    Raises:
        UserError: the file is missing or is no manifest of cuts, or a cut has other than one supervision.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "cuts.jsonl.gz"
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; make one with flowtts prepare")
    package = lhotse()
    try:
        for cut in package.CutSet.from_file(path):
            yield _timed(path, cut)
    except (ValueError, KeyError, TypeError, OSError, EOFError, AssertionError, zlib.error) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: is broken ({type(error).__name__}: {reason}); prepare it again") from error


def _timed(path: Path, cut: Any) -> Timed:
    if len(cut.supervisions) > 1:
        raise UserError(f"{path}: cut {cut.id} has {len(cut.supervisions)} supervisions; trim the cuts to one each")
    supervision = cut.supervisions[0] if cut.supervisions else None
    items = ((supervision.alignment or {}).get("phone") or []) if supervision is not None else []
    # Lhotse counts alignments from the start of the recording, in cuts too.
    ends = np.array([item.start + item.duration - cut.start for item in items], dtype=np.float64)
    if len(ends):
        # Rounding in the manifest must leave neither gaps nor overlaps.
        ends = np.maximum.accumulate(np.clip(ends, 0.0, cut.duration))
        ends[-1] = cut.duration
    speaker = supervision.speaker if supervision is not None else None
    symbols = tuple(sys.intern(item.symbol) for item in items)
    return Timed(cut.drop_supervisions(), cut.id, speaker, cut.duration, symbols, ends)
