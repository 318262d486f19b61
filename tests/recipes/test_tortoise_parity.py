"""The public Tortoise with the same random weights: FLOWTTS_PEER_TORTOISE is a Python that has tortoise-tts 3.0.0."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from flowtts.solve import Guidance

_BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, _BENCHMARKS)
parity = pytest.importorskip("parity_tortoise")
peer = pytest.importorskip("parity_tortoise_peer")
sys.path.remove(_BENCHMARKS)

PYTHON = os.environ.get("FLOWTTS_PEER_TORTOISE", "")
needs_peer = pytest.mark.skipif(not PYTHON, reason="FLOWTTS_PEER_TORTOISE names no Python with tortoise-tts 3.0.0")

WHAT = {
    "AR: voice", "AR: logits of text", "AR: logits of codes", "AR: latents", "CLVP: scores", "diffusion: voice",
    "diffusion: from codes", "diffusion: from latents", "diffusion: from nothing", "diffusion: 6 steps, ddpm",
    "diffusion: 6 steps, ddim", "UnivNet: sound", "random voice: AR", "random voice: diffusion", "mel of the decoder",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("peer")
    parity.run_peer(PYTHON, "small", out)
    return out


@needs_peer
def test_outputs_are_equal_after_conversion(folder: Path) -> None:
    rows = {row.what: row for row in parity.compare(folder)}
    assert set(rows) >= WHAT
    assert {what: row.apart for what, row in rows.items() if not row.apart <= parity.BOUND} == {}
    assert all(row.largest > 0.01 for row in rows.values()), "nothing was compared"


@needs_peer
def test_every_weight_has_its_place_at_the_published_sizes(folder: Path) -> None:
    assert parity.check_names(folder) == 1376


@needs_peer
def test_texts_have_the_published_ids(folder: Path) -> None:
    assert parity.other_texts(folder) == []


def test_sizes_are_the_defaults_where_the_peer_is_as_wide_as_published() -> None:
    sizes: Any = parity.sizes_of({"sizes": peer.FULL})
    plain = parity.Sizes()
    assert (sizes.ar.body.layers, sizes.ar.body.ffn, sizes.ar.max_codes) == (30, 4096, plain.ar.max_codes)
    assert sizes.ar.max_text == plain.ar.max_text and sizes.ar.codes == plain.ar.codes
    assert (sizes.clvp.width, sizes.clvp.layers, sizes.clvp.ffn) == (
        plain.clvp.width,
        plain.clvp.layers,
        plain.clvp.ffn,
    )
    assert (sizes.diffusion.width, sizes.diffusion.layers) == (plain.diffusion.width, plain.diffusion.layers)


def test_guidance_grows_as_in_the_public_program() -> None:
    """It adds cond_free_k (1 - i / N) at the i-th of its N steps from the data; ours is as strong but for 1 / N."""
    steps, k = 200, 2.0
    index = torch.arange(steps)
    trained = torch.round(index * 3999 / (steps - 1))
    ours = Guidance.parse("2,schedule=linear")
    for i, step in zip(index.tolist(), trained.tolist(), strict=True):
        assert ours.at(1 - (step + 1) / 4000)[0] == pytest.approx(1 + k * (1 - i / steps), abs=k / steps + 1e-3)
