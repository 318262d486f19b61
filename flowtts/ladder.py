"""What a codec costs: bits, computing, delay. What it keeps of the sound is judged by ``flowtts.compare``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from flowtts.audio.io import resample
from flowtts.bench.sentences import read_lines, read_table, take
from flowtts.codec import Codec
from flowtts.compare.prompts import Asked, seconds_of
from flowtts.compare.store import safe
from flowtts.nn.quantise import Usage
from flowtts.nn.residual import bitrate, usages
from flowtts.types import Audio, CodeSpec, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Delay:
    """How late a codec answers sound that comes frame by frame.

    Attributes:
        codes: frames that have come and have no codes yet, at worst.
        samples: samples whose codes have come and that are not final yet, at worst.
        whole: samples from when one is spoken until it is heard, at worst; a frame has to be full before it is coded,
            and computing takes no time.
    """

    codes: int
    samples: int
    whole: int


def delay(codec: Codec, frames: int = 32) -> Delay:
    """Measured by counting what comes back for one frame after the other.

    Args:
        codec: on the CPU.
        frames: of silence that it gets, more than it may hold back.

    Raises:
        UserError: it does not run in pieces.
    """
    hop = codec.spec.hop_length
    coder, decoder = codec.encoding(), codec.decoding()
    coded = heard = 0
    late = {"codes": 0, "samples": 0, "whole": 0}
    for number in range(1, frames + 1):
        codes = coder.push(torch.zeros(1, hop))
        coded += codes.shape[1]
        heard += decoder.push(codes).shape[1]
        now = {"codes": number - coded, "samples": coded * hop - heard, "whole": number * hop - heard}
        late = {name: max(late[name], value) for name, value in now.items()}
    if not heard:
        raise UserError(f"{codec.name} answers nothing within {frames} frames: there is no delay to measure")
    return Delay(late["codes"], late["samples"], late["whole"] + hop)


@dataclass(frozen=True)
class Cost:
    """Of coding some recordings.

    Attributes:
        seconds: of sound, by recording.
        encode, decode: of one processor's time, by recording.
        usages: of every codebook.
        frames: that these were counted over.
    """

    seconds: tuple[float, ...]
    encode: tuple[float, ...]
    decode: tuple[float, ...]
    usages: tuple[Usage, ...]
    frames: int


def cost(codec: Codec, recordings: Sequence[Audio]) -> Cost:
    """Measured on one thread, in processor time, so that what else runs on the machine hardly matters.

    Args:
        codec: on the CPU.
        recordings: at least one.
    """
    spec = codec.spec
    seconds, encode, decode = [], [], []
    ids: list[Tensor] = []
    with one_thread():
        # The first call of anything takes longer.
        codec.decode(codec.encode(torch.zeros(1, 8 * spec.hop_length)))
        for audio in recordings:
            samples = torch.from_numpy(resample(audio.mono(), spec.sample_rate).samples)[None]
            codes, took = timed(partial(codec.encode, samples))
            encode.append(took)
            decode.append(timed(partial(codec.decode, codes))[1])
            seconds.append(audio.seconds)
            ids.append(codes[0])
    joined = torch.cat(ids)
    found = usages(joined, spec.codebook_size)
    return Cost(tuple(seconds), tuple(encode), tuple(decode), tuple(found), len(joined))


def bitrates(spec: CodeSpec, usages: Sequence[Usage]) -> list[tuple[float, float]]:
    """Bits per second of the first 1, 2, … codebooks: as they are, and if frequent codes were written shorter.

    The second is the sum of the codebooks' entropies. Few frames make it too low: with N of them and K codes of a
    codebook by about (K - 1) / (2 N ln 2) bits a frame (Miller 1955), and never are there more than log2 N.
    """
    entropies = accumulate(usage.bits for usage in usages)
    return [
        (bitrate(spec.frame_rate, number, spec.codebook_size), spec.frame_rate * bits)
        for number, bits in enumerate(entropies, start=1)
    ]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, and as it was afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What a function gives, and the seconds of processor time that it took."""
    begun = time.process_time()
    given = work()
    return given, time.process_time() - begun


def read_recordings(path: Path, count: int | None = None) -> tuple[Asked, ...]:
    """Recordings to code, as prompts of a comparison: each its own reference and, unless another is named, its voice.

    Args:
        path: a TSV with a column ``audio`` and, as wanted, ``id``, ``text``, ``prompt`` (another recording of the
            voice), ``speaker``; JSONL with the same keys; or one path a line. Relative paths start at the list's
            folder. Where no text is given, NAME.txt beside the recording is it, if that is there.
        count: how many to take from the beginning; all if None.

    Raises:
        UserError: the list is wrong, or a recording is missing or unreadable.
    """
    found: list[tuple[int, Asked]] = []
    names: set[str] = set()
    for line, row in _rows(path):
        where = f"{path} line {line}"
        audio = path.parent / row.get("audio", "")
        seconds_of(audio, where)
        name = safe(row.get("id") or audio.stem)
        if name.casefold() in names:
            raise UserError(f"{where}: the name {name!r} comes twice; give every row an id of its own")
        names.add(name.casefold())
        text, beside = row.get("text", "").strip(), audio.with_suffix(".txt")
        if not text and beside.is_file():
            text = beside.read_text(encoding="utf-8").strip()
        voice = path.parent / row["prompt"] if row.get("prompt") else audio
        seconds_of(voice, where)
        found.append((line, Asked(name, text, voice, None, audio, row.get("speaker") or name, set=path.stem)))
    return take(path, found, count, "recording")


def _rows(path: Path) -> list[tuple[int, Mapping[str, str]]]:
    """Rows with their lines."""
    lines = read_lines(path, "recordings")
    if lines and "audio" in lines[0][1].split("\t"):
        return [*read_table(path, ("audio",), "recordings")[1]]
    rows: list[tuple[int, Mapping[str, str]]] = []
    for line, text in lines:
        try:
            row = json.loads(text) if text.lstrip().startswith("{") else {"audio": text.strip()}
            rows.append((line, {key: str(value) for key, value in row.items() if value is not None}))
        except ValueError as error:
            raise UserError(f'{path} line {line}: is no JSON ({error}); write {{"audio": path}} or a path') from None
        if "audio" not in row:
            raise UserError(f'{path} line {line}: names no recording; write {{"audio": path, "text": what it says}}')
    return rows
