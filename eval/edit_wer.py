"""Word errors of an edited recording, told apart: those in the words that were put there, and those in the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowtts.compat import require
from flowtts.recognise import spoken_words
from flowtts.types import Score

from .bootstrap import ratio_interval
from .edit_items import Changes, EditItem, changes, names, sound
from .intelligibility import Recogniser
from .judging import Progress, no_progress, score


@dataclass(frozen=True)
class Errors:
    """Errors and words of either part."""

    span: int
    span_words: int
    rest: int
    rest_words: int


def attribute(wanted: Sequence[str], edited: Sequence[bool], heard: Sequence[str]) -> Errors:
    """Align what was heard with what was wanted and say in which part each error lies.

    A substitution or deletion lies where its wanted word does. Words heard too many lie in the edited part if they
    touch an edited word on either side: next to an edit, it is the edit that is in doubt.

    Args:
        wanted: the words wanted, at least one.
        edited: of each, whether it was put there.
        heard: words.

    Raises:
        UserError: the extra "eval" is missing.
    """
    jiwer = require("jiwer", "eval")
    found = jiwer.process_words(" ".join(wanted), " ".join(heard))
    errors = {True: 0, False: 0}
    for chunk in found.alignments[0]:
        if chunk.type == "equal":
            continue
        if chunk.type == "insert":
            place = chunk.ref_start_idx
            errors[any(edited[max(0, place - 1) : place + 1])] += chunk.hyp_end_idx - chunk.hyp_start_idx
            continue
        for index in range(chunk.ref_start_idx, chunk.ref_end_idx):
            errors[edited[index]] += 1
    return Errors(errors[True], sum(edited), errors[False], len(edited) - sum(edited))


def judge_words(
    items: Sequence[EditItem],
    recogniser: Recogniser,
    suffix: str = "",
    transcripts: Mapping[str, str] | None = None,
    before: bool = True,
    progress: Progress = no_progress,
) -> dict[str, Score]:
    """Word error rates of edits; 0.05 means 5 %, lower is better.

    ``wer-span``: of the words that were put there. ``wer-rest``: of the words that were kept. ``wer-rest-before``: of
    the same words in the recording before it was edited, which is what ``wer-rest`` should not exceed.
    ``wer-before``: of all words of that recording: how well the recogniser hears the speaker at all.
    A closed vocabulary knows the texts before and after, in both cases.

    Args:
        items: edits.
        recogniser: hears whole recordings, since a word cut out of its sentence is hard for anybody.
        suffix: of the scores' names, e.g. "-closed".
        transcripts: what is already known to be heard in the outputs, by name.
        before: whether to listen to the recordings before the edit too.
        progress: called per edit.
    """
    named = dict(zip(names(items), items, strict=True))
    found = {name: changes(item.text, item.to) for name, item in named.items()}
    known = transcripts or {}
    judged = [name for name in named if found[name].wanted]
    transcribe = recogniser.open([text for name in judged for text in (named[name].text, named[name].to)])
    after: dict[str, Errors] = {}
    earlier: dict[str, Errors] = {}
    for done, name in enumerate(judged):
        progress(f"wer{suffix}", done, len(judged))
        item, own = named[name], found[name]
        heard = known[name] if name in known else transcribe(sound(item.output))
        after[name] = attribute(own.wanted, own.edited, spoken_words(heard))
        if before:
            source = changes(item.to, item.text)
            if source.wanted:
                said = spoken_words(transcribe(sound(item.input)))
                earlier[name] = attribute(source.wanted, source.edited, said)
    progress(f"wer{suffix}", len(judged), len(judged))
    rates = {
        f"wer-span{suffix}": _rate({n: (e.span, e.span_words) for n, e in after.items()}, named, found, recogniser),
        f"wer-rest{suffix}": _rate({n: (e.rest, e.rest_words) for n, e in after.items()}, named, found, recogniser),
    }
    if before:
        kept = {n: (e.rest, e.rest_words) for n, e in earlier.items()}
        whole = {n: (e.span + e.rest, e.span_words + e.rest_words) for n, e in earlier.items()}
        rates[f"wer-rest-before{suffix}"] = _rate(kept, named, found, recogniser)
        rates[f"wer-before{suffix}"] = _rate(whole, named, found, recogniser)
    return rates


def _rate(
    counts: Mapping[str, tuple[int, int]],
    named: Mapping[str, EditItem],
    found: Mapping[str, Changes],
    recogniser: Recogniser,
) -> Score:
    used = {name: pair for name, pair in counts.items() if pair[1]}
    dropped = {
        name: "no such word in its text" if found[name].wanted else "its text has no words"
        for name in named
        if name not in used
    }
    interval = ratio_interval([e for e, _ in used.values()], [float(n) for _, n in used.values()])
    rates, words = {name: e / n for name, (e, n) in used.items()}, {name: float(n) for name, (_, n) in used.items()}
    return score(interval, rates, dropped, recogniser.backend, weights=words)
