"""Who hears what in a listening test, laid out so that systems are heard equally often and names tell nothing.

* In a *round* every take of a prompt is heard once, take i by system i + round (a Latin square): no text is heard twice
  before all were, and after all rounds every system has said everything. Pairs of systems take the place of systems
  where a preference is asked for.
* A *block* is as many takes of a round as there are systems, so that each is heard once; whoever stops early has heard
  all of them about equally often.
* A *sheet* is one sitting. Listeners whose names end in a number take the sheets in turn, others one by chance; whoever
  goes on gets the next. The page draws the order of blocks, the order within them, and which clip of a pair is A for
  each listener anew, by a generator that starts from the name.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, pairwise
from typing import Any, TypeVar

import numpy as np

from flowtts.compare.result import Result, Row

FORMAT = 1
"""Of keys and answers."""

CATCH_EVERY = 12
"""One pair in so many, but one in every sheet, is a clip and itself: there is no difference to be heard."""

C = TypeVar("C")
Take = tuple[str, int]
"""A prompt and a number: the first recordings of a prompt by several systems are one take, the second another."""

Trial = list[str]
"""[clip] for an opinion, [voice, clip] for the voice's similarity, [clip, clip, text] for a preference."""

Block = list[Trial]
Sheet = list[Block]


@dataclass(frozen=True)
class Layout:
    """What listeners are asked, and what the names stand for.

    Attributes:
        sheets: of "mos", "ab" and "smos".
        clips: {system, item, audio_hash, catch} by name; ``catch`` is the second name of a recording that has two.
        sources: the recording behind each name, clips and voices, relative to the folder of the comparison.
    """

    sheets: Mapping[str, list[Sheet]]
    clips: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, str]


def fingerprint(result: Result, seed: int, trials: int) -> str:
    """What answers belong to: recordings, texts and voices, and how they are laid out.

    Args:
        result: what was found.
        seed: see ``lay_out``.
        trials: likewise.
    """
    rows = [(row["system"], row["prompt"], row["item"], row["audio_hash"]) for row in result["items"]]
    prompts = [(prompt["id"], prompt["text"], prompt["voice_audio"]) for prompt in result["prompts"]]
    return _hash(json.dumps([FORMAT, seed, trials, rows, prompts], ensure_ascii=False))


def lay_out(result: Result, seed: int, trials: int, left_out: Container[str] = ()) -> Layout:
    """Everything that can be asked about a comparison.

    Args:
        result: what was found.
        seed: of names and order.
        trials: of a sheet, about; blocks are not cut.
        left_out: recordings that nobody can hear.
    """
    rng = np.random.default_rng(seed)
    names = _Names(seed)
    rows = {key: row for key, row in _rows(result).items() if row["audio"] and row["audio"] not in left_out}
    clips: dict[Take, dict[str, str]] = {}
    for (take, system), row in rows.items():
        clips.setdefault(take, {})[system] = names.clip(row)
    texts = {prompt["id"]: prompt["text"] for prompt in result["prompts"]}
    voices = {
        prompt["id"]: names.voice(prompt["voice_audio"])
        for prompt in result["prompts"]
        if prompt["voice_audio"] and prompt["voice_audio"] not in left_out
    }
    systems = [system["name"] for system in result["systems"]]
    pairs = list(combinations(systems, 2))
    opinions = {(take, system): [name] for take, mine in clips.items() for system, name in mine.items()}
    similarities = {
        (take, system): [voices[take[0]], *trial] for (take, system), trial in opinions.items() if take[0] in voices
    }
    preferences = {
        (take, pair): [*sorted(mine[system] for system in pair), texts[take[0]]]
        for take, mine in clips.items() for pair in pairs if set(pair) <= mine.keys()
    }  # fmt: skip
    order = [list(clips)[place] for place in rng.permutation(len(clips))]
    compared = _sheets(_rounds(order, pairs, preferences), trials)
    _add_catches(compared, list(rows.values()), texts, names, rng)
    sheets = {
        "mos": _sheets(_rounds(order, systems, opinions), trials), "ab": compared,
        "smos": _sheets(_rounds(order, systems, similarities), trials),
    }  # fmt: skip
    return Layout(sheets, dict(sorted(names.clips.items())), dict(sorted(names.sources.items())))


class _Names:
    """Gives names that tell nothing, and remembers what for."""

    def __init__(self, seed: int) -> None:
        self.clips: dict[str, dict[str, Any]] = {}
        self.sources: dict[str, str] = {}
        self._seed = seed

    def clip(self, row: Row, catch: bool = False) -> str:
        """Of a recording."""
        name = _hash(self._seed, "again" if catch else "", row["system"], row["item"], row["audio_hash"])
        self.clips[name] = {
            "system": row["system"], "item": row["item"], "audio_hash": row["audio_hash"], "catch": catch
        }  # fmt: skip
        self.sources[name] = str(row["audio"])
        return name

    def voice(self, source: str) -> str:
        """Of a recording whose voice is wanted."""
        name = _hash(self._seed, "voice", source)
        self.sources[name] = source
        return name


def _rows(result: Result) -> dict[tuple[Take, str], Row]:
    """Rows by take and system. Failures count, so that what one system failed at is paired with nothing else."""
    seen: Counter[tuple[str, str]] = Counter()
    found = {}
    for row in result["items"]:
        prompt, system = row["prompt"], row["system"]
        found[(prompt, seen[prompt, system]), system] = row
        seen[prompt, system] += 1
    return found


def _rounds(order: Sequence[Take], columns: Sequence[C], trials: Mapping[tuple[Take, C], Trial]) -> list[list[Block]]:
    """The blocks of each round. Where there is no trial is a gap; blocks are sorted by name, which tells nothing."""
    size = len(columns)
    return [
        [
            sorted(
                trials[cell]
                for place in range(start, min(start + size, len(order)))
                if (cell := (order[place], columns[(place + turn) % size])) in trials
            )
            for start in range(0, len(order), size)
        ]
        for turn in range(size)
    ]


def _sheets(rounds: Sequence[Sequence[Block]], trials: int) -> list[Sheet]:
    """Rounds cut, or put together, into sheets of about ``trials``."""
    longest = max((sum(map(len, blocks)) for blocks in rounds), default=0)
    together = max(1, trials // max(1, longest))
    found: list[Sheet] = []
    for start in range(0, len(rounds), together):
        blocks = [block for block in chain(*rounds[start : start + together]) if block]
        parts = min(len(blocks), -(-sum(map(len, blocks)) // trials))
        edges = [len(blocks) * part // parts for part in range(parts + 1)] if parts else []
        found += [blocks[low:high] for low, high in pairwise(edges)]
    return found


def _add_catches(
    sheets: Sequence[Sheet], rows: Sequence[Row], texts: Mapping[str, str], names: _Names, rng: np.random.Generator
) -> None:
    """Put pairs of a recording and itself among the others."""
    drawn = rng.permutation(len(rows))
    count = 0
    for sheet in sheets:
        for _ in range(max(1, sum(map(len, sheet)) // CATCH_EVERY)):
            row = rows[drawn[count % len(rows)]]
            block = sheet[rng.integers(len(sheet))]
            block.append([*sorted((names.clip(row), names.clip(row, catch=True))), texts[row["prompt"]]])
            block.sort()
            count += 1


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
