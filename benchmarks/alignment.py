"""How well the aligners align, and how well they notice a wrong transcript.

    python benchmarks/alignment.py CORPUS [--voices rms slt awb] [--sentences 60] [--aligner pocketsphinx …]
    python benchmarks/alignment.py CORPUS --match [--table MORE.tsv]

CORPUS is what ``python -m flowtts.recipes.voicebox.corpus speak`` wrote: speech engines whose own phone times are the
truth. The first form prints errors of the starts of phones and words. The second one aligns right transcripts, wrong
ones (those of other recordings, of similar length) and ones with their middle third replaced, and prints how often
each is refused, with the logistics that fit the mean deficits best. ``--table`` adds recordings of people: a TSV with
the columns audio and text.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flowtts.alignment import Alignment, choose_aligner, impose
from flowtts.alignment.base import Aligner
from flowtts.alignment.textgrid import Interval
from flowtts.audio.io import read
from flowtts.data.rows import Row, read_rows
from flowtts.text import Analysis, FrontEnd
from flowtts.types import Audio, UserError


@dataclass(frozen=True)
class Errors:
    """Signed errors of starts, seconds."""

    phones: list[float]
    words: list[float]


def rows_of(source: Path, kind: str, count: int, seed: int = 0) -> list[Row]:
    """A fixed random choice of usable rows."""
    rows = [row for row in read_rows(kind, source) if isinstance(row, Row)]
    return random.Random(seed).sample(rows, min(count, len(rows)))


def errors_of(aligner: Aligner, analysis: Analysis, truth: Alignment, audio: Audio) -> Errors:
    """Against the truth, for the phones that were really said."""
    made = aligner.align(audio, analysis)
    pairs = [(a, b) for a, b in zip(made.phones, truth.phones, strict=True) if a.word >= 0]
    words = zip(made.words, truth.words, strict=True)
    return Errors([a.start - b.start for a, b in pairs], [a.start - b.start for a, b in words])


def boundaries(corpus: Path, voices: Sequence[str], sentences: int, names: Sequence[str]) -> None:
    """Print the errors of each aligner on each voice."""
    front_end = FrontEnd()
    print("aligner | voice | phones | median |error| ms | p90 | within 20 ms | 50 ms | bias | word median | p90 | RTF")
    for name in names:
        aligner = choose_aligner(name)
        for voice in voices:
            phones: list[float] = []
            words: list[float] = []
            spent = seconds = 0.0
            for row in rows_of(corpus / f"{voice}.jsonl", "engine", sentences):
                audio = read(row.audio).mono()
                labels = [Interval(a, b, label) for label, a, b in row.labels]
                analysis, truth = impose(front_end.analyse(row.text), labels, audio.seconds)
                begun = time.process_time()
                found = errors_of(aligner, analysis, truth, audio)
                spent += time.process_time() - begun
                seconds += audio.seconds
                phones += found.phones
                words += found.words
            p, w = np.array(phones) * 1000, np.array(words) * 1000
            a, b = np.abs(p), np.abs(w)
            print(
                f"{aligner.name} | {voice} | {len(p)} | {np.median(a):.1f} | {np.quantile(a, 0.9):.1f} | "
                f"{np.mean(a <= 20):.3f} | {np.mean(a <= 50):.3f} | {np.median(p):+.1f} | {np.median(b):.1f} | "
                f"{np.quantile(b, 0.9):.1f} | {spent / seconds:.3f}",
                flush=True,
            )


@dataclass(frozen=True)
class Trial:
    """A transcript and how well it fitted; numbers are None where it could not be aligned at all."""

    kind: str
    deficit: float | None
    confidence: float | None
    words: tuple[float, ...]


def trials(aligner: Aligner, rows: Sequence[Row], seed: int = 0) -> Iterator[Trial]:
    """Right, wrong and partly wrong transcripts of each recording."""
    rng = random.Random(seed)
    front_end = FrontEnd()
    for row in rows:
        audio = read(row.audio).mono()
        others = sorted((r.text for r in rows if r is not row), key=lambda text: abs(len(text) - len(row.text)))[:8]
        words, other = row.text.split(), rng.choice(others).split()
        third = max(1, len(words) // 3)
        mixed = " ".join(words[:third] + other[:third] + words[2 * third :])
        for kind, text in (("right", row.text), ("wrong", rng.choice(others)), ("third", mixed)):
            if kind == "third" and len(words) < 6:
                continue
            try:
                made = aligner.align(audio, front_end.analyse(text))
            except UserError:
                yield Trial(kind, None, None, ())
                continue
            yield Trial(kind, made.deficit, made.confidence, made.deficits)


def fit_logistic(right: Sequence[float], wrong: Sequence[float]) -> tuple[float, float]:
    """Limit and slope of P(right) = 1 / (1 + exp(slope (deficit - limit))), both classes weighing the same."""
    x = np.array([*right, *wrong])
    y = np.array([1.0] * len(right) + [0.0] * len(wrong))
    weight = np.where(y > 0, 1 / len(right), 1 / len(wrong))
    design = np.stack([np.ones_like(x), x], axis=1)
    w = np.zeros(2)
    for _ in range(50):  # Newton's method, damped by a slight ridge
        p = 1 / (1 + np.exp(-np.clip(design @ w, -30, 30)))
        gradient = design.T @ (weight * (y - p)) - 1e-4 * w
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + 1e-4 * np.eye(2)
        w = w + np.linalg.solve(hessian, gradient)
    return float(-w[0] / w[1]), float(-w[1])


def match(aligner: Aligner, groups: dict[str, list[Row]]) -> None:
    """Print refusals per group and fitted logistics over all groups."""
    everything: list[Trial] = []
    for name, rows in groups.items():
        found = list(trials(aligner, rows))
        everything += found
        for kind in ("right", "wrong", "third"):
            own = [t for t in found if t.kind == kind]
            deficits = [t.deficit for t in own if t.deficit is not None]
            refused = sum(t.confidence is None or t.confidence < 0.5 for t in own) / max(1, len(own))
            spread = np.quantile(deficits, [0.05, 0.5, 0.95]).round(2).tolist() if deficits else []
            print(f"{name} | {kind} | {len(own)} | deficit p5, p50, p95 {spread} | refused {refused:.3f}", flush=True)
    whole = [[t.deficit for t in everything if t.kind == k and t.deficit is not None] for k in ("right", "wrong")]
    words = [[d for t in everything if t.kind == k for d in t.words] for k in ("right", "wrong")]
    print("utterances: limit {:.2f} slope {:.2f}".format(*fit_logistic(*whole)))
    print("words: limit {:.2f} slope {:.2f}".format(*fit_logistic(*words)))


def main() -> int:
    """Command line: see the module's head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--voices", nargs="+", default=["rms", "slt", "awb"])
    parser.add_argument("--sentences", type=int, default=60, help="per voice")
    parser.add_argument("--aligner", nargs="+", default=["pocketsphinx"], help="pocketsphinx, or checkpoints")
    parser.add_argument("--match", action="store_true", help="wrong transcripts instead of boundaries")
    parser.add_argument("--table", type=Path, help="recordings of people, for --match")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.match:
        boundaries(given.corpus, given.voices, given.sentences, given.aligner)
        return 0
    for name in given.aligner:
        groups = {v: rows_of(given.corpus / f"{v}.jsonl", "engine", given.sentences) for v in given.voices}
        if given.table is not None:
            groups[given.table.name] = rows_of(given.table, "table", 2 * given.sentences)
        match(choose_aligner(name), groups)
    return 0


if __name__ == "__main__":
    sys.exit(main())
