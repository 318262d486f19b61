"""A finished comparison small enough to look at: three systems, four prompts, sounds that are tones."""

from pathlib import Path
from typing import Any

import numpy as np

from flowtts.audio.io import write
from flowtts.compare.result import FORMAT, Result
from flowtts.types import Audio

SYSTEMS = {"voicebox": "Voicebox", "tortoise": "Tortoise", "recordings": "recordings"}
TEXTS = {
    "e01": "The old bridge shook.",
    "e02": "A young fox.",
    "e03": "She poured <b>hot</b> & cold.",
    "e04": "Both boys.",
}
SPEAKERS = ("rms", "slt")
FAILED = ("tortoise", "e04")


def tone(path: Path, hertz: float, seconds: float = 0.4) -> None:
    at = np.arange(int(16_000 * seconds)) / 16_000
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, Audio((0.3 * np.sin(2 * np.pi * hertz * at)).astype(np.float32), 16_000))


def figure(value: float | None, width: float = 0.02) -> dict[str, float | None]:
    low, high = (None, None) if value is None else (value - width, value + width)
    return {"value": value, "low": low, "high": high}


def prompts(folder: Path) -> list[dict[str, Any]]:
    found = []
    for number, (id, text) in enumerate(TEXTS.items()):
        voice = f"prompts/{SPEAKERS[number % 2]}.flac"
        tone(folder / voice, 110 + 55 * (number % 2))
        found.append({
            "id": id, "set": "english", "task": "say", "text": text, "speaker": SPEAKERS[number % 2],
            "voice": SPEAKERS[number % 2], "voice_text": "a prompt", "voice_audio": voice, "reference_audio": None,
        })  # fmt: skip
    return found


def row(folder: Path, system: str, prompt: str, value: float) -> dict[str, Any]:
    failed = (system, prompt) == FAILED
    audio = f"audio/{system}/{prompt}.flac"
    if not failed:
        tone(folder / audio, 200 + 40 * list(SYSTEMS).index(system) + 10 * list(TEXTS).index(prompt))
    reason = "it could not be said: too long"
    return {
        "system": system, "prompt": prompt, "item": prompt, "seed": 0, "audio": None if failed else audio,
        "audio_hash": None if failed else f"{system}{prompt}", "seconds": None if failed else 0.4,
        "sample_rate": None if failed else 16_000, "error": reason if failed else None,
        "nfe": None if failed or system == "recordings" else 16,
        "network_calls": None if failed or system == "recordings" else 32,
        "took": None if failed or system == "recordings" else 0.2,
        "heard": {} if failed else {"wer": "the old bridge took" if prompt == "e01" else TEXTS[prompt]},
        "scores": {"wer": None, "sim-o": None} if failed else {"wer": value, "sim-o": 0.9 - value},
        "dropped": {"wer": reason, "sim-o": reason} if failed else {}, "words": [], "spans": [],
    }  # fmt: skip


def system(name: str, label: str) -> dict[str, Any]:
    model = name != "recordings"
    times = {
        "rtf": figure(0.5, 0.1), "warm_rtf": 0.45, "cold_seconds": 4.0, "load_seconds": 2.0, "peak_memory_mb": 700.0
    }  # fmt: skip
    return {
        "name": name, "label": label, "kind": "model" if model else "recordings", "source": name,
        "hash": "0123456789abcdef" if model else "", "licence": "Apache-2.0" if model else None,
        "settings": {"solver": "midpoint", "steps": 4, "vocoder": "vocos"} if model else {}, "seeds": [0],
        "made": 3 if name == FAILED[0] else 4, "failed": int(name == FAILED[0]), "error": None, "seconds": 1.6,
        "nfe": 16.0 if model else None, "network_calls": 32.0 if model else None, "times": times if model else None,
    }  # fmt: skip


def metric(name: str, label: str, higher: bool, rate: bool) -> dict[str, Any]:
    return {
        "name": name, "label": label, "unit": "%" if rate else "", "higher_is_better": higher, "rate": rate,
        "level": "item", "backend": "pocketsphinx 5.1.0" if rate else "Resemblyzer 0.1.4", "sample_rate": 16_000,
        "paper": "arXiv 2306.15687, section 5.1",
    }  # fmt: skip


def difference(name: str, a: str, b: str, value: float, real: bool) -> dict[str, Any]:
    p = 0.01 if real else 0.6
    return {
        "metric": name,
        "a": a,
        "b": b,
        **figure(value),
        "p": p,
        "adjusted": min(1.0, 3 * p),
        "pairs": 3,
        "real": real,
    }


def example(folder: Path) -> Result:
    """A result whose recordings lie in ``folder``."""
    values = {"voicebox": 0.05, "tortoise": 0.25, "recordings": 0.0}
    rows = [row(folder, name, prompt, values[name]) for name in SYSTEMS for prompt in TEXTS]
    scores = {
        name: {
            metric_name: {
                **figure(value if metric_name == "wer" else 0.9 - value), "speaker_low": value - 0.03,
                "speaker_high": value + 0.03, "count": 3 if name == FAILED[0] else 4,
                "dropped": {FAILED[1]: "it could not be said: too long"} if name == FAILED[0] else {},
                "rank": 2 if name == "tortoise" else 1,
            }
            for metric_name in ("wer", "sim-o")
        }
        for name, value in values.items()
    }  # fmt: skip
    pairs = [("voicebox", "tortoise", -0.2, True), ("voicebox", "recordings", 0.05, False),
             ("tortoise", "recordings", 0.25, True)]  # fmt: skip
    found: Any = {
        "format": FORMAT, "title": "A comparison", "command": "flowtts compare voicebox tortoise recordings",
        "created": "2026-01-01T00:00:00+00:00", "machine": {"cpu": "A CPU", "cores": 2, "threads": 1},
        "versions": {"flowtts": "0.1.0", "torch": "2.13.0"}, "tagged": True,
        "sets": [{"name": "english", "source": "english", "hash": "ab12", "count": 4}], "prompts": prompts(folder),
        "systems": [system(name, label) for name, label in SYSTEMS.items()],
        "metrics": [metric("wer", "WER", False, True), metric("sim-o", "SIM-o", True, False)], "scores": scores,
        "differences": [difference(name, *pair) for name in ("wer", "sim-o") for pair in pairs], "items": rows,
        "ratings": None,
    }  # fmt: skip
    result: Result = found
    return result
