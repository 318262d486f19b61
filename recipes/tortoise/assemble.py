"""One checkpoint of the networks of a Tortoise that were trained apart: python -m flowtts.recipes.tortoise.assemble.

Each is a checkpoint's folder or a training run's, of which the newest checkpoint is taken.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch

from flowtts.types import UserError

from .parts import assemble

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
)


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
    parser.add_argument("--readme", type=Path, help="Markdown: licence, training data, results")
    args = parser.parse_args(words)
    try:
        about = None if args.readme is None else args.readme.read_text(encoding="utf-8")
        made = assemble(
            args.ar, args.out, vqvae=args.vqvae, clvp=args.clvp, diffusion=args.diffusion, readme=about,
            dtype=DTYPES[args.dtype],
        )  # fmt: skip
    except (UserError, OSError, UnicodeDecodeError) as error:
        parser.error(str(error))
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    print(f"{made}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
