"""Score duration models: MS-MAE, MS-Corr and FDD (arXiv 2306.15687, section 5.1 and appendix C).

    python benchmarks/durations.py MANIFEST … --models voicebox-duration runs/duration-flow/checkpoints/step-…

The last half of every utterance's phones is predicted in the context of the first half. A model that samples is
sampled 20 times: MS-MAE and MS-Corr judge the mean of the samples, FDD one sample. Pauses are judged apart from phones;
the mean
duration of the context's phones or pauses, whatever the context, is given as the baseline.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from flowtts import checkpoint
from flowtts.config import load as load_config
from flowtts.data.manifest import read_cuts
from flowtts.eval.durations import fdd, ms_corr, ms_mae
from flowtts.recipes.voicebox import DurationConfig, DurationModel
from flowtts.text.symbols import ids, is_pause
from flowtts.types import Sampling

SAMPLES = 20
FRAME_RATE = 100.0


def utterances(manifest: Path, most: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(ids (L,), frames (L,), pause (L,) bool) of transcribed utterances with at least 12 phones."""
    found = []
    for cut in read_cuts(manifest):
        alignment = cut.alignment()
        if alignment is None or len(cut.symbols) < 12:
            continue
        frames = alignment.durations(FRAME_RATE, round(cut.seconds * FRAME_RATE))
        found.append((torch.tensor(ids(cut.symbols)), frames, torch.tensor([is_pause(s) for s in cut.symbols])))
    return found[:: max(1, len(found) // most)][:most]


def judge(rows: list[tuple[Tensor, Tensor, Tensor]], model: DurationModel | None) -> dict[str, float]:
    """Scores of a model, or of the baseline."""
    size = max(len(row[0]) for row in rows)
    true, mean, one = (torch.zeros(len(rows), size, dtype=torch.float64) for _ in range(3))
    masked, pause, real = (torch.zeros(len(rows), size, dtype=torch.bool) for _ in range(3))
    average = [torch.cat([f[p == kind] for _, f, p in rows]).double().mean() for kind in (False, True)]
    for index, (phones, frames, silent) in enumerate(rows):
        length = len(phones)
        known = torch.arange(length) < length // 2
        samples = [_predict(model, phones, known, frames, silent, average, seed) for seed in range(_draws(model))]
        true[index, :length] = frames.double()
        mean[index, :length], one[index, :length] = torch.stack(samples).mean(0), samples[0]
        masked[index, :length], pause[index, :length], real[index, :length] = ~known, silent, True
    spoken = masked & ~pause
    scores = {
        "phone MS-MAE": ms_mae(mean, true, spoken),
        "phone FDD": fdd(one[spoken], true[spoken]),
        "pause MS-MAE": ms_mae(mean, true, masked & pause),
        "pause FDD": fdd(one[masked & pause], true[masked & pause]),
    }
    if model is not None:
        followed = torch.where(masked, mean, true)
        scores["MS-Corr"] = ms_corr(followed, true, spoken, real & ~pause)
        scores["MS-Corr of the recordings"] = ms_corr(true, true, spoken, real & ~pause)
    return {name: round(float(value), 3) for name, value in scores.items()}


def _draws(model: DurationModel | None) -> int:
    return SAMPLES if model is not None and model.config.variant == "flow" else 1


def _predict(
    model: DurationModel | None,
    phones: Tensor,
    known: Tensor,
    frames: Tensor,
    silent: Tensor,
    average: list[Tensor],
    seed: int,
) -> Tensor:
    if model is None:
        return torch.where(silent, average[1], average[0])
    rng = torch.Generator().manual_seed(seed)
    made: Tensor = model.predict(phones, known, frames, Sampling(solver="midpoint", steps=8, temperature=1.0), rng)
    return made.double()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--models", nargs="+", default=["voicebox-duration"])
    parser.add_argument("--most", type=int, default=150, help="utterances per manifest")
    arguments = parser.parse_args()
    for manifest in arguments.manifests:
        rows = utterances(manifest, arguments.most)
        print(json.dumps({"manifest": str(manifest), "utterances": len(rows), "model": "mean", **judge(rows, None)}))
        for name in arguments.models:
            saved = checkpoint.load(checkpoint.find(name))
            model = DurationModel(load_config(DurationConfig, saved.config))
            checkpoint.load_state(model, saved.state, name)
            scores = judge(rows, model.eval())
            print(json.dumps({"manifest": str(manifest), "model": name, "variant": model.config.variant, **scores}))


if __name__ == "__main__":
    main()
