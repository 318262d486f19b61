"""The published sizes, counted without memory for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from flowtts.recipes.tortoise.autoregressive import AutoregressiveModel
from flowtts.recipes.tortoise.clvp import CLVP
from flowtts.recipes.tortoise.config import ARConfig, CLVPConfig, DiffusionConfig, VQVAEConfig
from flowtts.recipes.tortoise.diffusion import DiffusionDecoder
from flowtts.recipes.tortoise.random import RandomConfig, RandomVoices
from flowtts.recipes.tortoise.vqvae import VQVAE
from flowtts.vocoders.univnet import UnivNet, UnivNetConfig


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: AutoregressiveModel(ARConfig()), 421_526_786),
        (lambda: AutoregressiveModel(ARConfig()).conditioning, 25_285_632),
        (lambda: CLVP(CLVPConfig()), 243_846_145),
        (lambda: DiffusionDecoder(DiffusionConfig()), 292_334_380),
        (lambda: VQVAE(VQVAEConfig()), 51_567_184),
        (lambda: RandomVoices(RandomConfig()), 6_297_600 + 25_178_112),
        # 14,865,506 with weight normalisation.
        (lambda: UnivNet(UnivNetConfig()), 14_789_153),
    ],
)
def test_parameters(make: Callable[[], nn.Module], count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in make().parameters()) == count


def test_the_codebook_is_no_parameter() -> None:
    with torch.device("meta"):
        assert dict(VQVAE(VQVAEConfig()).named_buffers())["quantiser.codebook"].numel() == 8192 * 512
