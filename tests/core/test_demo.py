"""The demonstration writes a page that a browser can show with nothing but what lies beside it."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

pytest.importorskip("resemblyzer")
pytest.importorskip("matplotlib")

from flowtts.audio.io import read
from flowtts.demo import METRICS, SENTENCES, VOICES, make
from flowtts.demo_edits import EDITS, noisy
from flowtts.demo_page import _texts
from flowtts.types import Audio

VOID = {"meta", "img", "link", "br"}


class Balance(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        # The closing tag of a paragraph that a block ended would be found here.
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The folder, what was returned and what was shown, with few steps."""
    out, table = tmp_path_factory.mktemp("demo"), io.StringIO()
    found = make(out, Console(file=table, width=160), {"solver": "euler", "steps": 2})
    return out, found, table.getvalue()


@pytest.mark.slow
def test_the_page_shows_only_what_lies_beside_it(made: tuple[Path, dict[str, Any], str]) -> None:
    out, found, _ = made
    page = (out / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'src="([^":]+\.(?:wav|flac))"', page)
    spoken = len(SENTENCES) * len(VOICES)
    assert len(named) == len(set(named)) == spoken + sum(len(edit["files"]) for edit in found["edits"])
    assert all(read(out / name).seconds > 1 for name in named)
    assert page.count("data:image/png;base64,") == spoken + len(found["edits"])
    assert page.count("data:audio/flac;base64,") == spoken
    assert not re.search(r'(src|href)="https?:', page) and "{" not in re.sub(r"<style>.*</style>", "", page, flags=re.S)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []


@pytest.mark.slow
def test_scores_are_those_that_were_written(made: tuple[Path, dict[str, Any], str]) -> None:
    out, found, shown = made
    assert json.loads((out / "scores.json").read_text(encoding="utf-8")) == found
    count = len(SENTENCES) * len(VOICES)
    assert set(found["metrics"]) == set(METRICS)
    assert all(found["metrics"][name]["count"] == count for name in METRICS)
    assert all(voice in shown for voice in VOICES) and "days" in shown and "silver" in shown


@pytest.mark.slow
def test_edits_keep_every_sample_and_griffin_lim_does_not(made: tuple[Path, dict[str, Any], str]) -> None:
    out, found, shown = made
    edits = [edit for edit in found["edits"] if edit["verb"] == "edit"]
    assert len(edits) == len(EDITS)
    assert found["edit_metrics"]["differing"]["value"] == found["edit_metrics"]["untouched"]["value"] == 0
    for edit in edits:
        ours, other = edit["kept"].values()
        assert ours["identical"] == ours["compared"] > ours["total"] / 2
        assert other["identical"] < other["compared"] / 2
        assert f"{ours['identical']:,} of {ours['compared']:,}" in shown
        before, after, _ = (soundfile.read(out / name, dtype="int16")[0] for name in edit["files"].values())
        first, last = edit["spans"][0], edit["spans"][-1]
        assert np.array_equal(before[: first["start_sample"]], after[: first["start_out_sample"]])
        assert np.array_equal(before[last["end_sample"] :], after[last["end_out_sample"] :])


def test_noise_lies_in_its_place_and_is_as_loud_as_it_says() -> None:
    tone = Audio((0.1 * np.sin(np.arange(32_000) * 0.2)).astype(np.float32), 16_000)
    spoilt = noisy(tone, 0.5, 1.0, snr=-5.0)
    noise = spoilt.samples - tone.samples
    assert not noise[:8000].any() and not noise[16_000:].any()
    power = np.square(tone.samples[8000:16_000]).mean() / np.square(noise[8000:16_000]).mean()
    assert 10 * np.log10(power) == pytest.approx(-5.0, abs=0.05)
    assert np.array_equal(spoilt.samples, noisy(tone, 0.5, 1.0, snr=-5.0).samples)


def test_two_texts_are_shown_as_one() -> None:
    shown = _texts("She kept the letters in a wooden box.", "She kept the old letters in a box & bag.")
    assert shown == (
        "She kept the <ins>old</ins> letters in a <del>wooden box.</del> <ins>box &amp; bag.</ins>"
    )  # fmt: skip
