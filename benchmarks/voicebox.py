"""Score Voicebox as its README reports it.

    python benchmarks/voicebox.py engines OUT --sentences heldout.tsv
    python benchmarks/voicebox.py readers OUT --sentences heldout.tsv --readers FOLDER

``engines``: 60 sentences absent from the training text in three voices of flite, the prompt being another such
sentence; beside the model's speech, copy-synthesis by the vocoder and the engine's own recordings.
``readers``: 10 sentences each in the voices of 20 LibriSpeech readers held out of every training (speaker id modulo
8 is 3), their text recognised; with the same-speaker ceiling (halves of one recording) and different-speaker floor.
Writes manifests, recordings and ``scores.json`` into OUT; every figure is from ``flowtts.eval``.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import flowtts
from flowtts.audio.io import read, resample, write
from flowtts.audio.mel import LogMel
from flowtts.pipeline import Pipeline
from flowtts.registry import load_metric
from flowtts.types import Audio, Item

VOICES = ("rms", "slt", "awb")


def sentences(path: Path, count: int) -> list[tuple[str, str]]:
    """(id, text) of sentences of 30 to 90 characters, in the order of the file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["id"], row["text"]) for row in rows if 30 <= len(row["text"]) <= 90][:count]


def speak(voice: str, text: str) -> Audio:
    """One sentence by flite."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        return read(path)


def copy(tts: Pipeline, audio: Audio) -> Audio:
    """Copy-synthesis: to the model's features and back through the vocoder."""
    audio = resample(audio.mono(), tts.spec.sample_rate)
    features = LogMel(tts.spec)(torch.from_numpy(audio.samples)[None])
    samples = tts.vocoder.decode(features)[0].detach().numpy()
    return Audio(np.asarray(samples, dtype=np.float32), tts.spec.sample_rate)


def engines(tts: Pipeline, out: Path, texts: Sequence[tuple[str, str]], options: dict[str, Any]) -> dict[str, Any]:
    """Voicebox, copy-synthesis and the engine on the same sentences and voices."""
    (_, prompt_text), texts = texts[0], texts[1:]
    sets: dict[str, list[Item]] = {"voicebox": [], "copy-synthesis": [], "engine": []}
    took = 0.0
    for voice in VOICES:
        prompt = speak(voice, prompt_text)
        write(out / "prompts" / f"{voice}.flac", prompt)
        for name, text in texts:
            spoken = speak(voice, text)
            started = time.perf_counter()
            made = tts.say(text, voice=out / "prompts" / f"{voice}.flac", voice_text=prompt_text, **options)
            took += time.perf_counter() - started
            for kind, audio in (("voicebox", made.audio), ("copy-synthesis", copy(tts, spoken)), ("engine", spoken)):
                write(out / kind / f"{voice}-{name}.flac", audio)
                sets[kind].append(Item(audio, text, spoken, prompt, f"{voice}-{name}"))
        print(f"{voice}: {len(texts)} sentences", file=sys.stderr, flush=True)
    seconds = sum(item.audio.seconds for item in sets["voicebox"])
    return {
        "rtf": took / seconds,
        **{kind: score(items, ("wer-closed", "wer", "sim-o")) for kind, items in sets.items()},
    }


def readers(
    tts: Pipeline,
    out: Path,
    texts: Sequence[tuple[str, str]],
    folder: Path,
    options: dict[str, Any],
    count: int,
    each: int,
) -> dict[str, Any]:
    """Voices of people the models never heard."""
    held_out = [path for path in sorted(folder.glob("*.ogg")) if int(path.stem.split("-")[0]) % 8 == 3]
    held_out = [path for path in held_out if read(path).seconds >= 8][:count]
    items, ceiling, floor = [], [], []
    texts = texts[:each]
    for index, path in enumerate(held_out):
        heard = read(path).mono()
        middle = len(heard.samples) // 2
        first, second = (
            Audio(part.copy(), heard.sample_rate) for part in (heard.samples[:middle], heard.samples[middle:])
        )
        ceiling.append(Item(second, "", prompt=first, id=path.stem))
        other = read(held_out[(index + 1) % len(held_out)]).mono()
        floor.append(Item(other, "", prompt=first, id=path.stem))
        for name, text in texts:
            made = tts.say(text, voice=path, **options)
            write(out / "readers" / f"{path.stem}-{name}.flac", made.audio)
            items.append(Item(made.audio, text, prompt=first, id=f"{path.stem}-{name}"))
        print(f"{path.stem}", file=sys.stderr, flush=True)
    return {
        "voicebox": score(items, ("wer-closed", "wer", "sim-o")),
        "same speaker": score(ceiling, ("sim-o",)),
        "different speaker": score(floor, ("sim-o",)),
    }


def score(items: Sequence[Item], metrics: Sequence[str]) -> dict[str, Any]:
    """Each metric over the items."""
    found = {}
    for name in metrics:
        made = load_metric(name)(items)
        found[name] = {
            "value": made.value, "low": made.low, "high": made.high, "count": made.count,
            "dropped": dict(made.dropped), "backend": made.backend, "sample_rate": made.sample_rate,
        }  # fmt: skip
    return found


def summary(scores: dict[str, Any], place: str = "") -> Iterator[str]:
    """One line per figure."""
    for name, value in scores.items():
        if isinstance(value, dict) and "value" in value:
            yield f"{place}{name}: {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}] of {value['count']}"
        elif isinstance(value, dict):
            yield from summary(value, f"{place}{name} / ")
        else:
            yield f"{place}{name}: {value}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["engines", "readers"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sentences", type=Path, required=True, help="TSV with columns id and text")
    parser.add_argument("--count", type=int, default=60, help="sentences per engine voice")
    parser.add_argument("--readers", type=Path, help="folder of LibriSpeech recordings")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--each", type=int, default=10)
    parser.add_argument("--model", default="voicebox")
    parser.add_argument("--vocoder", default="vocos")
    parser.add_argument("options", nargs="*", help="steps=16 guidance=1.7 solver=euler …")
    arguments = parser.parse_intermixed_args()
    tts = flowtts.load(arguments.model, arguments.vocoder)
    options = {key: _number(value) for key, _, value in (option.partition("=") for option in arguments.options)}
    for name in ("prompts", "voicebox", "copy-synthesis", "engine", "readers"):
        (arguments.out / name).mkdir(parents=True, exist_ok=True)
    if arguments.what == "engines":
        scores = engines(tts, arguments.out, sentences(arguments.sentences, arguments.count + 1), options)
    else:
        texts = sentences(arguments.sentences, arguments.each)
        scores = readers(tts, arguments.out, texts, arguments.readers, options, arguments.people, arguments.each)
    scores["options"] = options
    (arguments.out / f"{arguments.what}.json").write_text(json.dumps(scores, indent=1))
    print("\n".join(summary(scores)))


def _number(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


if __name__ == "__main__":
    main()
