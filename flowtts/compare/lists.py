"""Published test lists, so that published tables can be measured again by whoever has the recordings.

* ``seed-tts``: the lists of seed-tts-eval (github.com/BytedanceSpeech/seed-tts-eval, README): ``en/meta.lst``,
  ``zh/meta.lst``, ``zh/hardcase.lst``.
* ``librispeech-pc``: F5-TTS's list of LibriSpeech-PC test-clean (github.com/SWivid/F5-TTS,
  ``data/librispeech_pc_test_clean_cross_sentence.lst``, read there by ``src/f5_tts/eval/utils_eval.py``).
* ``voicebox`` and ``voicebox-continuation``: the protocol of VALL-E (arXiv 2301.02111, section 5.2) and Voicebox
  (arXiv 2306.15687, section 5.2) on LibriSpeech test-clean, of which no list was published.
"""

from __future__ import annotations

import os
import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowtts.bench.sentences import file_name, read_lines
from flowtts.compare.prompts import Asked, Found, ready, seconds_of
from flowtts.types import UserError

SHORTEST, LONGEST = 4.0, 10.0
"""Seconds of the utterances that Voicebox and VALL-E are tested on, both ends included."""

PROMPT = 3.0
"""Seconds of the prompt there."""

_SEED_TTS = "seed-tts has name|prompt text|prompt|text[|recording]"
_LIBRISPEECH_PC = "librispeech-pc has utterance, seconds, text of the prompt, then of what is said, tabs between"
_UTTERANCE = re.compile(r"\d+-\d+-\d+")
_I = re.compile(r"\bi\b")


def guess(path: Path) -> str:
    """The format of a file, told by what it holds.

    Raises:
        UserError: it could be several, or is none.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; say what to make of it: --format voicebox or voicebox-continuation")
    lines = [line for _, line in read_lines(path, "prompts")]
    if not lines or {"id", "text"} & set(lines[0].split("\t")):
        return "tsv"
    tabs = [line.split("\t") for line in lines]
    if all(len(cells) == 6 and _UTTERANCE.fullmatch(cells[0]) and _UTTERANCE.fullmatch(cells[3]) for cells in tabs):
        return "librispeech-pc"
    if all(line.count("|") in (3, 4) and "\t" not in line for line in lines):
        return "seed-tts"
    if len(tabs[0]) > 1:
        return "tsv"
    raise UserError(f"{path}: cannot tell what kind of list this is; say it with --format tsv, {' or '.join(FORMATS)}")


def read_list(path: Path, format: str, root: Path | None, count: int | None) -> tuple[Asked, ...]:
    """Prompts of a published list; see ``FORMATS`` and ``read_prompts``.

    Raises:
        UserError: the list is wrong, or a recording is missing, unreadable or outside ``root``.
    """
    return FORMATS[format](path, root, count)


def seed_tts(path: Path, root: Path | None = None, count: int | None = None) -> tuple[Asked, ...]:
    """A list of seed-tts-eval: ``name|text of the prompt|prompt|text[|recording of the text]`` per line.

    Where the recording of the text is not named, ``wavs/NAME.wav`` is it, if that is there, as F5-TTS reads it.

    Args:
        path: the list.
        root: where its recordings lie; the list's folder if None.
        count: prompts from its beginning; recordings of the others need not be there.
    """
    folder = path.parent if root is None else root
    name = f"seed-tts-{path.resolve().parent.name}-{path.stem}"
    found: Found = []
    for line, text in read_lines(path, "prompts"):
        where = f"{path} line {line}"
        cells = [cell.strip() for cell in text.split("|")]
        if len(cells) not in (4, 5):
            raise UserError(f"{where}: has {len(cells)} fields, not 4 or 5; {_SEED_TTS}")
        if not all(cells[:4]):
            raise UserError(f"{where}: a field is empty; {_SEED_TTS}")
        id, prompt_text, prompt, wanted = cells[:4]
        file_name(path, line, id)
        beside = _inside(folder, f"wavs/{id}.wav", where)
        reference = beside if beside.is_file() else None
        if len(cells) == 5 and cells[4]:
            reference = _inside(folder, cells[4], where)
        voice = _inside(folder, prompt, where)
        found.append((line, Asked(id, wanted, voice, prompt_text, reference, voice.stem, set=name)))
    return ready(path, found, count)


def librispeech_pc(path: Path, root: Path | None = None, count: int | None = None) -> tuple[Asked, ...]:
    """F5-TTS's list of LibriSpeech-PC, six fields with tabs between per line.

    They are utterance, seconds and text of the prompt, then those of what is to be said. The recordings are
    LibriSpeech's, ``SPEAKER/CHAPTER/UTTERANCE.flac``; the texts have case and punctuation.

    Args:
        path: the list.
        root: LibriSpeech's folder ``test-clean``.
        count: prompts from its beginning; recordings of the others need not be there.
    """
    if root is None:
        raise UserError(f"{path}: give LibriSpeech's folder test-clean with --audio-root")
    found: Found = []
    for line, text in read_lines(path, "prompts"):
        where = f"{path} line {line}"
        cells = [cell.strip() for cell in text.split("\t")]
        if len(cells) != 6:
            raise UserError(f"{where}: has {len(cells)} fields, not 6; {_LIBRISPEECH_PC}")
        if not all(cells):
            raise UserError(f"{where}: a field is empty; {_LIBRISPEECH_PC}")
        prompt, _, prompt_text, id, _, wanted = cells
        voice, reference = (_librispeech(root, utterance, where) for utterance in (prompt, id))
        speaker = prompt.partition("-")[0]
        found.append((line, Asked(id, wanted, voice, prompt_text, reference, speaker, set="librispeech-pc")))
    return ready(path, found, count)


def _librispeech(root: Path, utterance: str, where: str) -> Path:
    if not _UTTERANCE.fullmatch(utterance):
        raise UserError(f"{where}: {utterance!r} is no utterance of LibriSpeech; they look like 1089-134686-0000")
    speaker, chapter, _ = utterance.split("-")
    return root / speaker / chapter / f"{utterance}.flac"


def _inside(root: Path, given: str, where: str) -> Path:
    """A path that a list names. Only its spelling counts: corpora often lie behind links.

    Raises:
        UserError: it leaves the folder.
    """
    folder = Path(os.path.abspath(root))
    path = Path(os.path.abspath(folder / given))
    if not path.is_relative_to(folder):
        raise UserError(f"{where}: {given} leaves the folder {root}; lists may only name recordings in --audio-root")
    return path


@dataclass(frozen=True)
class _Utterance:
    """An utterance of LibriSpeech."""

    id: str
    text: str
    path: Path
    seconds: float
    line: int

    @property
    def speaker(self) -> str:
        return self.id.partition("-")[0]


def cross_sentence(root: Path, seed: int = 0, count: int | None = None) -> tuple[Asked, ...]:
    """Each utterance of 4 to 10 s, in the voice of 3 s of another one of its speaker.

    The papers do not publish which other utterance and which 3 s of it they took; VALL-E draws both at random for
    each of three runs, which are averaged. Here the utterance is drawn evenly from all others of the speaker that last
    at least 3 s, whatever their chapter, by a generator seeded with ``seed`` and the name of what is said, so that
    ``count`` does not change it; its first 3 s are taken.

    LibriSpeech's transcripts are capitals without punctuation. They are written in lower case with a capital first, and
    without a full stop, since not every utterance ends with a sentence.

    Args:
        root: LibriSpeech's folder ``test-clean``: ``SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt`` with FLAC files beside.
        seed: of the choice.
        count: prompts from the beginning, in the order of speakers and utterances.

    Raises:
        UserError: no transcripts, a wrong one, a missing recording, or a speaker with nothing to take the prompt from.
    """
    utterances = _utterances(root)
    voices: defaultdict[str, list[_Utterance]] = defaultdict(list)
    for one in utterances:
        if one.seconds >= PROMPT:
            voices[one.speaker].append(one)
    found: Found = []
    for one in _tested(utterances):
        others = [other for other in voices[one.speaker] if other.id != one.id]
        if not others:
            raise UserError(
                f"{root}: speaker {one.speaker} has no other recording of {PROMPT:g} s for the prompt of {one.id}"
            )
        prompt = random.Random(f"{seed} {one.id}").choice(others)
        found.append((one.line, _part(one, prompt, "voicebox")))
    return ready(root, found, count)


def continuation(root: Path, count: int | None = None) -> tuple[Asked, ...]:
    """Each utterance of 4 to 10 s, in the voice of its own first 3 s.

    The papers' systems go on from the first 3 s, which stay in the recording and are judged with it; a comparison asks
    for the whole text. So the text, the reference and whose voice it is are the papers', but no system is given the
    first words: expect higher error rates than published.

    Args:
        root: see ``cross_sentence``, also for the texts.
        count: prompts from the beginning.

    Raises:
        UserError: see ``cross_sentence``.
    """
    found: Found = [(one.line, _part(one, one, "voicebox-continuation")) for one in _tested(_utterances(root))]
    return ready(root, found, count)


def _part(one: _Utterance, prompt: _Utterance, name: str) -> Asked:
    """An utterance in the voice of the beginning of one."""
    return Asked(
        id=one.id, text=one.text, voice=prompt.path, reference=one.path, speaker=one.speaker, set=name,
        voice_span=(0.0, PROMPT), whole_text=prompt.text,
    )  # fmt: skip


def _tested(utterances: list[_Utterance]) -> list[_Utterance]:
    return [one for one in utterances if SHORTEST <= one.seconds <= LONGEST]


def _utterances(root: Path) -> list[_Utterance]:
    """All utterances of a folder of LibriSpeech, in order.

    Raises:
        UserError: there is none of 4 to 10 s, a line of a transcript is wrong, or a recording is missing.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder; give LibriSpeech's folder test-clean")
    transcripts = sorted(root.glob("*/*/*.trans.txt"))
    if not transcripts:
        raise UserError(f"{root}: has no SPEAKER/CHAPTER/*.trans.txt; give LibriSpeech's folder test-clean")
    found = []
    for path in transcripts:
        for line, row in read_lines(path, "transcripts"):
            id, _, text = row.strip().partition(" ")
            if not _UTTERANCE.fullmatch(id) or not text.strip():
                raise UserError(f"{path} line {line}: should hold an utterance and its words, UTTERANCE WORDS")
            recording = path.parent / f"{id}.flac"
            seconds = seconds_of(recording, f"{path} line {line}")
            found.append(_Utterance(id, _sentence(text.strip()), recording, seconds, line))
    if not _tested(found):
        raise UserError(f"{root}: holds no utterance of {SHORTEST:g} to {LONGEST:g} s")
    return found


def _sentence(text: str) -> str:
    """A transcript in capitals as it would be written."""
    return _I.sub("I", text.lower().capitalize())


def said_within(recording: Path, text: str, span: tuple[float, float]) -> str:
    """The words of a recording that lie for more than a half within a part of it, found by forced alignment.

    It takes about a tenth of the recording's length.

    Args:
        recording: mono or not, of any rate.
        text: what all of it says.
        span: start and end of the part, seconds.

    Raises:
        UserError: the recording is unreadable or says something else.
    """
    from flowtts.alignment.base import check_match
    from flowtts.alignment.choose import english_aligner
    from flowtts.audio.io import read, resample
    from flowtts.text import FrontEnd
    from flowtts.types import VOICEBOX_MEL

    analysis = FrontEnd().analyse(text)
    alignment = english_aligner().align(resample(read(recording).mono(), VOICEBOX_MEL.sample_rate), analysis)
    check_match(alignment)
    start, end = span
    return " ".join(word.text for word in alignment.words if start <= (word.start + word.end) / 2 < end)


def _itself(path: Path, root: Path | None) -> Path:
    """The folder that a list is made of, which is where its recordings lie."""
    if root is not None and root.resolve() != path.resolve():
        raise UserError(f"{path}: this format is made of LibriSpeech's folder itself; leave --audio-root out")
    return path


FORMATS: Mapping[str, Callable[[Path, Path | None, int | None], tuple[Asked, ...]]] = {
    "seed-tts": seed_tts,
    "librispeech-pc": librispeech_pc,
    "voicebox": lambda path, root, count: cross_sentence(_itself(path, root), count=count),
    "voicebox-continuation": lambda path, root, count: continuation(_itself(path, root), count),
}
"""Formats by name: (list, folder of its recordings, how many prompts) -> prompts."""
