"""Numbers, words and pictures of a comparison: what the page and the tables are made of."""

from __future__ import annotations

import copy
import io
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison import example

from flowtts.audio.mel import mel_edges
from flowtts.compare.clock import without_times
from flowtts.compare.figures import Figures, Scale, probability, scale_of
from flowtts.compare.page_plots import families
from flowtts.compare.result import Result
from flowtts.compare.spectrogram import BANDS, LEVELS, MOST_FRAMES, _palette, picture, png
from flowtts.compare.svg import linear, logarithmic, mark
from flowtts.compare.words import Piece, align
from flowtts.types import Audio, MelSpec, UserError

LETTERS = ("a", "b", "c")


@pytest.fixture
def result(tmp_path: Path) -> Result:
    return example(tmp_path)


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "factor", "decimals", "text"),
    [
        (0.05, 100, 1, "5.0"),
        (-0.2, 100, 1, "−20.0"),
        (-0.00001, 100, 1, "0.0"),
        (None, 1, 3, "–"),
        (0.6666, 1, 3, "0.667"),
    ],
)
def test_a_number_is_written_with_its_decimals_and_a_minus(
    value: float | None, factor: float, decimals: int, text: str
) -> None:
    assert Scale(factor, decimals).text(value) == text


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([0.5, 1.99], 3), ([2.0, 19.9], 2), ([0.1, -25.0], 1), ([0.1, 700.5], 0), ([16.0, 32.0], 0), ([None], 3), ([], 3)],
)
def test_a_column_has_as_many_decimals_as_its_largest_number_needs(values: list[float | None], decimals: int) -> None:
    assert scale_of(values).decimals == decimals


def test_an_interval_that_is_not_known_is_not_written() -> None:
    assert Scale(1, 2).between(-1, 2) == "[−1.00, 2.00]" and Scale(1, 2).between(None, 2) == ""


def test_small_probabilities_are_not_zero() -> None:
    assert [probability(p) for p in (None, 0.0004, 0.001, 1.0)] == ["–", "< 0.001", "0.001", "1.000"]


def test_the_best_are_those_that_share_the_first_rank_recordings_aside(result: Result) -> None:
    assert Figures.of(result).best("wer") == {"voicebox"}
    result["scores"]["tortoise"]["wer"]["rank"] = 1
    assert Figures.of(result).best("wer") == {"voicebox", "tortoise"}
    for name in ("voicebox", "tortoise"):
        result["scores"][name]["wer"]["rank"] = None
    assert Figures.of(result).best("wer") == {"recordings"}
    assert Figures.of(result).best("unknown") == frozenset()


def test_a_verdict_follows_the_direction_of_the_metric(result: Result) -> None:
    figures = Figures.of(result)
    lower, none, *_ = result["differences"]
    assert figures.verdict(lower) == "Voicebox is better"  # fewer errors
    assert figures.verdict({**lower, "metric": "sim-o"}) == "Tortoise is better"  # less alike
    assert figures.verdict({**lower, "value": 0.2}) == "Tortoise is better"
    assert figures.verdict(none) == "no difference shown"
    assert figures.verdict({**lower, "p": None}) == "cannot be said"


def test_two_runs_differ_in_times_alone(result: Result) -> None:
    other = copy.deepcopy(result)
    other["created"], other["machine"] = "tomorrow", {"cpu": "another"}
    other["systems"][0]["times"] = None
    other["items"][0]["took"] = 99.0
    before = copy.deepcopy(result)
    assert without_times(other) == without_times(result) and result == before
    other["items"][0]["nfe"] = 8
    assert without_times(other) != without_times(result)


# --- words -----------------------------------------------------------------------------------------------------------


def test_what_was_heard_is_told_apart() -> None:
    wanted, heard = "we saw the old bridge shake last night", "we saw the bridge shake fast night now"
    assert align(wanted.split(), heard.split()) == [
        Piece("equal", ("we", "saw", "the"), ("we", "saw", "the")),
        Piece("delete", ("old",), ()),
        Piece("equal", ("bridge", "shake"), ("bridge", "shake")),
        Piece("substitute", ("last",), ("fast",)),
        Piece("equal", ("night",), ("night",)),
        Piece("insert", (), ("now",)),
    ]
    two = [Piece("substitute", ("a",), ("c",)), Piece("substitute", ("b",), ("d",))]
    assert align(["a", "b"], ["c", "d"]) == two
    assert align(["a", "b"], []) == [Piece("delete", ("a", "b"), ())]
    assert align([], ["a"]) == [Piece("insert", (), ("a",))] and align([], []) == []


def test_alignments_keep_both_texts_and_count_what_the_error_rate_counts() -> None:
    def distance(a: list[str], b: list[str]) -> int:
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            last, row[0] = row[0], i
            for j, y in enumerate(b, 1):
                last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
        return row[-1]

    rng = random.Random(0)
    for _ in range(200):
        wanted, heard = (rng.choices(LETTERS, k=rng.randrange(7)) for _ in range(2))
        pieces = align(wanted, heard)
        assert [word for piece in pieces for word in piece.wanted] == wanted
        assert [word for piece in pieces for word in piece.heard] == heard
        assert sum(piece.errors for piece in pieces) == distance(wanted, heard)


# --- pictures --------------------------------------------------------------------------------------------------------


def decoded(data: bytes) -> Any:
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(data))
    image.load()
    return image


def sine(hertz: float, seconds: float = 1.0, rate: int = 16_000) -> Audio:
    at = np.arange(int(seconds * rate)) / rate
    return Audio((0.3 * np.sin(2 * np.pi * hertz * at)).astype(np.float32), rate)


def test_a_picture_reads_back_as_it_was_written() -> None:
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = np.arange(36, dtype=np.uint8).reshape(12, 3)
    image = decoded(png(levels, palette))
    assert image.size == (4, 3) and np.array_equal(np.asarray(image), levels)
    assert np.array_equal(np.asarray(image.convert("RGB")), palette[levels])
    assert png(levels, palette) == png(levels, palette)


@pytest.mark.parametrize("levels", [np.zeros((0, 3), np.uint8), np.full((2, 2), 5, np.uint8)])
def test_a_picture_without_pixels_or_colours_is_refused(levels: Any) -> None:
    with pytest.raises(ValueError, match="pixels"):
        png(levels, np.zeros((5, 3), np.uint8))


@pytest.mark.parametrize("hertz", [300.0, 1500.0, 6000.0])
@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_tone_is_a_line_in_its_band(hertz: float, rate: int) -> None:
    levels = np.asarray(decoded(picture(sine(hertz, rate=rate))))
    centres = mel_edges(MelSpec(n_mels=BANDS)).numpy()[1:-1]
    band = int(np.abs(centres - hertz).argmin())
    assert levels.shape[0] == BANDS
    inner = levels[:, 5:-5]
    assert (inner.argmax(axis=0) == BANDS - 1 - band).all() and inner.max() > 0.9 * LEVELS


def test_silence_is_dark_and_long_recordings_are_no_wider_than_others() -> None:
    silent = decoded(picture(Audio(np.zeros(16_000, np.float32), 16_000)))
    assert np.asarray(silent).max() == 0 and silent.size == (51, BANDS)
    assert MOST_FRAMES / 2 < decoded(picture(sine(440, 50))).size[0] <= MOST_FRAMES + 1
    assert decoded(picture(Audio(np.zeros(3, np.float32), 16_000))).size == (1, BANDS)


def test_brighter_is_louder() -> None:
    luminance = _palette().astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) > 0).all() and len(luminance) == LEVELS


# --- plots -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[0.0], [5.0], [0.0, 1.0], [-3.0, 7.5], [0.001, 0.00102], [1e6, 3e6], [99.0, 101.0]])
def test_a_linear_axis_holds_its_numbers_and_labels_round_ones(values: list[float]) -> None:
    axis = linear("x", values)
    assert all(0 <= axis.share(value) <= 1 for value in values)
    assert min(values) < 0 or axis.low >= 0
    assert len(axis.marks) >= 2 and all(axis.low - 1e-9 <= at <= axis.high + 1e-9 for at, _ in axis.marks)
    for at, text in axis.marks:
        assert float(text.replace("−", "-")) == pytest.approx(at, abs=1e-9 * abs(axis.high))


@pytest.mark.parametrize("values", [[0.5], [0.01, 80.0], [0.4, 0.6], [2.0, 4.0, 8.0]])
def test_on_a_logarithmic_axis_equal_ratios_are_equally_far(values: list[float]) -> None:
    axis = logarithmic("x", values)
    assert all(0 < axis.share(value) < 1 for value in values) and len(axis.marks) >= 2
    step = axis.share(values[0] * 1.1) - axis.share(values[0])
    assert axis.share(values[0] * 1.21) - axis.share(values[0] * 1.1) == pytest.approx(step)
    assert math.isclose(axis.share(axis.low), 0) and math.isclose(axis.share(axis.high), 1)


def test_many_systems_have_different_marks() -> None:
    assert len({mark(number, 0, 0) for number in range(49)}) == 49


def test_systems_that_differ_in_their_steps_alone_make_a_line(result: Result) -> None:
    voicebox, tortoise, recordings = result["systems"]
    few: Any = {**voicebox, "name": "v2", "label": "Voicebox steps=2", "settings": {**voicebox["settings"], "steps": 2}}
    many: Any = {
        **voicebox,
        "name": "v8",
        "label": "Voicebox steps=8",
        "settings": {**voicebox["settings"], "steps": 8},
    }
    euler: Any = {**few, "name": "e", "label": "Euler", "settings": {**few["settings"], "solver": "euler"}}
    assert families([few, tortoise, many, euler, recordings]) == {"Voicebox": [few, many]}
    assert list(families([{**few, "label": "fast"}, {**many, "label": "slow"}])) == ["fast, slow"]
    assert families([few, {**few, "name": "again"}]) == {}


def test_a_metric_without_its_weights_is_refused_before_anything_is_made() -> None:
    from flowtts.compare.judging import check

    check(("sim-r",))
    with pytest.raises(UserError, match=r"(?i)wavlm"):
        check(("sim-r-wavlm",))
