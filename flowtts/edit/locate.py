"""Finding words in a long recording without aligning all of it, and timing all words of one window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from flowtts.alignment.base import Aligner
from flowtts.alignment.choose import english_aligner
from flowtts.alignment.pocketsphinx import to_arpabet
from flowtts.edit.anchors import Transcript
from flowtts.edit.ear import Ear, Gap, Heard, Listener, Timed
from flowtts.edit.recording import Recording
from flowtts.recognise import PocketsphinxRecogniser
from flowtts.text.analysis import TextWord
from flowtts.text.symbols import CONSONANTS, VOWELS
from flowtts.types import UserError, Word

SHORT = 30.0
"""Seconds up to which a recording is one window."""

CONTEXT = 4.0
"""Seconds of words wanted on both sides of the words to change."""

_LISTEN = 12.0
_WINDOWS = 40
"""Most windows that are listened to for one place."""

_NEAR = 45.0
"""Seconds that the pace of the speech just heard is trusted to predict."""

_REACH = 7.0
"""Seconds beyond the context among which a pause to cut at is sought."""

_EDGE = 3.5
_SLACK = 1.5
_TRIES = 6
_LEAD = 0.5
_MARGIN = 60
"""Words by which anchors may be off."""

_PHONES = frozenset((*CONSONANTS, *VOWELS))
_STEP = 14.0
_RUN = 400
_SKIPPED = 4
_FASTEST = 25.0
"""Phones per second that nobody exceeds."""

_UNBELIEVED = 0.2
"""Mean confidence of words, not recognised before, below which they were not said."""

_PATCHWORK = 45.0
"""Longest stretch, seconds, whose words were heard only in part and are aligned all the same."""


@dataclass(frozen=True)
class Located:
    """A window: words [first, last) of the text, and none beside them, are said in [start, end) seconds."""

    start: float
    end: float
    first: int
    last: int


def locate(
    recording: Recording,
    words: Sequence[TextWord],
    first: int,
    last: int,
    *,
    listener: Listener | None = None,
    aligner: Aligner | None = None,
) -> Located:
    """Find where words of a long text are said, with some seconds around them, cut at pauses.

    A window of 12 s is listened to where the share of the text says that the words should be; what was heard there,
    matched with the text, says where to listen next. Music, silence and pace that changes only cost further windows.
    Then the stretch around each end is aligned and the window is cut in a pause between two of its words. Only
    the windows are read, so that memory does not depend on the length of the recording.

    Args:
        recording: what was recorded; up to 30 s it is one window.
        words: of the whole analysed text (``Analysis.words``).
        first: first word to find.
        last: one past the last; equal to ``first`` for the place between two words.
        listener: recognises words; by default pocketsphinx expecting the words of the text.
        aligner: times known words.

    Raises:
        UserError: the words are not said where the text has them; names the time and the words.
    """
    if not words or not 0 <= first <= last <= len(words):
        raise ValueError(f"no words [{first}, {last}) in a text of {len(words)}")
    if recording.seconds <= SHORT:
        return Located(0.0, recording.seconds, 0, len(words))
    search = _Search(_ear(recording, words, listener, aligner))
    left, right = min(first, len(words) - 1), max(last - 1, first - 1, 0)
    start, begin = search.cut_before(min(left, right))
    end, finish = search.cut_after(max(left, right))
    return Located(start, end, begin, finish)


def align_long(
    recording: Recording,
    words: Sequence[TextWord],
    progress: Callable[[float, float], None] | None = None,
    *,
    listener: Listener | None = None,
    aligner: Aligner | None = None,
) -> list[Word]:
    """Times of all words of a recording of any length, window after window in bounded memory.

    Args:
        recording: what was recorded.
        words: of the whole analysed text (``Analysis.words``).
        progress: called with the seconds done and the length of the recording.
        listener: see ``locate``.
        aligner: see ``locate``.

    Raises:
        UserError: the recording departs from the text; names the time and the words.
    """
    ear = _ear(recording, words, listener, aligner)
    done: list[Word] = []
    seconds = recording.seconds
    if seconds <= SHORT:
        return list(ear.time(Heard(0.0, seconds, 0, len(words))).words)
    # Where the words so far end, and the windows since then in which no words were recognised.
    start, deaf = 0.0, list[tuple[float, float]]()
    while len(done) < len(words):
        place = deaf[-1][1] if deaf else start
        if place >= seconds - 0.1:
            raise _departs(ear, len(done), start, seconds)
        end = ear.quiet(place + _STEP - 3.0, place + _STEP + 3.0)
        end = seconds if seconds - end < _EDGE else end
        heard = ear.hear(place, end, len(done) - _MARGIN, len(done) + _RUN, len(done) + 20)
        if heard is None or heard.last <= len(done):
            deaf.append((place, end))
            continue
        last = len(words) if end >= seconds and heard.last >= len(words) - _SKIPPED else heard.last
        for timed in _bridged(ear, replace(heard, last=last), len(done), start, deaf):
            inside = timed.first + len(timed.words) == last and last < len(words)
            cut = _end_cut(timed, end) if inside else timed.gaps[-1]
            done += timed.words[: cut.word - timed.first]
        start, deaf = cut.cut, []
        if progress is not None:
            progress(min(start, seconds), seconds)
    return done


def _bridged(ear: Ear, heard: Heard, word: int, start: float, deaf: Sequence[tuple[float, float]]) -> list[Timed]:
    """Times of the words from ``word`` to the last one heard, those included that were not recognised in between.

    Raises:
        UserError: there are more of them than can have been overheard.
    """
    missing = heard.first - word
    if missing <= 0:
        return [ear.time(replace(heard, first=word))]
    phones = float(ear.transcript.weights[heard.first] - ear.transcript.weights[word])
    near = heard.end - start <= _PATCHWORK
    if missing > _SKIPPED and (not near or phones > _FASTEST * (heard.start - start)):
        raise _departs(ear, word, start, heard.start)
    joined = ear.time(replace(heard, start=start if near or not deaf else deaf[-1][0], first=word))
    if near:
        if missing > _SKIPPED and _belief(joined.words[:missing]) < _UNBELIEVED:
            raise _departs(ear, word, start, heard.start)
        return [joined]
    # A long silence or music: a few words were said before it or after it.
    try:
        before = ear.time(Heard(*deaf[0], word, heard.first))
    except UserError:
        return [joined]
    if _belief(before.words) < _belief(joined.words[:missing]):
        return [joined]
    return [before, ear.time(heard)]


def _belief(words: Sequence[Word]) -> float:
    """Mean confidence; 1 where nothing was measured."""
    return sum(1.0 if w.confidence is None else w.confidence for w in words) / max(len(words), 1)


def _ear(
    recording: Recording, words: Sequence[TextWord], listener: Listener | None, aligner: Aligner | None
) -> Ear:  # fmt: skip
    foreign = next((p for word in words for p in word.phones if to_arpabet(p) not in _PHONES), None)
    if foreign is not None and (listener is None or aligner is None):
        raise UserError(
            f"{recording.name}: recordings longer than {SHORT:.0f} s are searched by pocketsphinx, which knows English "
            f"only and not the phone '{foreign}'; cut it to {SHORT:.0f} s around the words to change"
        )
    transcript = Transcript.of(words)
    if listener is None:
        # The whole text: its bigrams cost 0.1 s for 9,000 words, and words from elsewhere tell where the sound is.
        listener = PocketsphinxRecogniser([" ".join(transcript.tokens)], transcript.pronounce)
    return Ear(recording, transcript, listener, aligner or english_aligner())


def _end_cut(timed: Timed, end: float) -> Gap:
    """The clearest gap in the later part of a window, some words away from its uncertain end."""
    inner = timed.gaps[1:-1]
    late = [gap for gap in inner if end - 6.0 <= gap.cut <= end - 1.0] or [*inner[-3:-1], *timed.gaps[-1:]][:1]
    return max(late, key=_clarity)


def _clarity(gap: Gap) -> float:
    """How good a place to cut a gap between words is: a long pause, a quiet one, between words that are sure."""
    return 5.0 * min(gap.end - gap.start, 0.4) + min(gap.depth, 45.0) / 15.0 + 3.0 * gap.trust


def _departs(ear: Ear, word: int, start: float, end: float) -> UserError:
    some = " ".join(w.text for w in ear.transcript.words[word : word + 6])
    return UserError(
        f"{ear.recording.name}: the transcript does not fit the recording: '{some}' (word {word + 1} of "
        f"{len(ear.transcript.words)}) is not said between {start:.1f} s and {end:.1f} s, where the text has it; "
        "give the words that are said there"
    )


@dataclass(eq=False)
class _Search:
    """What was heard so far of a recording, by place.

    Attributes:
        ear: listens.
        heard: windows whose words are known, in order of their words.
        deaf: windows in which nothing of the text was recognised, seconds.
    """

    ear: Ear
    heard: list[Heard] = field(default_factory=list)
    deaf: list[tuple[float, float]] = field(default_factory=list)

    def cut_before(self, word: int) -> tuple[float, int]:
        """A pause at least ``CONTEXT`` before a word, seconds, and the word that follows the pause."""
        timed = self._around(word, CONTEXT + _REACH, _EDGE)
        if timed.first == 0 and timed.gaps[0].start <= 0.0 and word == 0:
            lead = timed.gaps[0]
            return (0.0 if lead.end < CONTEXT + _REACH else lead.end - _LEAD), 0
        at = timed.words[word - timed.first].start
        # The edges of what was aligned are uncertain, except for the beginning of the text.
        gaps = [g for g in timed.gaps if g.word <= word and (g.word == 0 or g.word >= timed.first + 2)]
        gap = _choose([g for g in gaps if g.word <= word], lambda g: at - g.cut)
        if gap is None:
            gap = timed.gaps[0]
        if gap.word == 0:
            return (0.0 if gap.end < CONTEXT + _REACH else gap.end - _LEAD), 0
        return gap.cut, self.ear.first_word(timed, gap)

    def cut_after(self, word: int) -> tuple[float, int]:
        """A pause at least ``CONTEXT`` after a word, seconds, and one past the word before the pause."""
        timed = self._around(word, _EDGE, CONTEXT + _REACH)
        words, seconds = len(self.ear.transcript.words), self.ear.recording.seconds
        after = timed.words[word - timed.first].end
        known = timed.first + len(timed.words)
        gaps = [g for g in timed.gaps if g.word > word and (g.word == words or g.word <= known - 2)]
        gap = _choose(gaps, lambda g: g.cut - after)
        if gap is None:
            gap = timed.gaps[-1]
        if gap.word == words:
            rest = seconds - gap.start
            return (seconds if rest < CONTEXT + _REACH else gap.start + _LEAD), words
        return gap.cut, self.ear.last_word(timed, gap)

    def _around(self, word: int, before: float, after: float) -> Timed:
        """Times of the words in a stretch that holds a word and so many seconds around it."""
        found = self._find(word)
        for attempt in range(_TRIES):
            at = self._when(word, found, exact=attempt > 0)
            start = self.ear.quiet(at - before - _SLACK, at - before + _SLACK)
            end = self.ear.quiet(at + after - _SLACK + 0.5, at + after + _SLACK + 0.5)
            heard = self.ear.hear(start, end, word - _MARGIN - 60, word + _MARGIN + 60, word)
            if heard is None and attempt:
                break
            if heard is None:
                continue
            if heard.first <= word < heard.last:
                timed = self.ear.time(heard)
                at = timed.words[word - timed.first].start
                inside = (heard.first == 0 or at - start > before / 2) and (
                    heard.last == len(self.ear.transcript.words) or end - at > after / 2
                )
                if inside or heard == found:
                    return timed
            found = heard
        raise _departs(self.ear, word, max(0.0, found.start), found.end)

    def _when(self, word: int, found: Heard, exact: bool) -> float:
        """When a word in or near a window is said: from its share of the words, or exactly, by aligning them."""
        if exact and found.first <= word < found.last:
            return self.ear.time(found).words[word - found.first].start
        weights = self.ear.transcript.weights
        share = (weights[word] - weights[found.first]) / max(weights[found.last] - weights[found.first], 1.0)
        return found.start + min(max(float(share), 0.0), 1.0) * (found.end - found.start)

    def _find(self, word: int) -> Heard:
        """A window in which a word is said, by the secant method on what was heard on either side."""
        words, seconds = len(self.ear.transcript.words), self.ear.recording.seconds
        low, high = Heard(0.0, 0.0, 0, 0), Heard(seconds, seconds, words, words)
        for _ in range(_WINDOWS):
            for heard in self.heard:
                if heard.first <= word < heard.last:
                    return heard
            low = max((h for h in self.heard if h.last <= word), key=lambda h: h.end, default=low)
            high = min((h for h in self.heard if h.first > word), key=lambda h: h.start, default=high)
            middle = self._untried(self._guess(word, low, high), low.end, high.start)
            if middle is None:
                break
            start = max(0.0, min(middle - _LISTEN / 2, seconds - _LISTEN))
            start, end = self.ear.quiet(start - 1, start + 1), self.ear.quiet(start + _LISTEN - 1, start + _LISTEN + 1)
            expected = self._expected((start + end) / 2, low, high)
            found = self.ear.hear(start, end, low.last - _MARGIN, high.first + _MARGIN, expected)
            if found is None:
                # A window at an end of the recording stands for all guesses beyond its middle.
                at_start, at_end = start <= 0, end >= seconds
                self.deaf.append((start - _LISTEN * at_start, end + _LISTEN * at_end))
            else:
                self.heard.append(found)
        raise _departs(self.ear, word, low.end, high.start)

    def _guess(self, word: int, low: Heard, high: Heard) -> float:
        """When a word should be said: at the pace of the speech near by, or in proportion between two anchors."""
        weights = self.ear.transcript.weights
        for side in (low, high):
            if side.end > side.start:
                pace = (weights[side.last] - weights[side.first]) / (side.end - side.start)
                middle = (weights[side.last] + weights[side.first]) / 2
                far = float(weights[word] - middle) / max(float(pace), 1.0)
                guess = (side.start + side.end) / 2 + far
                if abs(far) < _NEAR and low.end <= guess <= high.start:
                    return guess
        span = max(float(weights[high.first] - weights[low.last]), 1.0)
        share = float(weights[word] - weights[low.last]) / span
        return low.end + min(max(share, 0.0), 1.0) * (high.start - low.end)

    def _expected(self, time: float, low: Heard, high: Heard) -> float:
        """The word that should be said at a time."""
        share = (time - low.end) / max(high.start - low.end, 1.0)
        return low.last + min(max(share, 0.0), 1.0) * (high.first - low.last)

    def _untried(self, guess: float, low: float, high: float) -> float | None:
        """A place near a guess, between two times, that was not listened to in vain; None if there is none.

        Steps away from the guess grow, so that minutes of music cost few windows; then what was left out is filled.
        """
        grown = [_LISTEN / 2 * k * (k + 1) / 2 for k in range(_WINDOWS)]
        even = [_LISTEN / 2 * k for k in range(4 * _WINDOWS)]
        for step in (*grown, *even):
            for place in (guess - step, guess + step):
                if low <= place <= high and not any(start + 4.0 <= place <= end - 4.0 for start, end in self.deaf):
                    return place
        return None


def _choose(gaps: Sequence[Gap], context: Callable[[Gap], float]) -> Gap | None:
    """The clearest gap with enough context, nearer ones preferred; without any the one with the most context."""
    enough = [gap for gap in gaps if context(gap) >= CONTEXT]
    if enough:
        return max(enough, key=lambda gap: _clarity(gap) - (context(gap) - CONTEXT) / 5.0)
    return max(gaps, key=context, default=None)
