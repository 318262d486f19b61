"""Speak a training corpus with free speech engines, with the exact time of every phone.

Three stages, each resumable, each a sub-command of ``python -m flowtts.recipes.voicebox.corpus``:

``speak``   flite and festival voices read sentences from TSV files (columns: id, text);
``warp``    WORLD turns the engines' voices into pseudo-speakers: the frequency axis of the spectral
            envelope, the pitch and the spectral tilt change, the timings do not;
``heldout`` the sentences that ``speak`` will never use, for evaluation.

The engines are the Debian packages ``flite``, ``festival`` and ``festvox-us-slt-hts``; WORLD is the
Python package ``pyworld``. Every voice becomes a folder of 16 kHz FLAC files and one JSON-lines file
with a row per sentence: ``{id, voice, text, audio, seconds, phones: [[label, start, end], …]}``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr

SAMPLE_RATE = 16_000
FLITE_VOICES = ("rms", "slt", "awb", "kal16")
FESTIVAL_VOICES = {"slt_hts": "voice_cmu_us_slt_arctic_hts"}
# Only words and plain punctuation: what is written is then what any front end reads aloud.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z ,.;:'?!-]*[.?!;,a-z]$")
_INITIALISM = re.compile(r"\b[A-Z]{2,}\b|\b(?:Mr|Mrs|Dr|St|Messrs|etc|viz)\b|\b[A-Za-z]\.|--|\b[IVX]+\b(?<!\bI)")


@dataclass(frozen=True)
class Sentence:
    """One sentence to be spoken."""

    id: str
    text: str


@dataclass(frozen=True)
class PseudoSpeaker:
    """A voice that WORLD makes of an engine's voice; factors are relative to the engine.

    Attributes:
        base: engine voice that is warped.
        warp: factor on the frequency axis of the envelope; above 1 is a shorter vocal tract.
        pitch: factor on the median of F0.
        span: factor on the deviation of log F0 from its median.
        tilt: spectral tilt added, in dB per octave around 1 kHz.
    """

    base: str
    warp: float
    pitch: float
    span: float
    tilt: float


def is_held_out(sentence_id: str) -> bool:
    """True for about two in a hundred sentences, by a hash of the id: never spoken for training."""
    return hashlib.sha1(sentence_id.encode()).digest()[0] < 5


def read_sentences(paths: Iterable[Path], longest: int = 115, shortest: int = 6) -> list[Sentence]:
    """Plainly readable sentences of TSV files, in an order fixed by their ids' hashes."""
    found = {}
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                text = " ".join(row["text"].replace('"', "").split())
                plain = shortest <= len(text) <= longest and _PLAIN.match(text) and not _INITIALISM.search(text)
                if plain:
                    found[text.lower()] = Sentence(row["id"], text)
    return sorted(found.values(), key=lambda s: hashlib.sha1(s.id.encode()).digest()[1:])


def speak_flite(voice: str, text: str, out: Path) -> list[tuple[str, float, float]]:
    """Speak with flite. Returns (label, start, end) of every phone, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "spoken.wav"
        done = subprocess.run(
            ["flite", "-voice", voice, "-psdur", "-t", text, "-o", str(wave)],
            check=True,
            capture_output=True,
            text=True,
        )
        samples, rate = sf.read(wave, dtype="float32")
    phones, start = [], 0.0
    for item in done.stdout.split():
        label, _, end = item.rpartition(":")
        phones.append((label, start, float(end)))
        start = float(end)
    _write(samples, rate, out)
    return phones


def speak_festival(voice: str, text: str, out: Path) -> list[tuple[str, float, float]]:
    """Speak with festival. Returns (label, start, end) of every phone, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        wave, segments, script = (Path(folder) / name for name in ("spoken.wav", "spoken.seg", "speak.scm"))
        quoted = text.replace("\\", "").replace('"', "")
        script.write_text(
            f'({FESTIVAL_VOICES[voice]})\n(set! u (Utterance Text "{quoted}"))\n(utt.synth u)\n'
            f'(utt.save.wave u "{wave}" \'riff)\n(utt.save.segs u "{segments}")\n'
        )
        subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)
        samples, rate = sf.read(wave, dtype="float32")
        lines = segments.read_text().splitlines()[1:]
    phones, start = [], 0.0
    for line in lines:
        end, _, label = line.split()
        phones.append((label, start, float(end)))
        start = float(end)
    _write(samples, rate, out)
    return phones


def _write(samples: np.ndarray, rate: int, out: Path) -> None:
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
    out.parent.mkdir(parents=True, exist_ok=True)
    sf.write(out, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")


def _speak_one(job: tuple[str, Sentence, Path]) -> dict[str, Any] | None:
    voice, sentence, root = job
    out = root / voice / f"{sentence.id}.flac"
    engine: Callable[[str, str, Path], list[tuple[str, float, float]]]
    engine = speak_festival if voice in FESTIVAL_VOICES else speak_flite
    try:
        phones = engine(voice, sentence.text, out)
    except (subprocess.CalledProcessError, ValueError, OSError) as error:
        print(f"{voice} cannot speak {sentence.id}: {error}", file=sys.stderr)
        return None
    return _row(sentence.id, voice, sentence.text, out, phones)


def _row(name: str, voice: str, text: str, out: Path, phones: Sequence[tuple[str, float, float]]) -> dict[str, Any]:
    seconds = sf.info(out).duration
    timed = [[label, round(start, 4), round(min(end, seconds), 4)] for label, start, end in phones]
    audio = f"{out.parent.name}/{out.name}"
    return {"id": name, "voice": voice, "text": text, "audio": audio, "seconds": seconds, "phones": timed}


def _finish(root: Path, voice: str, rows: Iterable[dict[str, Any] | None]) -> None:
    kept = [row for row in rows if row is not None]
    part = root / f"{voice}.jsonl.part"
    part.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    os.replace(part, root / f"{voice}.jsonl")
    hours = sum(row["seconds"] for row in kept) / 3600
    print(f"{voice}: {len(kept)} sentences, {hours:.2f} h", file=sys.stderr, flush=True)


def speak(
    root: Path, sentences: Sequence[Sentence], counts: dict[str, int], processes: int, held_out: bool = False
) -> None:
    """Speak consecutive slices of ``sentences`` with each voice; finished voices are skipped.

    Args:
        root: where.
        sentences: all of them.
        counts: sentences by voice.
        processes: at once.
        held_out: speak sentences that are held out, for evaluation, instead of those that are not.
    """
    needed = {"festival" if voice in FESTIVAL_VOICES else "flite" for voice in counts}
    for program in sorted(needed):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed; install it with your package manager")
    usable = [s for s in sentences if is_held_out(s.id) == held_out]
    first = 0
    with ProcessPoolExecutor(processes) as pool:
        for voice, count in counts.items():
            jobs = [(voice, s, root) for s in usable[first : first + count]]
            first += count
            if not (root / f"{voice}.jsonl").exists():
                _finish(root, voice, pool.map(_speak_one, jobs, chunksize=8))


def pseudo_speakers(count: int, seed: int = 0) -> dict[str, PseudoSpeaker]:
    """``count`` distinct pseudo-speakers; ranges are those that keep a recogniser's errors low."""
    rng = np.random.default_rng(seed)
    ranges = {"rms": (0.9, 1.18), "awb": (0.9, 1.18), "slt": (0.84, 1.0)}
    made = {}
    for index in range(count):
        base = tuple(ranges)[index % len(ranges)]
        low, high = ranges[base]
        # Stratified, so that a small number of voices still covers the whole range.
        place = (index // len(ranges) + rng.uniform()) / -(-count // len(ranges))
        warp = low + (high - low) * place
        pitch = warp**2.2 * float(np.exp(rng.normal(0, 0.12)))
        name = f"ps{index:02d}_{base}"
        made[name] = PseudoSpeaker(
            base, round(warp, 3), round(pitch, 3), round(rng.uniform(0.7, 1.4), 3), round(rng.uniform(-2.5, 2.5), 3)
        )
    return made


def warp_voice(samples: np.ndarray, voice: PseudoSpeaker) -> np.ndarray:
    """Resynthesise 16 kHz speech (N,) as the pseudo-speaker, same length, same timings (WORLD)."""
    import pyworld

    x = samples.astype(np.float64)
    f0, times = pyworld.dio(x, SAMPLE_RATE)
    f0 = pyworld.stonemask(x, f0, times, SAMPLE_RATE)
    envelope = pyworld.cheaptrick(x, f0, times, SAMPLE_RATE)
    aperiodicity = pyworld.d4c(x, f0, times, SAMPLE_RATE)
    bins = envelope.shape[1]
    source = np.minimum(np.arange(bins) / voice.warp, bins - 1)
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, bins - 1)
    part = source - low
    log = np.log(envelope)
    log = log[:, low] * (1 - part) + log[:, high] * part
    octaves = np.log2(np.maximum(np.linspace(0, SAMPLE_RATE / 2, bins), 60.0) / 1000.0)
    log += voice.tilt * octaves[None] * (np.log(10) / 10)
    voiced = f0 > 0
    if voiced.any():
        middle = np.median(np.log(f0[voiced]))
        f0[voiced] = np.exp(middle + np.log(voice.pitch) + voice.span * (np.log(f0[voiced]) - middle))
    aperiodicity = aperiodicity[:, low] * (1 - part) + aperiodicity[:, high] * part
    made = pyworld.synthesize(f0, np.ascontiguousarray(np.exp(log)), np.ascontiguousarray(aperiodicity), SAMPLE_RATE)
    made = made[: len(x)]
    made = np.pad(made, (0, len(x) - len(made)))
    level = np.sqrt(np.mean(x**2) / max(np.mean(made**2), 1e-12))
    made = made * level
    return np.asarray(made / max(1.0, np.abs(made).max() / 0.99), dtype=np.float32)


def _warp_one(job: tuple[str, PseudoSpeaker, Sentence, Path]) -> dict[str, Any] | None:
    name, voice, sentence, root = job
    spoken = _speak_one((voice.base, sentence, root / "bases"))
    if spoken is None:
        return None
    base = root / "bases" / spoken["audio"]
    samples, _ = sf.read(base, dtype="float32")
    out = root / name / f"{sentence.id}.flac"
    _write(warp_voice(samples, voice), SAMPLE_RATE, out)
    base.unlink()
    return _row(sentence.id, name, sentence.text, out, [tuple(p) for p in spoken["phones"]])


def warp(root: Path, sentences: Sequence[Sentence], voices: int, each: int, processes: int) -> None:
    """Speak ``each`` sentences with every pseudo-speaker, from the end of the list of sentences."""
    usable = [s for s in reversed(sentences) if not is_held_out(s.id)]
    made = pseudo_speakers(voices)
    with ProcessPoolExecutor(processes) as pool:
        for index, (name, voice) in enumerate(made.items()):
            jobs = [(name, voice, s, root) for s in usable[index * each : (index + 1) * each]]
            if not (root / f"{name}.jsonl").exists():
                _finish(root, name, pool.map(_warp_one, jobs, chunksize=4))


def main() -> None:
    """Command line: see the module's head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["speak", "warp", "heldout"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="TSV files with columns id and text")
    parser.add_argument("--counts", default="rms=950,slt=950,awb=950,kal16=300,slt_hts=400", help="sentences per voice")
    parser.add_argument("--voices", type=int, default=24, help="pseudo-speakers")
    parser.add_argument("--each", type=int, default=80, help="sentences per pseudo-speaker")
    parser.add_argument("--held-out", action="store_true", help="speak held-out sentences, for evaluation")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    sentences = read_sentences(args.text)
    if args.stage == "speak":
        pairs = (item.split("=") for item in args.counts.split(","))
        speak(args.out, sentences, {voice: int(n) for voice, n in pairs}, args.processes, args.held_out)
    elif args.stage == "warp":
        warp(args.out, sentences, args.voices, args.each, args.processes)
    else:
        rows = [f"{s.id}\t{s.text}\n" for s in sentences if is_held_out(s.id)]
        (args.out / "heldout.tsv").write_text("id\ttext\n" + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
