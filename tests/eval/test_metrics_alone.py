"""Every metric of the table by itself: from Python in parts and from the command line at once, with the same values."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_judges

from flowtts import cli
from flowtts.audio.io import read, write
from flowtts.copying import copy
from flowtts.eval import utmos
from flowtts.eval.judging import Context
from flowtts.eval.manifest import Manifest, read_manifest
from flowtts.eval.metrics import load
from flowtts.eval.table import METRICS
from flowtts.registry import load_vocoder
from flowtts.types import Audio, UserError
from flowtts.voice import shipped

ASSETS = Path(__file__).parent / "assets"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings with noise, their references, prompts and timings: a few words each, to be quick."""
    folder = tmp_path_factory.mktemp("set")
    rows = ["id\taudio\ttext\treference\tprompt\ttook"]
    for number, (source, text, seconds) in enumerate(
        (
            (ASSETS / "captain_rms.flac", "The old captain", 1.3),
            (ASSETS / "captain_slt.flac", "The old captain", 1.3),
            (shipped()["awb"], "We walked along the river", 1.4),
        )
    ):
        clean = read(source).samples[: round(seconds * 16_000)]
        noise = np.random.default_rng(number).normal(0, 0.002 * (number + 1), len(clean))
        sounds = {"audio": (clean + noise).clip(-1, 1).astype("f4"), "reference": clean, "prompt": clean[:12_000]}
        for name, samples in sounds.items():
            write(folder / f"{name}{number}.wav", Audio(samples, 16_000))
        rows.append(f"i{number}\taudio{number}.wav\t{text}\treference{number}.wav\tprompt{number}.wav\t{0.5 + number}")
    (folder / "set.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "set.tsv"


@pytest.fixture(scope="module")
def manifest(table: Path) -> Manifest:
    return read_manifest(table)


def spelled(name: str, folder: Path) -> str:
    """A name with the tiny weights that it then reads, where it needs some."""
    make = tiny_judges.MAKERS.get(name.rpartition("-")[2])
    try:
        return name if make is None else f"{name}:{make(folder)}"
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_alone(
    name: str, table: Path, manifest: Manifest, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(utmos, "UtmosNetwork", tiny_judges.utmos_network)
    entry, spelling = METRICS[name], spelled(name, tmp_path)
    assert cli.main(["evaluate", str(table), "--metrics", spelling, "--vocoder", "griffin-lim", "--json"]) == 0
    ((key, at_once),) = json.loads(capsys.readouterr().out)["metrics"].items()
    assert (key, at_once["count"], at_once["dropped"]) == (name, 3, {})

    context = Context(
        partial(copy, load_vocoder("griffin-lim")), manifest.took, texts=tuple(item.text for item in manifest.items)
    )
    parts = [manifest.items] if entry.level == "set" else [manifest.items[:2], manifest.items[2:]]
    judges = [load(spelling, context) for _ in parts]
    assert judges[0].name == name
    assert judges[0].higher_is_better == at_once["higher_is_better"] == bool(entry.higher)
    scores = [judge(part) for judge, part in zip(judges, parts, strict=True)]
    assert {score.backend for score in scores} == {at_once["backend"]}
    assert at_once["items"] == {item: pytest.approx(value) for score in scores for item, value in score.items.items()}
    if entry.level == "set":
        assert at_once["value"] == pytest.approx(scores[0].value)
    else:
        assert list(at_once["items"]) == ["i0", "i1", "i2"]
        weights = at_once.get("weights", dict.fromkeys(at_once["items"], 1.0))
        assert {item: weight for score in scores for item, weight in score.weights.items()} == at_once.get(
            "weights", {}
        )
        mean = sum(value * weights[item] for item, value in at_once["items"].items()) / sum(weights.values())
        assert at_once["value"] == pytest.approx(mean)
