"""Fit the network that finds transient noise, and measure it.

    python benchmarks/find_noise.py fit OUT --speech TABLE.tsv …
    python benchmarks/find_noise.py measure OUT --speech TABLE.tsv … [--checkpoint FOLDER]

TABLE.tsv has the columns audio (relative to the table) and speaker; recordings of people speaking alone. ``fit`` mixes
noise of all kinds of ``noises.py`` (but those of ``--without``) into clips of 2 to 12 s at -15 to +10 dB and writes the
checkpoint OUT. ``measure`` mixes one kind at a time over 30 % of recordings at -10, 0 and +5 dB, prints precision,
recall and F1 of 10 ms frames pooled over the recordings, and how many of the recordings as they are give spans,
beside two detectors without learning; it writes OUT (Markdown). Speakers of the two must differ.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import noises
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowtts import checkpoint
from flowtts.audio.io import read, resample
from flowtts.audio.mel import LogMel
from flowtts.edit.noise import KIND, SHIPPED, NoiseConfig, NoiseFinder, NoiseNetwork, runs
from flowtts.types import Audio, Samples

Clip = tuple[NDArray[np.float16], NDArray[np.bool_]]
"""Log-mel (T, C) and where it is noisy, (T / 2,)."""

_LENGTHS = (2.0, 3.0, 5.0, 8.0, 12.0)
_STEP = 0.01


def speakers(tables: Sequence[Path], most: int) -> dict[str, list[Samples]]:
    """Up to ``most`` recordings of every speaker, at 16 kHz."""
    found: dict[str, list[Samples]] = {}
    for table in tables:
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                own = found.setdefault(f"{table.stem}/{row['speaker']}", [])
                if len(own) < most:
                    own.append(resample(read(table.parent / row["audio"]).mono(), noises.RATE).samples)
    return found


def clip(rng: np.random.Generator, voices: Mapping[str, Sequence[Samples]], kinds: Sequence[str]) -> noises.Mixed:
    """Speech of one speaker, in a third of the cases as it is, otherwise with noise."""
    seconds = float(rng.choice(_LENGTHS))
    names = list(voices)
    who = names[rng.integers(len(names))]
    need = round(seconds * noises.RATE)
    parts = [voices[who][i] for i in rng.permutation(len(voices[who]))]
    speech = np.concatenate(parts) if len(parts[0]) < need else parts[0]
    # A clip longer than all that the speaker said says it again.
    speech = np.resize(speech, max(need, len(speech)))
    start = int(rng.integers(0, len(speech) - need + 1))
    audio = Audio(_recorded(rng, speech[start : start + need]), noises.RATE)
    mixed = noises.Mixed(audio, ())
    if rng.random() > 0.35:
        places = noises.places(
            rng, seconds, rng.uniform(0.04, 0.7), rng.choice([0.03, 0.1, 0.3]), rng.uniform(0.4, 2.5)
        )
        chosen = [str(kind) for kind in rng.choice(kinds, rng.integers(1, 3))]
        others = [voices[n][0] for n in rng.choice(names, 8) if n != who]
        mixed = noises.mix(audio, places, chosen, rng.uniform(-15, 10), rng, others, fill=bool(rng.random() < 0.5))
    if rng.random() < 0.4:
        floor = noises.coloured(rng, need, rng.uniform(-2, 0.5)) * 10 ** (-rng.uniform(10, 45) / 20)
        level = float(np.sqrt(np.mean(np.square(audio.samples))))
        mixed = replace(mixed, audio=Audio((mixed.audio.samples + level * floor).astype(np.float32), noises.RATE))
    return mixed


def _recorded(rng: np.random.Generator, speech: Samples) -> Samples:
    """Through another microphone: a tilt of the spectrum, sometimes the band of a telephone."""
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(speech)
        frequency = np.maximum(np.fft.rfftfreq(len(speech), 1 / noises.RATE), 100.0)
        speech = np.fft.irfft(spectrum * (frequency / 1000) ** rng.uniform(-0.7, 0.7), len(speech)).astype(np.float32)
    if rng.random() < 0.15:
        speech = noises.band(speech, rng.uniform(50, 300), rng.uniform(3000, 7500)).astype(np.float32)
    return speech


def clips(
    seed: int,
    indices: Sequence[int],
    voices: Mapping[str, Sequence[Samples]],
    kinds: Sequence[str],
    config: NoiseConfig,
) -> list[Clip]:
    """Clips and where they are noisy."""
    torch.set_num_threads(1)
    mel, found = LogMel(config.mel), []
    for index in indices:
        made = clip(np.random.default_rng([seed, index]), voices, kinds)
        features = mel(torch.from_numpy(made.audio.samples)[None])[0]
        noisy = noises.overlap(made.spans, -(-len(features) // 2), 2 * _STEP)
        found.append((features.half().numpy(), noisy))
    return found


def all_clips(
    seed: int, count: int, voices: Mapping[str, Sequence[Samples]], kinds: Sequence[str], config: NoiseConfig, jobs: int
) -> list[Clip]:
    """``count`` clips by several processes; the same whatever their number."""
    if jobs == 1:
        return clips(seed, range(count), voices, kinds, config)
    parts = [range(first, count, jobs * 4) for first in range(jobs * 4)]
    with ProcessPoolExecutor(jobs) as pool:
        made = pool.map(clips, repeat(seed), parts, repeat(voices), repeat(kinds), repeat(config))
        found = dict(pair for part, own in zip(parts, made, strict=True) for pair in zip(part, own, strict=True))
    return [found[index] for index in range(count)]


def batches(made: Sequence[Clip], rng: np.random.Generator, frames: int = 20_000) -> Iterator[tuple[Tensor, Tensor]]:
    """Clips of equal length together, in random order."""
    by_length: dict[int, list[int]] = {}
    for i in rng.permutation(len(made)):
        by_length.setdefault(len(made[i][0]), []).append(int(i))
    groups = [g[k : k + n] for t, g in by_length.items() for n in [max(1, frames // t)] for k in range(0, len(g), n)]
    for i in rng.permutation(len(groups)):
        chosen = [made[j] for j in groups[i]]
        features, noisy = (torch.from_numpy(np.stack([c[i] for c in chosen])).float() for i in (0, 1))
        yield features, noisy


def fit(made: Sequence[Clip], network: NoiseNetwork, epochs: int, seed: int, device: str, peak: float) -> NoiseNetwork:
    """Binary cross-entropy, AdamW, a warm-up and a cosine."""
    network = network.train().to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1.0, weight_decay=0.02)
    rng = np.random.default_rng(seed)
    total = epochs * sum(1 for _ in batches(made, rng))
    warm = max(1, total // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: peak * min((step + 1) / warm, 0.5 + 0.5 * np.cos(np.pi * min(1.0, step / total)))
    )
    for epoch in range(epochs):
        losses = []
        for features, noisy in batches(made, rng):
            features, noisy = features.to(device), noisy.to(device)
            # A little noise in the features keeps the network from learning clips by heart.
            features = features + 0.1 * torch.randn_like(features)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(features), noisy)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        print(f"epoch {epoch + 1}: {np.mean(losses):.4f}", file=sys.stderr, flush=True)
    return network.cpu().eval()


def jumps(audio: Audio) -> list[noises.Span]:
    """A detector without learning: frames louder than the recording's usual loud frames."""
    mel = LogMel(NoiseConfig().mel)(torch.from_numpy(audio.samples)[None])[0].numpy()
    level = mel.max(axis=1)
    return _runs(_smooth(level) > np.quantile(level, 0.6) + 1.0)


def outliers(audio: Audio) -> list[noises.Span]:
    """Another: robust z-scores of band energies, averaged over the bands that stand out."""
    mel = LogMel(NoiseConfig().mel)(torch.from_numpy(audio.samples)[None])[0].numpy()
    middle = np.median(mel, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(mel - middle), axis=0), 0.3)
    return _runs(_smooth(np.maximum((mel - middle) / spread, 0).mean(axis=1)) > 1.5)


def _smooth(values: NDArray[np.float32], width: int = 9) -> NDArray[np.float32]:
    padded = np.pad(values, width // 2, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=-1))


def _runs(mask: NDArray[np.bool_]) -> list[noises.Span]:
    return [(a * _STEP, b * _STEP) for a, b in runs(mask) if b - a >= 4]


def measure(
    voices: Mapping[str, Sequence[Samples]],
    detectors: Mapping[str, Callable[[Audio], list[noises.Span]]],
    people: int,
    seed: int,
) -> Iterator[str]:
    """A Markdown table: one row per kind and level, one column per detector."""
    yield "| noise | SNR, dB | " + " | ".join(f"{name}: P / R / F1" for name in detectors) + " |"
    yield "|---|---|" + "---|" * len(detectors)
    names = list(voices)
    chosen = names[:: max(1, len(names) // people)][:people]
    for kind_number, kind in enumerate(noises.KINDS):
        for snr in (-10.0, 0.0, 5.0):
            counts = {name: np.zeros(3) for name in detectors}
            for index, who in enumerate(chosen):
                # Not the level: all levels have the same noise in the same places.
                rng = np.random.default_rng([seed, kind_number, index])
                audio = Audio(voices[who][0], noises.RATE)
                others = [voices[n][0] for n in names if n != who]
                places = noises.places(rng, audio.seconds, 0.3, 0.1, 1.5)
                mixed = noises.mix(audio, places, [kind], snr, rng, others, fill=False)
                frames = int(audio.seconds / _STEP)
                truth = noises.overlap(mixed.spans, frames, _STEP)
                for name, find in detectors.items():
                    guess = noises.overlap(find(mixed.audio), frames, _STEP)
                    counts[name] += (guess & truth).sum(), (guess & ~truth).sum(), (~guess & truth).sum()
            cells = [_rates(*counts[name]) for name in detectors]
            yield f"| {kind} | {snr:+.0f} | " + " | ".join(cells) + " |"
    recordings = [Audio(s, noises.RATE) for own in voices.values() for s in own]
    cells = [f"{sum(not find(a) for a in recordings)} of {len(recordings)} give none" for find in detectors.values()]
    yield "| none | – | " + " | ".join(cells) + " |"


def _rates(hit: float, wrong: float, missed: float) -> str:
    precision, recall = hit / max(hit + wrong, 1), hit / max(hit + missed, 1)
    return f"{precision:.3f} / {recall:.3f} / {2 * hit / max(2 * hit + wrong + missed, 1):.3f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "measure"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--speech", type=Path, nargs="+", required=True, help="TSV with columns audio and speaker")
    parser.add_argument("--each", type=int, default=4, help="recordings of a speaker")
    parser.add_argument("--people", type=int, default=24, help="speakers that get noise; all are tried without")
    parser.add_argument("--without", nargs="*", default=[], choices=noises.KINDS)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="processes that make clips")
    parser.add_argument("--device", default="cpu", help="where to fit")
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--start", help="checkpoint to continue from instead of random weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", default=SHIPPED)
    arguments = parser.parse_args()
    voices = speakers(arguments.speech, arguments.each)
    if arguments.what == "measure":
        detectors = {"network": NoiseFinder.load(arguments.checkpoint).find, "level": jumps, "outliers": outliers}
        lines = []
        for line in measure(voices, detectors, arguments.people, arguments.seed):
            print(line, flush=True)
            lines.append(line)
        arguments.out.write_text("\n".join([*lines, ""]), encoding="utf-8")
        return
    config = NoiseConfig()
    kinds = [kind for kind in noises.KINDS if kind not in arguments.without]
    made = all_clips(arguments.seed, arguments.clips, voices, kinds, config, arguments.jobs)
    torch.manual_seed(arguments.seed)
    network = NoiseFinder.load(arguments.start).network if arguments.start else NoiseNetwork(config)
    network = fit(made, network, arguments.epochs, arguments.seed, arguments.device, arguments.rate)
    checkpoint.save(arguments.out, kind=KIND, config=config, state=network.state_dict(), dtype=torch.float16)


if __name__ == "__main__":
    main()
