"""How well the tag of generated speech is heard by ``flowtts detect``, and how little by people.

    python benchmarks/provenance.py OUT --real LIST --made FOLDER

``--real`` is a text file with recordings that carry no tag, one path a line: for false alarms. ``--made`` holds
generated speech without a tag (``flowtts say --no-tag``), which is tagged here and sent through codecs, noise and cuts.
PESQ compares tagged and untagged sound. Writes provenance.json and provenance.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from pesq import pesq
from tables import save, table

from flowtts.audio.io import read, resample
from flowtts.provenance.tag import MISTAKE, detect, embed
from flowtts.types import Audio

RATE = 16_000


def through(form: str, subtype: str, **how: Any) -> Callable[[Audio], Audio]:
    """A codec of libsndfile."""

    def made(audio: Audio) -> Audio:
        # Not in memory: there libsndfile 1.2.2 reads MP3 only sometimes.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"coded.{form.lower()}"
            soundfile.write(path, audio.samples, audio.sample_rate, format=form, subtype=subtype, **how)
            return resample(read(path), RATE)

    return made


def noisy(decibel: float) -> Callable[[Audio], Audio]:
    """White noise so far below the speech."""

    def made(audio: Audio) -> Audio:
        level = float(np.sqrt(np.mean(np.square(audio.samples.astype(np.float64))))) * 10 ** (-decibel / 20)
        noise = np.random.default_rng(0).standard_normal(len(audio.samples)) * level
        return Audio((audio.samples + noise).astype(np.float32), audio.sample_rate)

    return made


def part(seconds: float) -> Callable[[Audio], Audio]:
    """So much from the middle, beginning anywhere."""

    def made(audio: Audio) -> Audio:
        begin = max(0, (len(audio.samples) - round(seconds * audio.sample_rate)) // 2)
        return Audio(audio.samples[begin : begin + round(seconds * audio.sample_rate)], audio.sample_rate)

    return made


CHANGES: Mapping[str, Callable[[Audio], Audio]] = {
    "as made": lambda audio: audio,
    "1 s of it": part(1.0), "2 s": part(2.0), "3 s": part(3.0),
    "10 dB softer": lambda audio: Audio(audio.samples * np.float32(0.316), audio.sample_rate),
    "8 kHz and back": lambda audio: resample(resample(audio, 8_000), RATE),
    "44.1 kHz and back": lambda audio: resample(resample(audio, 44_100), RATE),
    "MP3, as libsndfile writes it": through("MP3", "MPEG_LAYER_III"),
    "MP3, compression 0.9": through("MP3", "MPEG_LAYER_III", compression_level=0.9),
    "Opus, as libsndfile writes it": through("OGG", "OPUS"),
    "Opus, compression 1": through("OGG", "OPUS", compression_level=1.0),
    "Vorbis": through("OGG", "VORBIS"),
    "noise at 20 dB": noisy(20), "noise at 10 dB": noisy(10), "noise at 0 dB": noisy(0),
    "tempo and pitch up by 1 %": lambda audio: Audio(resample(audio, 15_842).samples, RATE),
}  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--made", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    alarms, seconds, count, scores = 0, 0.0, 0, []
    for line in given.real.read_text(encoding="utf-8").splitlines():
        audio = read(line.strip())
        found = detect(audio)
        alarms, seconds, count = alarms + found.present, seconds + audio.seconds, count + 1
        scores.append(found.p)
    quality, rows = [], {name: [0, 0, 0.0] for name in CHANGES}
    for path in sorted(given.made.glob("*.wav")):
        audio = resample(read(path).mono(), RATE)
        tagged = embed(audio)
        quality.append(pesq(RATE, audio.samples[: 15 * RATE], tagged.samples[: 15 * RATE], "wb"))
        for name, change in CHANGES.items():
            found = detect(change(tagged))
            rows[name][0] += found.present
            rows[name][1] += 1
            rows[name][2] += found.score
    result = {
        "false_alarms": alarms, "recordings": count, "hours": seconds / 3600, "aim": MISTAKE,
        "smallest_p": float(min(scores)), "pesq_mean": float(np.mean(quality)), "pesq_min": float(np.min(quality)),
        "found": {name: {"found": f, "of": n, "score": total / n} for name, (f, n, total) in rows.items()},
    }  # fmt: skip
    heard = f"PESQ {np.mean(quality):.2f} (least {np.min(quality):.2f})"
    head = f"{alarms} false alarms in {count} recordings, {seconds / 3600:.1f} h; {heard}\n\n"
    body = table(("tagged, then", "found", "mean score"), [(n, f"{f} of {c}", t / c) for n, (f, c, t) in rows.items()])
    save(given.out, "provenance", result, head + body)


if __name__ == "__main__":
    main()
