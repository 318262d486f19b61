"""flowtts.edit.locate, .ear and .anchors: words of a long recording.

The search is proved on sound that a few lines can recognise: every word is a tone-free block of its own level.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from flowtts.alignment.base import Alignment, PhoneTime, gather_words
from flowtts.audio import io
from flowtts.edit.anchors import Transcript
from flowtts.edit.ear import SAMPLE_RATE
from flowtts.edit.locate import CONTEXT, SHORT, Located, align_long, locate
from flowtts.edit.recording import Recording
from flowtts.text import Analysis, FrontEnd, TextWord
from flowtts.types import Audio, UserError

VOICES = Path(__file__).parents[2] / "flowtts" / "voices"
BASE, STEP, MUSIC = 0.1, 1e-4, -0.5
SUNG = ["sailors", "didn't", "sing", "that", "night", "and", "nobody", "asked"]


def spelled(number: int) -> str:
    return "".join(chr(97 + number // 26**place % 26) for place in (2, 1, 0))


def number_of(word: str) -> int:
    return sum((ord(letter) - 97) * 26**place for letter, place in zip(word, (2, 1, 0), strict=True))


def text_of(numbers: Sequence[int]) -> list[TextWord]:
    return [TextWord(spelled(n), 4 * i, 4 * i + 3, ("AA1", "B", "K")) for i, n in enumerate(numbers)]


@dataclass
class World:
    """A recording under construction and the true times of its words."""

    parts: list[np.ndarray] = field(default_factory=list)
    length: int = 0
    times: list[tuple[float, float]] = field(default_factory=list)

    def add(self, seconds: float, level: float) -> tuple[float, float]:
        count = round(seconds * SAMPLE_RATE)
        self.parts.append(np.full(count, level, np.float32))
        self.length += count
        return (self.length - count) / SAMPLE_RATE, self.length / SAMPLE_RATE

    def say(self, numbers: Sequence[int], rng: random.Random, pace: float = 1.0) -> None:
        for i, n in enumerate(numbers):
            self.times.append(self.add(rng.uniform(0.25, 0.45) * pace, BASE + STEP * n))
            self.add(0.5 if i % 9 == 8 else rng.choice((0.01, 0.02, 0.1)), 0.0)

    def recording(self) -> Recording:
        return Recording.open(Audio(np.concatenate(self.parts), SAMPLE_RATE))


def blocks(audio: Audio) -> list[tuple[str, float, float]]:
    """Words with times, seconds; cut ones too."""
    edges = np.flatnonzero(np.diff(audio.samples)) + 1
    bounds = [0, *edges.tolist(), len(audio.samples)]
    found = []
    for start, end in pairwise(bounds):
        level = float(audio.samples[start])
        if level > BASE / 2:
            found.append((spelled(round((level - BASE) / STEP)), start / SAMPLE_RATE, end / SAMPLE_RATE))
    return found


@dataclass
class Listener:
    """Hears whole words, music as words of nowhere, and misunderstands one in ten."""

    seconds: float = 0.0
    longest: float = 0.0

    def transcribe(self, audio: Audio) -> str:
        self.seconds += audio.seconds
        self.longest = max(self.longest, audio.seconds)
        heard = [word for word, start, end in blocks(audio) if end - start > 0.2]
        heard = ["zzz" if number_of(word) % 10 == 3 else word for word in heard]
        return " ".join(heard) if heard or not (audio.samples < 0).any() else "zzz zzz zzz zzz zzz zzz"


class Aligner:
    """Words that are there get their times, others a moment and a deficit that says so."""

    name = "blocks"

    def align(self, audio: Audio, analysis: Analysis) -> Alignment:
        said = blocks(audio)
        wanted = [word.text for word in analysis.words]
        places: dict[int, tuple[float, float]] = {}
        for i, j, n in SequenceMatcher(None, wanted, [w for w, _, _ in said], autojunk=False).get_matching_blocks():
            places.update({i + k: said[j + k][1:] for k in range(n)})
        phones, deficits, clock = [], [], 0.0
        for phone in analysis.phones:
            start, end = places.get(phone.word, (clock, clock)) if phone.word >= 0 else (clock, clock)
            if phone.word >= 0 and phone.word in places:
                own = [p for p in analysis.phones if p.word == phone.word]
                at = own.index(phone)
                start, end = (start + (end - start) * k / len(own) for k in (at, at + 1))
                if phones and phones[-1].word < 0:
                    phones[-1] = PhoneTime(phones[-1].symbol, -1, phones[-1].start, max(clock, start))
                    clock = phones[-1].end
            phones.append(PhoneTime(phone.symbol, phone.word, clock, max(clock, end)))
            deficits.append(2.0 if phone.word in places else 12.0)
            clock = phones[-1].end
        phones[-1] = PhoneTime(phones[-1].symbol, -1, phones[-1].start, max(clock, audio.seconds))
        words, losses = gather_words(analysis, phones, deficits, lambda loss: float(loss < 6))
        return Alignment(words, tuple(phones), losses, 7.0)


def found(world: World, numbers: Sequence[int], first: int, last: int, listener: Listener | None = None) -> Located:
    return locate(
        world.recording(), text_of(numbers), first, last, listener=listener or Listener(), aligner=Aligner()
    )  # fmt: skip


def check(world: World, place: Located, first: int, last: int) -> None:
    """The window holds exactly its words, none cut, and enough of them."""
    inside = [i for i, (start, end) in enumerate(world.times) if end > place.start and start < place.end]
    assert (inside[0], inside[-1] + 1) == (place.first, place.last)
    assert place.start <= world.times[place.first][0] and world.times[place.last - 1][1] <= place.end
    assert place.first <= first and last <= place.last
    assert place.first == 0 or world.times[min(first, len(world.times) - 1)][0] - place.start >= CONTEXT
    assert place.last == len(world.times) or place.end - world.times[max(last - 1, 0)][1] >= CONTEXT
    assert place.end - place.start < 26.0


def plain(words: int, seed: int = 0) -> tuple[World, list[int]]:
    rng = random.Random(seed)
    numbers = [rng.randrange(2000) for _ in range(words)]
    world = World()
    world.say(numbers, rng)
    return world, numbers


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 0), (2, 3), (300, 303), (450, 450), (897, 899), (900, 900)])
def test_words_of_steady_speech(first: int, last: int) -> None:
    world, numbers = plain(900)
    check(world, found(world, numbers, first, last), first, last)


def uneven() -> tuple[World, list[int]]:
    """Music, slow speech, a long silence, fast speech with a paragraph nobody wrote down, music."""
    rng = random.Random(1)
    numbers = [rng.randrange(2000) for _ in range(1000)]
    world = World()
    world.add(70.0, MUSIC)
    world.add(1.0, 0.0)
    world.say(numbers[:300], rng, 1.5)
    world.add(120.0, 0.0)
    world.say(numbers[300:600], rng, 0.8)
    kept = list(world.times)
    world.say([rng.randrange(2000) for _ in range(150)], rng)
    world.times = kept
    world.say(numbers[600:], rng, 0.8)
    world.add(1.0, 0.0)
    world.add(60.0, MUSIC)
    return world, numbers


@pytest.mark.parametrize("first", [15, 120, 280, 330, 500, 660, 980])
def test_words_of_a_recording_whose_pace_says_little(first: int) -> None:
    world, numbers = uneven()
    check(world, found(world, numbers, first, first + 3), first, first + 3)


def test_a_window_at_the_ends_of_the_text_does_not_reach_into_minutes_of_music() -> None:
    world, numbers = uneven()
    place = found(world, numbers, 0, 1)
    assert place.first == 0 and 69.0 < place.start <= 71.0
    place = found(world, numbers, 999, 1000)
    assert place.last == 1000 and world.times[-1][1] <= place.end < world.times[-1][1] + 1.5


def test_a_long_stretch_of_words_is_found_by_its_ends() -> None:
    world, numbers = plain(900)
    place = found(world, numbers, 200, 500)
    assert place.first <= 195 and place.last >= 505
    assert place.start <= world.times[place.first][0] < place.start + 1
    assert place.end - 1 < world.times[place.last - 1][1] <= place.end


def test_what_is_listened_to_does_not_grow_with_the_recording() -> None:
    heard = []
    for words in (600, 2400):
        listener = Listener()
        world, numbers = plain(words)
        found(world, numbers, words // 3, words // 3 + 2, listener)
        assert listener.longest < 25.0
        heard.append(listener.seconds)
    assert heard[1] <= heard[0] + 45.0


def test_sentences_that_repeat_are_told_apart_by_what_surrounds_them() -> None:
    rng = random.Random(3)
    refrain = [rng.randrange(2000) for _ in range(15)]
    numbers = [n for _ in range(12) for n in (*refrain, *(rng.randrange(2000) for _ in range(40)))]
    world = World()
    world.say(numbers, rng)
    for verse in (2, 7, 11):
        check(world, found(world, numbers, verse * 55 + 4, verse * 55 + 6), verse * 55 + 4, verse * 55 + 6)


def test_nothing_but_repetition_is_told_apart_by_time() -> None:
    rng = random.Random(4)
    refrain = [rng.randrange(2000) for _ in range(70)]
    world = World()
    world.say(refrain * 8, rng)
    check(world, found(world, refrain * 8, 300, 302), 300, 302)


def test_a_short_recording_is_one_window() -> None:
    world, numbers = plain(40)
    assert world.recording().seconds < SHORT
    assert found(world, numbers, 3, 4) == Located(0.0, world.recording().seconds, 0, 40)


def test_another_text_is_refused_with_place_and_words() -> None:
    world, numbers = plain(300)
    others = [n + 2000 for n in numbers]
    with pytest.raises(UserError, match=rf"'{spelled(others[100])} .*\(word 101 of 300\) is not said between 0.0 s"):
        found(world, others, 100, 101)


def test_words_that_were_never_said_are_refused_where_they_should_be() -> None:
    world, numbers = plain(600)
    extra = [*numbers[:300], *range(2100, 2200), *numbers[300:]]
    with pytest.raises(UserError, match=r"\(word 351 of 700\)") as caught:
        found(world, extra, 350, 352)
    between = [float(x) for x in re.findall(r"([\d.]+) s", str(caught.value))]
    assert between[0] - 25 < world.times[300][0] < between[1] + 25
    # The rest of the text is found all the same.
    place = found(world, extra, 600, 602)
    assert world.times[500][0] - 15 < place.start < world.times[500][0] - CONTEXT


@pytest.mark.parametrize(("first", "last"), [(-1, 1), (5, 4), (0, 41)])
def test_words_outside_the_text(first: int, last: int) -> None:
    world, numbers = plain(40)
    with pytest.raises(ValueError, match="no words"):
        found(world, numbers, first, last)


def test_phones_that_are_not_english_are_refused() -> None:
    world, numbers = plain(200)
    foreign = [TextWord(w.text, w.start, w.end, ("œ", "ʁ")) for w in text_of(numbers)]
    with pytest.raises(UserError, match="English"):
        locate(world.recording(), foreign, 3, 4)


@pytest.mark.parametrize("make", [lambda: plain(500), uneven])
def test_times_of_all_words(make) -> None:  # type: ignore[no-untyped-def]
    world, numbers = make()
    if make is uneven:
        # A paragraph that the text lacks would stop it.
        rng = random.Random(5)
        world = World()
        world.add(70.0, MUSIC)
        world.say(numbers[:300], rng, 1.5)
        world.add(120.0, 0.0)
        world.say(numbers[300:], rng, 0.8)
    seen: list[float] = []
    words = align_long(
        world.recording(), text_of(numbers), lambda done, _: seen.append(done), listener=Listener(), aligner=Aligner()
    )
    assert [w.text for w in words] == [spelled(n) for n in numbers]
    assert np.abs(np.array([(w.start, w.end) for w in words]) - np.array(world.times)).max() < 0.05
    assert seen == sorted(seen) and len(seen) > 5


def test_times_of_all_words_stop_where_the_text_departs() -> None:
    world, numbers = plain(400)
    with pytest.raises(UserError, match="does not fit the recording") as caught:
        align_long(
            world.recording(),
            text_of([*numbers[:200], *range(2100, 2300), *numbers[200:]]),
            listener=Listener(),
            aligner=Aligner(),
        )
    word = int(re.search(r"word (\d+) of", str(caught.value)).group(1))  # type: ignore[union-attr]
    assert 180 <= word <= 201


def test_a_transcript_knows_several_tokens_of_one_word() -> None:
    words = FrontEnd().analyse("Twenty-four sailors didn't sing that night, and nobody asked them why.").words
    transcript = Transcript.of(words)
    assert transcript.tokens[:4] == ("twenty", "four", "sailors", "didn't")
    assert len(transcript.weights) == len(words) + 1
    heard = ["knight" if w == "night" else w for w in SUNG]
    match = transcript.match(heard, 0, len(words), 0)
    assert match is not None and match.agreement == 7 / 8
    assert [w.text for w in words[match.first : match.last]] == SUNG
    assert transcript.match(["completely", "other", "words", "were", "spoken", "here"], 0, len(words), 0) is None
    assert transcript.match([], 0, len(words), 0) is None


def test_shipped_voices_one_after_another() -> None:
    rng = np.random.default_rng(0)
    parts, texts, starts, counts = [], [], [0.0], []
    for name in ("rms", "slt", "reader-f", "awb"):
        audio = io.read(VOICES / f"{name}.flac")
        gap = rng.normal(0, 3e-4, 2 * SAMPLE_RATE).astype(np.float32)
        parts += [audio.samples, gap]
        starts.append(starts[-1] + (len(audio.samples) + len(gap)) / SAMPLE_RATE)
        texts.append((VOICES / f"{name}.txt").read_text(encoding="utf-8").strip())
        counts.append(len(FrontEnd().analyse(texts[-1]).words))
    recording = Recording.open(Audio(np.concatenate(parts), SAMPLE_RATE))
    assert recording.seconds > SHORT
    words = FrontEnd().analyse(" ".join(texts)).words
    edges = np.cumsum([0, *counts]).tolist()
    # The third word of the fourth voice: the window reaches to the end and back into the third voice or its pause.
    place = locate(recording, words, edges[3] + 2, edges[3] + 3)
    assert place.end == recording.seconds and place.last == len(words)
    assert edges[2] < place.first <= edges[3] - 4
    assert starts[2] < place.start < starts[3] - 2 - 1
