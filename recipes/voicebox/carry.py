"""Carries an audio model over to other features, so that training on a codec's latents need not begin at random.

``python -m flowtts.recipes.voicebox.carry voicebox-small --features codec --data MANIFEST … --out FOLDER``

A linear map is fitted between the old and the new features of the same recordings, in both directions; it joins the
first and the last layer, and everything between them stays. What comes out says something already, and badly: it is
what ``flowtts train voicebox init=FOLDER`` begins from.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowtts import checkpoint
from flowtts.config import load as load_config
from flowtts.data.dataset import Corpus
from flowtts.data.manifest import read_cuts
from flowtts.features import latent_spec
from flowtts.registry import load_codec
from flowtts.types import LatentSpec, PathLike, UserError

from . import AUDIO_KIND
from .audio import AudioModel
from .config import AudioConfig

RIDGE = 1e-2
"""Of the regressions, as a share of the inputs' mean variance."""


def carry(source: PathLike, spec: LatentSpec, manifests: Sequence[PathLike], out: PathLike, count: int = 200) -> Path:
    """Write a checkpoint of the same transformer with other features.

    Args:
        source: a checkpoint a token of which lasts as long as a frame of ``spec``: of mels, or of another codec's
            latents.
        spec: of the new features.
        manifests: of recordings that both are made of.
        out: folder of the new checkpoint.
        count: recordings used, spread evenly over the manifests.

    Raises:
        UserError: no such checkpoint, or its tokens last longer or shorter than the new frames.
    """
    saved = checkpoint.require_kind(checkpoint.load(checkpoint.find(source)), AUDIO_KIND, source)
    old = load_config(AudioConfig, saved.config)
    stack = old.frames_per_token
    if old.spec.hop_length * stack * spec.sample_rate != spec.hop_length * old.spec.sample_rate:
        raise UserError(
            f"{source} has tokens of {1000 * stack / old.spec.frame_rate:g} ms and {spec.codec} frames of "
            f"{1000 / spec.frame_rate:g} ms: only a model whose tokens last as long can be carried over"
        )
    before, after = _pairs(old, spec, manifests, count)
    into_old, into_new = fit(after, before), fit(before, after)
    state = dict(saved.state)
    channels, text = old.spec.channels, old.text_width
    weight = state["project.weight"].reshape(-1, stack, 2 * channels + text)
    noisy, prompt, spoken = torch.split(weight, [channels, channels, text], dim=-1)
    # A token's text was that of its frames, one after the other; now it is that of one.
    state["project.weight"] = torch.cat([noisy.flatten(1) @ into_old, prompt.flatten(1) @ into_old, spoken.sum(1)], -1)
    state["out.weight"], state["out.bias"] = into_new @ state["out.weight"], into_new @ state["out.bias"]
    new = replace(old, latent=spec, frames_per_token=1)
    checkpoint.load_state(AudioModel(new), state, source)
    return checkpoint.save(out, kind=AUDIO_KIND, config=asdict(new), state=state, vocabulary=saved.vocabulary)


def fit(x: Tensor, y: Tensor) -> Tensor:
    """The (D, C) matrix A that makes ``x @ A.T`` closest to y, by ridge regression without an offset.

    Args:
        x: (N, C).
        y: (N, D).
    """
    gram = x.T @ x
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    solved: Tensor = torch.linalg.solve(gram, x.T @ y)
    return solved.T


def _pairs(old: AudioConfig, spec: LatentSpec, manifests: Sequence[PathLike], count: int) -> tuple[Tensor, Tensor]:
    """Old tokens (N, stack C) and new frames (N, D) of the same sound."""
    cuts = [cut for path in manifests for cut in read_cuts(path)]
    chosen = [cuts[i] for i in np.linspace(0, len(cuts) - 1, min(count, len(cuts))).round().astype(int)]
    old_corpus, new_corpus, stack = Corpus(chosen, old.spec), Corpus(chosen, spec), old.frames_per_token
    before, after = [], []
    for i in range(len(chosen)):
        frames, new = old_corpus.features(i), new_corpus.features(i)
        tokens = frames[: len(frames) // stack * stack].reshape(-1, stack * frames.shape[1])
        size = min(len(tokens), len(new))
        before.append(tokens[:size])
        after.append(new[:size])
    return torch.cat(before), torch.cat(after)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", help="a shipped checkpoint's name or a folder")
    parser.add_argument("--features", required=True, metavar="CODEC")
    parser.add_argument("--data", required=True, action="append", metavar="MANIFEST")
    parser.add_argument("--out", required=True, metavar="FOLDER")
    parser.add_argument("--count", type=int, default=200, help="recordings to fit with")
    given = parser.parse_args(arguments)
    try:
        spec = latent_spec(load_codec(given.features), given.features)
        folder = carry(given.source, spec, given.data, given.out, given.count)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps({"checkpoint": str(folder)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
