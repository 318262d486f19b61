"""EnCodec and Mimi here beside transformers' on the same random weights, at the published sizes.

    python benchmarks/parity_codecs.py [--seconds 2]

Counts parameters, loads transformers' folders into our networks and our weights back into transformers', and prints
how many codes are equal and how far apart the sound of the same codes is, over its largest sample. EnCodec's codebooks
are frames of its own encoder: with random ones all codes would be the same.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowtts.compat import require
from flowtts.vocoders import encodec, mimi


def reference(kind: str) -> Any:
    """A model of transformers' at its published size, from a fixed seed."""
    package = require("transformers", "hf")
    torch.manual_seed(0)
    return getattr(package, f"{kind}Model")(getattr(package, f"{kind}Config")()).eval()


def spread(theirs: Any, samples: Tensor) -> None:
    """Codebooks that say something: frames of the sound, and what earlier codebooks leave over."""
    if "Encodec" in type(theirs).__name__:
        left = theirs.encoder(samples)[0].T
        for layer in theirs.quantizer.layers:
            book = layer.codebook.embed
            book.copy_(left[torch.randint(len(left), (len(book),))] + 0.01 * torch.randn_like(book))
            left = left - book[torch.cdist(left, book).argmin(1)]
        return
    quantiser = theirs.quantizer
    for branch in (quantiser.semantic_residual_vector_quantizer, quantiser.acoustic_residual_vector_quantizer):
        for layer in branch.layers:
            layer.codebook.cluster_usage.uniform_(0.5, 2.0)
            layer.codebook.embed_sum.normal_()


@torch.no_grad()
def row(kind: str, module: Any, rate: int, seconds: float) -> list[str]:
    """One line of the table."""
    theirs = reference(kind)
    samples = torch.randn(1, 1, round(rate * seconds)) * 0.1
    samples = samples[..., : samples.shape[-1] // 1920 * 1920]
    spread(theirs, samples)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = module.load_network(Path(folder))
    state = module.from_transformers(theirs.state_dict())
    # In memory Mimi's modules lie in halves that its files do not know.
    named = module.to_transformers(state, halves=True) if module is mimi else module.to_transformers(state)
    missing = reference(kind).load_state_dict(named, strict=False)
    made, said = ours.encode(samples), codes(theirs, samples)
    sound, wanted = ours.decode(said), decoded(theirs, said)
    apart = (sound - wanted).abs().max() / wanted.abs().max()
    count = sum(p.numel() for p in theirs.parameters())
    equal = (made[..., : said.shape[-1]] == said).double().mean()
    return [
        kind, f"{count:,}", f"{rate / ours.spec.hop_length:g}", f"{100 * float(equal):.2f} %", f"{float(apart):.1e}",
        f"{len(missing.missing_keys)} missing, {len(missing.unexpected_keys)} unknown",
    ]  # fmt: skip


def codes(theirs: Any, samples: Tensor) -> Tensor:
    """(B, T, K) of all codebooks."""
    if "Encodec" in type(theirs).__name__:
        found: Tensor = theirs.encode(samples, bandwidth=24.0).audio_codes[0]
    else:
        found = theirs.encode(samples, num_quantizers=32).audio_codes
    return found.transpose(1, 2)


def decoded(theirs: Any, ids: Tensor) -> Tensor:
    """(B, 1, N)."""
    swapped = ids.transpose(1, 2)
    if "Encodec" in type(theirs).__name__:
        sound: Tensor = theirs.decode(swapped[None], [None]).audio_values
    else:
        sound = theirs.decode(swapped).audio_values
    return sound


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    print("| | parameters | frames a second | equal codes | sound, largest difference | names, ours to theirs |")
    print("|---|---|---|---|---|---|")
    for kind, module, rate in (("Encodec", encodec, 24_000), ("Mimi", mimi, 24_000)):
        print("| " + " | ".join(row(kind, module, rate, given.seconds)) + " |")


if __name__ == "__main__":
    main()
