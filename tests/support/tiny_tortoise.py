"""A Tortoise of random weights that is whole and small: four networks of width 32, on Voicebox's mel and symbols."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn

from flowtts import checkpoint
from flowtts.data.manifest import write_manifests
from flowtts.nn.causal import CausalConfig
from flowtts.recipes.tortoise import AR_KIND, CLVP_KIND, DIFFUSION_KIND, VQVAE_KIND
from flowtts.recipes.tortoise.autoregressive import AutoregressiveModel
from flowtts.recipes.tortoise.clvp import CLVP
from flowtts.recipes.tortoise.config import ARConfig, CLVPConfig, DiffusionConfig, VQVAEConfig
from flowtts.recipes.tortoise.diffusion import DiffusionDecoder
from flowtts.recipes.tortoise.parts import assemble
from flowtts.recipes.tortoise.vqvae import VQVAE
from flowtts.text.symbols import SYMBOLS, VOWELS
from flowtts.types import VOICEBOX_MEL, Sampling

CODES = 64
"""Size of the codebook. A code stands for 40 ms; there are at most 60 of them in an utterance, and 160 phones."""

SAID = tuple(("SIL", "HH_B", f"{vowel}1_E", "SIL", "DH_B", "EH1_I", "R_E", "SIL.") for vowel in VOWELS)
"""What the utterances of `tiny_manifest` say, in turns. A plain "SIL" is a gap, which text for Tortoise leaves out."""

VQVAE_TINY = VQVAEConfig(
    mel=VOICEBOX_MEL, hidden=16, layers=2, blocks=1, codes=CODES, code_width=8, revive_after=5, codebook="tiny"
)
AR_TINY = ARConfig(
    body=CausalConfig(layers=2, heads=2, width=32, ffn=64, dropout=0.0), mel=VOICEBOX_MEL, symbols=len(SYMBOLS),
    codes=CODES, frames_per_code=4, max_text=160, max_codes=60, clips=1, conditioning_blocks=1, pooling="mean",
    clip_seconds=1.0, codebook="tiny",
)  # fmt: skip
CLVP_TINY = CLVPConfig(
    width=32, latent=16, layers=1, heads=2, head_width=16, ffn=32, symbols=len(SYMBOLS), codes=CODES, dropout=0.0,
    codebook="tiny",
)  # fmt: skip
DIFFUSION_TINY = DiffusionConfig(
    mel=VOICEBOX_MEL, width=32, layers=1, heads=2, codes=CODES + 1, latent_width=32, code_seconds=640,
    code_seconds_per=16_000, steps=60, layer_drop=0.0, raw_conditioning=False, clip_seconds=1.0, codebook="tiny",
    sampling=Sampling(solver="ddim", grid="uniform", steps=4, guidance=1.0, temperature=1.0),
)  # fmt: skip


def tiny_manifest(folder: Path, utterances: int = 6, transcribed: bool = True) -> Path:
    """A manifest of noise by two speakers, "s0" and "s1" in turns: u0, u1, … of 0.5, 0.6, … s that say `SAID`."""
    folder.mkdir(parents=True, exist_ok=True)
    source, entries = np.random.default_rng(0), []
    for number in range(utterances):
        seconds, path = 0.5 + 0.1 * number, folder / f"{number}.wav"
        sound = 0.05 * source.standard_normal(round(16_000 * seconds)).astype(np.float32)
        soundfile.write(path, sound, 16_000)
        entry = {
            "id": f"u{number}", "audio": str(path), "sample_rate": 16_000, "samples": len(sound), "channels": 1,
            "start": 0.0, "duration": seconds, "speaker": f"s{number % 2}", "text": "",
        }  # fmt: skip
        if transcribed:
            said = SAID[number % len(SAID)]
            bounds = np.linspace(0, seconds, len(said) + 1).tolist()
            entry |= {"words": [], "phones": [[s, *pair, None] for s, pair in zip(said, pairwise(bounds), strict=True)]}
        entries.append(entry)
    return write_manifests(folder, entries)


def tiny_networks(seed: int = 0) -> Mapping[str, nn.Module]:
    """The four by kind, none of whose layers does nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: dict[str, nn.Module] = {
            VQVAE_KIND: VQVAE(VQVAE_TINY), AR_KIND: AutoregressiveModel(AR_TINY), CLVP_KIND: CLVP(CLVP_TINY),
            DIFFUSION_KIND: DiffusionDecoder(DIFFUSION_TINY),
        }  # fmt: skip
        for network in made.values():
            for parameter in network.parameters():
                if parameter.ndim > 1 and not parameter.any():
                    nn.init.normal_(parameter, std=0.05)
    return made


def tiny_parts(folder: Path, seed: int = 0) -> Mapping[str, Path]:
    """Each network in a checkpoint of its own, by kind."""
    configs = {VQVAE_KIND: VQVAE_TINY, AR_KIND: AR_TINY, CLVP_KIND: CLVP_TINY, DIFFUSION_KIND: DIFFUSION_TINY}
    return {
        kind: checkpoint.save(
            folder / kind, kind=kind, config=configs[kind], state=network.state_dict(),
            vocabulary=SYMBOLS if kind in (AR_KIND, CLVP_KIND) else None,
        )
        for kind, network in tiny_networks(seed).items()
    }  # fmt: skip


def tiny_tortoise(folder: Path, seed: int = 0, dtype: torch.dtype | None = None) -> Path:
    """The whole in ``folder``, and its parts beside it in ``folder``-parts."""
    parts = tiny_parts(folder.with_name(f"{folder.name}-parts"), seed)
    return assemble(
        parts[AR_KIND], folder, vqvae=parts[VQVAE_KIND], clvp=parts[CLVP_KIND], diffusion=parts[DIFFUSION_KIND],
        dtype=dtype,
    )  # fmt: skip
