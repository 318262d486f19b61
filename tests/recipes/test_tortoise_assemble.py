"""Random voices that are fitted while a checkpoint is put together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_tortoise import tiny_manifest, tiny_parts

from flowtts.recipes.tortoise import AR_KIND, CLVP_KIND, DIFFUSION_KIND, VQVAE_KIND, load
from flowtts.recipes.tortoise import assemble as script
from flowtts.types import UserError


def words(folder: Path, *more: str) -> list[str]:
    parts = tiny_parts(folder / "parts")
    return [*(str(parts[k]) for k in (AR_KIND, VQVAE_KIND, CLVP_KIND, DIFFUSION_KIND)), str(folder / "whole"), *more]


def test_random_voices_lie_on_the_line_through_two_speakers(tmp_path: Path) -> None:
    manifest = tiny_manifest(tmp_path / "data")
    script.main(words(tmp_path, "--voices", str(manifest)))
    recipe = load(tmp_path / "whole")
    first, second = (recipe.voice([script._sound(cut) for cut in cuts]).tensors for cuts in script.speakers([manifest]))
    one, again, other = (recipe.random_voice(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert one.hash == again.hash != other.hash and one.model == recipe.hash
    places = []
    for name in ("ar", "decoder"):
        middle, across = (first[name] + second[name]) / 2, first[name] - second[name]
        place = (one.tensors[name] - middle) @ across / (across @ across)
        torch.testing.assert_close(one.tensors[name], middle + place * across, rtol=1e-4, atol=1e-5)
        places.append(float(place))
    # Both networks are given the same voice.
    assert places[0] == pytest.approx(places[1], rel=1e-3) and places[0] != 0


def test_without_voices_there_are_none(tmp_path: Path) -> None:
    script.main(words(tmp_path))
    with pytest.raises(UserError, match="no random voices"):
        load(tmp_path / "whole").random_voice(torch.Generator())


def test_every_speaker_counts_before_any_counts_twice(tmp_path: Path) -> None:
    manifest = tiny_manifest(tmp_path, utterances=7)

    def names(**limits: int) -> list[list[str]]:
        return [[cut.id for cut in cuts] for cuts in script.speakers([manifest], **limits)]

    assert names() == [["u0", "u2", "u4"], ["u1", "u3", "u5"]]
    assert names(each=4) == [["u0", "u2", "u4", "u6"], ["u1", "u3", "u5"]]
    assert names(most=3) == [["u0", "u2"], ["u1"]]
    assert names(most=1) == [["u0"]]


def test_a_missing_manifest_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        script.main(words(tmp_path, "--voices", str(tmp_path / "none")))
    assert stopped.value.code == 2 and "no such manifest" in capsys.readouterr().err
