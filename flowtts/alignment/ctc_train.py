"""Train the phone recogniser behind ``CtcAligner``: ``python -m flowtts.alignment.ctc_train MANIFEST OUT``.

The manifest is one that ``flowtts prepare`` wrote, in any language whose phones are in its vocabulary.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flowtts.alignment.ctc import KIND, CtcConfig, PhoneRecogniser
from flowtts.checkpoint import Card
from flowtts.config import load as load_config
from flowtts.data.dataset import batches
from flowtts.text.symbols import SYMBOLS
from flowtts.train import Run, TrainConfig, fit
from flowtts.types import VOICEBOX_MEL, PathLike, UserError

DEFAULTS = TrainConfig(
    steps=20_000,
    learning_rate=2e-3,
    warmup=100,
    schedule="cosine",
    optimiser="adamw",
    clip=5.0,
    ema=0.995,
    log_every=20,
)
"""A network this small wants larger steps than a speech model."""


def train_aligner(
    manifest: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    config: CtcConfig | None = None,
    training: TrainConfig = DEFAULTS,
    symbols: Sequence[str] = SYMBOLS,
    max_frames_per_batch: int = 4000,
    cache: PathLike | None = None,
    readme: str | None = None,
    resume: bool = False,
) -> Run:
    """Train an aligner on a prepared corpus; its checkpoints are what ``CtcAligner.load`` reads.

    Args:
        manifest: see ``flowtts.data.batches``.
        out: folder of the run.
        config: the network, its defaults if None.
        training: how.
        symbols: vocabulary of the manifest.
        max_frames_per_batch: padded frames of a batch.
        cache: folder for computed features.
        readme: the checkpoint's README: licence and training data.
        resume: continue the run in ``out``.

    Raises:
        UserError: a broken manifest, an ``out`` that holds another run, or a missing package.
    """
    chosen = config or CtcConfig()
    data = batches(
        manifest, VOICEBOX_MEL, max_frames_per_batch=max_frames_per_batch, seed=training.seed, max_frames=1000,
        symbols=symbols, cache=cache,
    )  # fmt: skip
    network = PhoneRecogniser(chosen, symbols)
    card = Card(KIND, chosen, tuple(symbols), readme)
    return fit(network, data, config=training, out=out, card=card, resume=resume)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flowtts.alignment.ctc_train", description=main.__doc__)
    parser.add_argument("manifest", type=Path, nargs="+", help="cuts.jsonl.gz, or folders made by flowtts prepare")
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--cache", type=Path, help="folder for computed features")
    parser.add_argument("--frames", type=int, default=4000, help="padded frames of a batch")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of TrainConfig, e.g. minutes=10")
    parser.add_argument("--network", nargs="*", default=[], metavar="KEY=VALUE", help="of CtcConfig, e.g. width=192")
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args(arguments)
    try:
        run = train_aligner(
            given.manifest, given.out, config=load_config(CtcConfig, None, given.network),
            training=load_config(TrainConfig, None, given.set, DEFAULTS), max_frames_per_batch=given.frames,
            cache=given.cache, resume=given.resume,
        )  # fmt: skip
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stderr.write(f"{run.folder}: step {run.step}{'' if run.finished else ', stopped early'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
