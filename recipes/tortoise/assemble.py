"""One checkpoint of the networks of a Tortoise that were trained apart: python -m flowtts.recipes.tortoise.assemble.

Each is a checkpoint's folder or a training run's, of which the newest checkpoint is taken. With --voices MANIFEST the
checkpoint also gets voices that nobody has, drawn where those of the manifest's speakers lie.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from flowtts import checkpoint
from flowtts.audio.active import to_level
from flowtts.data.manifest import Timed, read_cuts
from flowtts.types import Audio, PathLike, UserError

from . import load
from .parts import assemble
from .voices import VOICES_KIND, VOICES_PART, GaussianVoices

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
)

MOST, EACH, SHORTEST = 400, 3, 0.5
"""Utterances that random voices are fitted to, those of one speaker, and seconds of one."""


def speakers(manifests: Sequence[PathLike], most: int = MOST, each: int = EACH) -> list[list[Timed]]:
    """The first utterances of every speaker: ``each`` of them, and fewer where there would be more than ``most``.

    Raises:
        UserError: a manifest is missing or broken.
    """
    of: dict[str, list[Timed]] = {}
    for path in manifests:
        for cut in read_cuts(path):
            if cut.speaker is not None and cut.seconds >= SHORTEST and len(of.setdefault(cut.speaker, [])) < each:
                of[cut.speaker].append(cut)
    # The first ones of all speakers, then the second ones …
    ordered = sorted(((rank, who) for who, cuts in of.items() for rank in range(len(cuts))), key=lambda one: one[0])
    found: dict[str, list[Timed]] = {}
    for rank, who in ordered[:most]:
        found.setdefault(who, []).append(of[who][rank])
    return list(found.values())


def fit_voices(folder: Path, manifests: Sequence[PathLike]) -> Path:
    """Put random voices into a checkpoint, fitted to one voice of each speaker as its own networks hear it.

    Raises:
        UserError: there are fewer than two speakers, or a manifest or a recording is broken.
    """
    recipe = load(folder)
    made = GaussianVoices.fit([recipe.voice([_sound(cut) for cut in cuts]) for cuts in speakers(manifests)])
    return checkpoint.save(folder / VOICES_PART, kind=VOICES_KIND, config=made.config, state=made.state_dict())


def _sound(cut: Timed) -> Audio:
    """An utterance at the training level."""
    try:
        samples = cut.cut.load_audio()
    except Exception as error:  # Lhotse's readers raise many kinds
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{cut.id}: its sound cannot be read ({reason}); prepare the corpus again") from error
    mono = np.ascontiguousarray(np.atleast_2d(samples).mean(axis=0), dtype=np.float32)
    return to_level(Audio(mono, round(cut.cut.sampling_rate)))[0]


def main(words: Sequence[str] | None = None) -> None:
    """Command line: see the module's head."""
    parser = argparse.ArgumentParser(
        prog="python -m flowtts.recipes.tortoise.assemble", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("ar", type=Path, help="the autoregressive model")
    parser.add_argument("vqvae", type=Path, help="what makes codes")
    parser.add_argument("clvp", type=Path, help="the judge")
    parser.add_argument("diffusion", type=Path, help="the diffusion decoder")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="what weights are stored in")
    parser.add_argument(
        "--voices",
        type=Path,
        action="append",
        default=[],
        metavar="MANIFEST",
        help="cuts of speakers between whom random voices lie; may be given several times",
    )
    parser.add_argument("--readme", type=Path, help="Markdown: licence, training data, results")
    args = parser.parse_args(words)
    try:
        about = None if args.readme is None else args.readme.read_text(encoding="utf-8")
        made = assemble(
            args.ar, args.out, vqvae=args.vqvae, clvp=args.clvp, diffusion=args.diffusion, readme=about,
            dtype=DTYPES[args.dtype],
        )  # fmt: skip
        if args.voices:
            fit_voices(made, args.voices)
    except (UserError, OSError, UnicodeDecodeError) as error:
        parser.error(str(error))
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    print(f"{made}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
