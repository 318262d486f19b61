"""A small classifier of accents: the probability that a speaker is Mandarin-accented rather than native.

    python benchmarks/accent_classifier.py RECORDING TEXT --classifier classifier.json

It hears phones, not spectra (``accent_features``). Logistic regressions judge three views apart: ``timing``, which a
transfer of durations can carry over; ``sound``, what is heard in each phone of the text; and ``errors``, which phones
are heard in place of others, whatever their number. ``both`` joins the verdicts of timing and sound.
``accent_study.py`` trains it and measures what it hears.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accent_features import HEARD, PHONES, Listener, Norm, Tokens, Vector

from flowtts.audio.io import read
from flowtts.types import UserError

TIMING, SOUND, ERRORS, BOTH = "timing", "sound", "errors", "both"
PARTS = (TIMING, SOUND, ERRORS)
VIEWS = (*PARTS, BOTH)
RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3)
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Linear:
    """A logistic regression.

    Attributes:
        mean: (D,) subtracted.
        scale: (D,) divides.
        weight: (D,).
        bias: added.
    """

    mean: Vector
    scale: Vector
    weight: Vector
    bias: float

    def logit(self, rows: Vector) -> Vector:
        """(N, D) -> (N,)."""
        return np.asarray((rows - self.mean) / self.scale @ self.weight + self.bias)


@dataclass(frozen=True, eq=False)
class Classifier:
    """Tokens to a probability of accent.

    Attributes:
        norm: what is usual.
        views: PARTS judge features, BOTH the logits of TIMING and SOUND.
        words: how many words the recordings it was trained on have.
    """

    norm: Norm
    views: Mapping[str, Linear]
    words: tuple[int, ...]

    def logits(self, recordings: Sequence[Tokens]) -> dict[str, Vector]:
        """(N,) of each view."""
        parts = {view: self.views[view].logit(features(self.norm, view, recordings)) for view in PARTS}
        return parts | {BOTH: self.views[BOTH].logit(np.stack([parts[TIMING], parts[SOUND]], axis=1))}

    def probabilities(self, recordings: Sequence[Tokens]) -> dict[str, Vector]:
        """(N,) P(accented) of each view."""
        return {view: sigmoid(logit) for view, logit in self.logits(recordings).items()}

    def save(self, path: Path) -> None:
        """Write as JSON."""
        linears = {
            view: {
                "mean": one.mean.tolist(),
                "scale": one.scale.tolist(),
                "weight": one.weight.tolist(),
                "bias": one.bias,
            }
            for view, one in self.views.items()
        }
        norm = {"duration": self.norm.duration.tolist(), "heard": self.norm.heard.tolist()}
        norm["errors"] = self.norm.errors.tolist()
        text = json.dumps({"phones": PHONES, "heard": HEARD, "norm": norm, "views": linears, "words": self.words})
        part = path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)

    @staticmethod
    def load(path: Path) -> Classifier:
        """Read what ``save`` wrote.

        Raises:
            UserError: it is no classifier.
        """
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            norm = Norm(*(np.array(row["norm"][name]) for name in ("duration", "heard", "errors")))
            views = {
                view: Linear(np.array(one["mean"]), np.array(one["scale"]), np.array(one["weight"]), one["bias"])
                for view, one in row["views"].items()
            }
            if tuple(row["phones"]) != PHONES or tuple(row["heard"]) != HEARD or set(views) != set(VIEWS):
                raise ValueError("other phones")
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; train one with accent_study.py") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} is no classifier of accents; train one with accent_study.py") from None
        return Classifier(norm, views, tuple(row["words"]))


def features(norm: Norm, view: str, recordings: Sequence[Tokens]) -> Vector:
    """(N, D) features of one view."""
    measure = {TIMING: norm.timing, SOUND: norm.sound, ERRORS: norm.wrong}[view]
    return np.stack([measure(r) for r in recordings])


def sigmoid(logit: Vector) -> Vector:
    """1 / (1 + exp(-logit))."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -50, 50))))


def fit_linear(rows: Vector, accented: Vector, ridge: float, *, each: bool) -> Linear:
    """Minimise cross-entropy, both classes weighing the same, plus ``ridge / 2`` times the weights' square.

    Args:
        rows: (N, D).
        accented: (N,) 0 or 1.
        ridge: strength; the bias is free.
        each: scale every feature to a deviation of 1, otherwise all of them by one number: features that hardly ever
            differ from zero should stay small.
    """
    mean, deviation = rows.mean(0), rows.std(0)
    scale = np.maximum(deviation, 1e-6) if each else np.full(rows.shape[1], max(float(deviation.max()), 1e-9))
    x, y = torch.from_numpy((rows - mean) / scale), torch.from_numpy(accented.astype(np.float64))
    share = y.mean()
    balance = torch.where(y > 0, 0.5 / share, 0.5 / (1 - share)) / len(y)
    found = torch.zeros(rows.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([found], max_iter=300, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logit = x @ found[:-1] + found[-1]
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(logit, y, balance, reduction="sum")
        value = entropy + ridge / 2 * found[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    weights = found.detach().numpy()
    return Linear(mean, scale, weights[:-1].copy(), float(weights[-1]))


def folds_of(speakers: Sequence[str], folds: int = FOLDS) -> Vector:
    """(N,) fold of each row; a speaker is in one only."""
    names = sorted(set(speakers))
    order = np.random.default_rng(0).permutation(len(names))
    place = {name: int(order[i]) % folds for i, name in enumerate(names)}
    return np.array([place[speaker] for speaker in speakers])


def out_of_fold(rows: Vector, accented: Vector, folds: Vector, ridge: float, *, each: bool) -> Vector:
    """(N,) logits, each row's from a fit to the other folds."""
    logits = np.zeros(len(rows))
    for fold in np.unique(folds):
        inside = folds == fold
        logits[inside] = fit_linear(rows[~inside], accented[~inside], ridge, each=each).logit(rows[inside])
    return logits


def train(
    recordings: Sequence[Tokens], accented: Vector, speakers: Sequence[str]
) -> tuple[Classifier, dict[str, Vector]]:
    """Fit all views, with the ridges that are best for speakers left out.

    Args:
        recordings: N.
        accented: (N,) 0 or 1.
        speakers: N names.

    Returns:
        The classifier, and (N,) logits of each view for speakers left out of the fit.
    """
    groups = [[r for r, y in zip(recordings, accented, strict=True) if y == kind] for kind in (0, 1)]
    norm, folds = Norm.measure(groups), folds_of(speakers)
    views: dict[str, Linear] = {}
    unseen: dict[str, Vector] = {}
    for view in PARTS:
        rows = features(norm, view, recordings)
        each = view == TIMING
        tried = {ridge: out_of_fold(rows, accented, folds, ridge, each=each) for ridge in RIDGES}
        best = min(RIDGES, key=lambda ridge: balanced_entropy(tried[ridge], accented))
        views[view], unseen[view] = fit_linear(rows, accented, best, each=each), tried[best]
    pair = np.stack([unseen[TIMING], unseen[SOUND]], axis=1)
    views[BOTH], unseen[BOTH] = (
        fit_linear(pair, accented, 1e-4, each=True),
        out_of_fold(pair, accented, folds, 1e-4, each=True),
    )
    return Classifier(norm, views, tuple(r.words for r in groups[1])), unseen


def balanced_entropy(logits: Vector, accented: Vector) -> float:
    """Mean cross-entropy in nats, both classes weighing the same; log 2 is ignorance."""
    losses = np.logaddexp(0, np.where(accented > 0, -logits, logits))
    return float(np.mean([losses[accented > 0].mean(), losses[accented == 0].mean()]))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("text")
    parser.add_argument("--classifier", type=Path, required=True)
    given = parser.parse_args()
    classifier = Classifier.load(given.classifier)
    found = classifier.probabilities([Listener().listen(read(given.recording).mono(), given.text)])
    print(json.dumps({view: round(float(values[0]), 4) for view, values in found.items()}))


if __name__ == "__main__":
    main()
