"""What listeners said: the files that ``listen.html`` saves, read back with the key to its clips.

A file holds one listener's answers::

    {"kind": "flowtts-answers", "format": 1, "comparison": FINGERPRINT, "listener": NAME, "saved": TIME,
     "mos": {CLIP: 1 to 5}, "smos": {CLIP: 1 to 5}, "ab": [{"a": CLIP, "b": CLIP, "answer": "a" | "b" | "same"}]}

with null for what was shown and could not be answered. Whatever else it holds is an error: answers are evidence.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from flowtts.compare import store
from flowtts.compare.listen import FOLDER, KEY
from flowtts.compare.listen_plan import FORMAT, fingerprint
from flowtts.compare.result import Result
from flowtts.compare.statistics import LIMITS, RESAMPLES, holm, sign_test
from flowtts.types import UserError

KIND = "flowtts-answers"
CHOICES = ("a", "b", "same")
_SEED = 0


class Opinion(TypedDict):
    """A mean opinion score of a system with its 95 % interval, see ``crossed_interval``.

    ``count`` ratings by ``listeners`` people.
    """

    value: float
    low: float | None
    high: float | None
    count: int
    listeners: int


class Preference(TypedDict):
    """How often ``a`` was preferred to ``b`` (wins), ``b`` to ``a`` (losses), and neither (ties).

    ``p`` is of an exact two-sided sign test, ties left out, that takes answers as independent; None if all are ties.
    ``adjusted`` is after Holm's correction over all pairs.
    """

    a: str
    b: str
    wins: int
    losses: int
    ties: int
    p: float | None
    adjusted: float | None


class Catches(TypedDict):
    """Pairs of a clip and itself: ``same`` of ``trials`` were answered with "no difference".

    ``by_listener`` has [same, trials] of each. Nobody is left out for it; that is for the reader to decide.
    """

    trials: int
    same: int
    by_listener: dict[str, list[int]]


class Ratings(TypedDict):
    """``ratings`` of ``report.json``.

    ``listeners`` answered something; ``silent`` are those whose files hold no answer. ``unanswered`` trials were shown
    and could not be answered. ``mos`` and ``smos`` are by system, without systems that nobody rated.
    """

    listeners: int
    silent: list[str]
    unanswered: int
    files: list[str]
    mos: dict[str, Opinion]
    smos: dict[str, Opinion]
    preferences: list[Preference]
    catches: Catches


@dataclass(frozen=True)
class Clip:
    """What a name stands for."""

    system: str
    item: str
    prompt: str


@dataclass(frozen=True)
class Vote:
    """An answer to one trial: a score, or who was better.

    Attributes:
        listener: who.
        clips: the one that was heard, or both.
        answer: 1 to 5, or one of ``CHOICES``; None if it could not be answered.
    """

    listener: str
    clips: tuple[Clip, ...]
    answer: int | str | None


@dataclass(frozen=True)
class Answers:
    """A file of one listener.

    Attributes:
        path: the file.
        listener: who.
        mos, smos, ab: what was answered.
    """

    path: Path
    listener: str
    mos: tuple[Vote, ...]
    smos: tuple[Vote, ...]
    ab: tuple[Vote, ...]

    @property
    def votes(self) -> tuple[Vote, ...]:
        """Everything."""
        return self.mos + self.smos + self.ab


def read_ratings(paths: Sequence[Path], folder: Path, result: Result) -> Ratings:
    """Read answers and sum them up.

    Args:
        paths: files that ``listen.html`` saved, one per listener.
        folder: of the comparison, with the key to its clips.
        result: what was compared.

    Raises:
        UserError: the key is missing or no longer fits the comparison, or a file is not what it should be: of another
            comparison, of a newer format, not JSON, with names or scores that cannot be, or of a listener who has
            another one.
    """
    mark, clips = _key(folder, result)
    files = [_answers(Path(path), mark, clips) for path in paths]
    seen: dict[str, Path] = {}
    for one in files:
        before = seen.setdefault(one.listener.casefold(), one.path)
        if before is not one.path:
            raise UserError(
                f"{one.path}: listener {one.listener!r} has answers in {before} too; give the file that was saved last"
            )
    systems = [system["name"] for system in result["systems"]]
    votes = [vote for one in files for vote in one.votes]
    silent = [one.listener for one in files if all(vote.answer is None for vote in one.votes)]
    return Ratings(
        listeners=len(files) - len(silent), silent=silent, unanswered=sum(vote.answer is None for vote in votes),
        files=[one.path.name for one in files], mos=_opinions(systems, [vote for one in files for vote in one.mos]),
        smos=_opinions(systems, [vote for one in files for vote in one.smos]),
        preferences=_preferences(systems, [vote for one in files for vote in one.ab]),
        catches=_catches([vote for one in files for vote in one.ab]),
    )  # fmt: skip


# --- reading ---------------------------------------------------------------------------------------------------------


def _key(folder: Path, result: Result) -> tuple[str, dict[str, Clip]]:
    """The fingerprint of the test that lies in the folder, and its clips by name."""
    path = folder / FOLDER / KEY
    key = store.read(path)
    if key is None:
        raise UserError(f"{path}: no key to the clips; the command that made the comparison writes it again")
    if key.get("format") != FORMAT:
        raise UserError(f"{path}: of format {key.get('format')}, this flowtts reads {FORMAT}; use its own")
    prompts = {(row["system"], row["item"]): row["prompt"] for row in result["items"]}
    mark: str | None
    clips: dict[str, Clip] = {}
    try:
        mark = fingerprint(result, key["seed"], key["trials"])
        clips = {
            name: Clip(clip["system"], clip["item"], prompts[clip["system"], clip["item"]])
            for name, clip in key["clips"].items()
        }
    except (KeyError, TypeError, AttributeError):
        mark = None
    if mark is None or mark != key.get("comparison"):
        raise UserError(
            f"{path}: the recordings have changed since this listening test was made; answers are of what was heard: "
            "read them with the report of that comparison, or ask again with the new listen.html"
        )
    return mark, clips


def _answers(path: Path, mark: str, clips: Mapping[str, Clip]) -> Answers:
    """One file, checked."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON; give the file as listen.html saved it") from error
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise UserError(f"{path}: holds no answers of a listening test; give a file that listen.html saved")
    if found.get("format") != FORMAT:
        newer = isinstance(found.get("format"), int) and found["format"] > FORMAT
        what = "update flowtts" if newer else "give the file as listen.html saved it"
        raise UserError(f"{path}: answers of format {found.get('format')!r}, this flowtts reads {FORMAT}; {what}")
    if found.get("comparison") != mark:
        raise UserError(f"{path}: answers to another listening test; give the folder of the comparison they are of")
    listener = found.get("listener")
    if not isinstance(listener, str) or not listener.strip():
        raise UserError(f'{path}: does not say who listened; write a name after "listener"')
    reading = _Reading(path, listener, clips)
    mos, smos = (reading.opinions(found, kind) for kind in ("mos", "smos"))
    return Answers(path, listener, mos, smos, reading.choices(found))


@dataclass(frozen=True)
class _Reading:
    """Checks the answers in a file."""

    path: Path
    listener: str
    clips: Mapping[str, Clip]

    def opinions(self, found: Mapping[str, Any], kind: str) -> tuple[Vote, ...]:
        """Scores by clip."""
        given = found.get(kind)
        if not isinstance(given, dict):
            raise self._wrong(f'has no "{kind}" as {{clip: score}}')
        return tuple(self._vote((name,), score, range(1, 6), "a score from 1 to 5") for name, score in given.items())

    def choices(self, found: Mapping[str, Any]) -> tuple[Vote, ...]:
        """Preferences."""
        given = found.get("ab")
        if not isinstance(given, list):
            raise self._wrong('has no "ab" as a list')
        votes, pairs = [], set()
        for one in given:
            if not isinstance(one, dict) or {"a", "b", "answer"} != one.keys():
                raise self._wrong('"ab" has an entry that is not {"a", "b", "answer"}')
            vote = self._vote((one["a"], one["b"]), one["answer"], CHOICES, f"one of {', '.join(CHOICES)}")
            pair = frozenset((one["a"], one["b"]))
            a, b = vote.clips
            if len(pair) < 2 or a.prompt != b.prompt or (a.system == b.system and a.item != b.item):
                raise self._wrong(f"compares clips that are no pair ({one['a']}, {one['b']})")
            if pair in pairs:
                raise self._wrong(f"answers one pair twice ({one['a']}, {one['b']})")
            pairs.add(pair)
            votes.append(vote)
        return tuple(votes)

    def _vote(self, names: tuple[Any, ...], answer: Any, allowed: Iterable[int | str], what: str) -> Vote:
        for name in names:
            if not isinstance(name, str) or name not in self.clips:
                raise self._wrong(f"names a clip that this test does not have ({name!r})")
        # True is 1 and 4.0 is 4 to Python; neither is what the page writes.
        if answer is not None and (type(answer) not in (int, str) or answer not in allowed):
            raise self._wrong(f"says {answer!r} of {names[-1]}, which is not {what}")
        return Vote(self.listener, tuple(self.clips[name] for name in names), answer)

    def _wrong(self, what: str) -> UserError:
        return UserError(f"{self.path}: {what}; give the file as listen.html saved it")


# --- summing up ------------------------------------------------------------------------------------------------------


def _opinions(systems: Sequence[str], votes: Sequence[Vote]) -> dict[str, Opinion]:
    found = {}
    for system in systems:
        mine = [(vote, vote.answer) for vote in votes if vote.clips[0].system == system]
        scores = [(vote, answer) for vote, answer in mine if isinstance(answer, int)]
        if scores:
            listeners = [vote.listener for vote, _ in scores]
            value, low, high = crossed_interval(
                [answer for _, answer in scores], listeners, [vote.clips[0].prompt for vote, _ in scores]
            )
            found[system] = Opinion(
                value=value, low=low, high=high, count=len(scores), listeners=len(set(listeners))
            )  # fmt: skip
    return found


def crossed_interval(
    values: Sequence[float], listeners: Sequence[str], prompts: Sequence[str]
) -> tuple[float, float | None, float | None]:
    """The mean and its 95 % interval if both listeners and prompts had been others.

    The pigeonhole bootstrap (Owen 2007, doi 10.1214/07-AOAS122): listeners and prompts are drawn with replacement,
    independently of each other, and a rating counts the product of how often its listener and its prompt were drawn. It
    errs on the wide side (Owen and Eckles 2012, arXiv 1106.2125). With one listener it is about prompts alone and says
    nothing about other people; with few it is too narrow, see ``statistics.cluster_interval``.

    Args:
        values: ratings, at least one.
        listeners: whose each is.
        prompts: what each is about.

    Returns:
        Mean, low, high; None for the interval if all ratings are one listener's of one prompt.
    """
    people, person = np.unique(listeners, return_inverse=True)
    texts, text = np.unique(prompts, return_inverse=True)
    sums = np.zeros((len(people), len(texts)))
    counts = np.zeros_like(sums)
    np.add.at(sums, (person, text), values)
    np.add.at(counts, (person, text), 1.0)
    value = float(sums.sum() / counts.sum())
    if sums.size < 2:
        return value, None, None
    rng = np.random.default_rng(_SEED)
    rows, columns = (rng.multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.float64) for n in sums.shape)
    over, under = (np.sum((rows @ matrix) * columns, 1) for matrix in (sums, counts))
    # Of ratings that are few, none may have been drawn.
    low, high = np.quantile(over[under > 0] / under[under > 0], LIMITS)
    return value, float(low), float(high)


def _preferences(systems: Sequence[str], votes: Sequence[Vote]) -> list[Preference]:
    better: Counter[tuple[str, str]] = Counter()
    ties: Counter[tuple[str, str]] = Counter()
    for vote in votes:
        pair = vote.clips[0].system, vote.clips[1].system
        if vote.answer == "same":
            ties[pair] += 1
        elif vote.answer is not None:
            better[pair if vote.answer == "a" else pair[::-1]] += 1
    found = []
    for a, b in combinations(systems, 2):
        wins, losses, tied = better[a, b], better[b, a], ties[a, b] + ties[b, a]
        if wins or losses or tied:
            p = sign_test(wins, losses) if wins or losses else None
            found.append(Preference(a=a, b=b, wins=wins, losses=losses, ties=tied, p=p, adjusted=None))
    for one, adjusted in zip(found, holm([one["p"] for one in found]), strict=True):
        one["adjusted"] = adjusted
    return found


def _catches(votes: Sequence[Vote]) -> Catches:
    by_listener: dict[str, list[int]] = {}
    for vote in votes:
        if vote.answer is not None and vote.clips[0] == vote.clips[1]:
            counted = by_listener.setdefault(vote.listener, [0, 0])
            counted[0] += vote.answer == "same"
            counted[1] += 1
    return Catches(
        trials=sum(trials for _, trials in by_listener.values()), same=sum(same for same, _ in by_listener.values()),
        by_listener=by_listener,
    )  # fmt: skip
