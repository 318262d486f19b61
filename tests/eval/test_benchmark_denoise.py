"""The benchmark of noise removal: noise made to order, its mixing at known places, and the protocol with a fake."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from flowtts import voice
from flowtts.audio.active import active_rms
from flowtts.audio.io import read, resample, write
from flowtts.types import Audio, UserError

RATE = 16_000
FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ModuleType]]:
    """``noises`` and ``denoise``, as a run of the script sees them."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("noises"), importlib.import_module("denoise")
    patch.undo()


@pytest.fixture(scope="module")
def noises(scripts: tuple[ModuleType, ModuleType]) -> ModuleType:
    return scripts[0]


@pytest.fixture(scope="module")
def denoise(scripts: tuple[ModuleType, ModuleType]) -> ModuleType:
    return scripts[1]


def speech(name: str = "reader-f") -> Audio:
    return resample(read(voice.shipped()[name]).mono(), RATE)


def others() -> list[Any]:
    return [speech(name).samples for name in ("reader-m", "rms", "slt")]


KINDS = ("hiss", "impact", "tone", "bark", "hum", "rustle", "babble")


@pytest.mark.parametrize("kind", KINDS)
def test_bursts_have_unit_power_and_are_told_by_their_seed(noises: ModuleType, kind: str) -> None:
    assert noises.KINDS == KINDS
    first, again, other = (noises.burst(kind, np.random.default_rng(s), 0.7, others()) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first[:500], other[:500])
    assert 160 <= len(first) <= round(0.7 * RATE)
    assert np.mean(np.square(first)) == pytest.approx(1.0)
    # Nothing of a burst lies where no loudspeaker or microphone carries it.
    spectrum = np.abs(np.fft.rfft(first)) ** 2
    assert np.isfinite(first).all() and spectrum[0] < 0.2 * spectrum.sum()


def test_unknown_noise_and_babble_of_nobody_are_refused(noises: ModuleType) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no kind of noise 'meow'"):
        noises.burst("meow", rng, 1.0)
    with pytest.raises(ValueError, match="other speakers"):
        noises.burst("babble", rng, 1.0)


def test_a_colour_is_a_slope(noises: ModuleType) -> None:
    wave = noises.coloured(np.random.default_rng(0), 16 * RATE, -2.0)
    power = np.abs(np.fft.rfft(wave)) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / RATE)
    means = [power[(frequency > f) & (frequency < 1.1 * f)].mean() for f in (500, 1000, 2000)]
    assert np.diff(10 * np.log10(means)) == pytest.approx([-6.02, -6.02], abs=0.7)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7])
def test_places_cover_the_share_and_lie_apart(noises: ModuleType, share: float) -> None:
    for seed in range(40):
        found = noises.places(np.random.default_rng(seed), 7.3, share)
        assert sum(b - a for a, b in found) == pytest.approx(share * 7.3)
        edges = [0.0, *(t for span in found for t in span), 7.3]
        assert all(a < b + 1e-9 for a, b in pairwise(edges))
        assert all(b - a >= 0.3 - 1e-9 for a, b in found)
    with pytest.raises(ValueError, match="inside"):
        noises.places(np.random.default_rng(0), 7.3, 1.0)


@pytest.mark.parametrize("snr", [-10.0, 0.0, 5.0])
@pytest.mark.parametrize("kind", KINDS)
def test_mixing_has_the_asked_ratio_and_touches_nothing_else(noises: ModuleType, kind: str, snr: float) -> None:
    clean = Audio(speech().samples * np.float32(0.02), RATE)
    spans = [(0.5, 1.25), (2.0, 2.5)]
    mixed = noises.mix(clean, spans, [kind], snr, np.random.default_rng(3), others())
    assert mixed.spans == tuple(spans)
    noise = mixed.audio.samples - clean.samples
    inside = noises.overlap(spans, len(noise), 1 / RATE)
    assert np.array_equal(noise[~inside], np.zeros((~inside).sum(), "f4"))
    level = active_rms(clean.samples, RATE)
    for start, end in spans:
        power = np.mean(np.square(noise[round(start * RATE) : round(end * RATE)], dtype=np.float64))
        # Bursts that are repeated to fill a place are cut at its end, which takes a part of the last one's power.
        assert 10 * np.log10(level**2 / power) == pytest.approx(snr, abs=1.5 if kind in ("impact", "bark") else 0.2)


def test_a_loud_sum_is_scaled_not_clipped(noises: ModuleType) -> None:
    clean = Audio(speech().samples / np.abs(speech().samples).max(), RATE)
    loud = noises.mix(clean, [(0.5, 1.5)], ["hiss"], -20.0, np.random.default_rng(0)).audio.samples
    assert np.abs(loud).max() == pytest.approx(0.999, abs=1e-4)
    outside = np.r_[loud[:8000], loud[24_000:]] / np.r_[clean.samples[:8000], clean.samples[24_000:]].clip(1e-3)
    assert len(np.unique(np.abs(loud) >= 0.9985)) == 2 and outside.max() < 1.0


def test_a_burst_that_dies_away_ends_its_place(noises: ModuleType) -> None:
    mixed = noises.mix(speech(), [(0.5, 1.5)], ["impact"], 0.0, np.random.default_rng(0), fill=False)
    ((start, end),) = mixed.spans
    assert start == 0.5 and 0.51 <= end <= 1.5


def test_overlap_counts_middles(noises: ModuleType) -> None:
    assert noises.overlap([(0.01, 0.03)], 5, 0.01).tolist() == [False, True, True, False, False]
    assert noises.overlap([(0.006, 0.014)], 3, 0.01).tolist() == [False, False, False]


# --- the protocol


@dataclass
class Made:
    audio: Audio


@dataclass
class Fake:
    """Gives the clean recording back in the given places; refuses texts with a certain word."""

    clean: dict[str, Audio]
    asked: list[tuple[str, Any, dict[str, Any]]] = field(default_factory=list)
    broken_after: int = 1000

    def denoise(self, recording: Audio, text: str, spans: Any = None, **options: Any) -> Made:
        if len(self.asked) == self.broken_after:
            raise KeyboardInterrupt
        self.asked.append((text, spans, options))
        if "refuse" in text:
            raise UserError("the transcript does not fit")
        samples = recording.samples.copy()
        for start, end in spans:
            place = slice(round(start * RATE), round(end * RATE))
            samples[place] = self.clean[text].samples[place]
        return Made(Audio(samples, RATE))

    def fill(self, recording: Audio, text: str, spans: Any, **options: Any) -> Made:
        assert recording is self.clean[text]
        return self.denoise(recording, text, spans, **options)


TEXTS = {"reader-f": "one text", "reader-m": "another text", "rms": "texts that refuse"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = ["id\taudio\ttext"]
    for name, text in TEXTS.items():
        write(tmp_path / f"{name}.wav", speech(name))
        lines.append(f"{name}\t{name}.wav\t{text}")
    (tmp_path / "table.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "table.tsv"


def settings(denoise: ModuleType, table: Path, **changes: Any) -> Any:
    defaults: dict[str, Any] = {
        "table": str(table), "snr": -10.0, "kinds": ("hiss", "tone"), "alignment": "noisy", "seed": 0, "model": "m",
        "vocoder": "v", "options": {"steps": 4},
    }  # fmt: skip
    return denoise.Settings(**{**defaults, **changes})


def test_the_table_is_read_and_judged(denoise: ModuleType, table: Path) -> None:
    found = denoise.samples(table, 1.0, 60.0, 10)
    assert [s.name for s in found] == list(TEXTS) and all(s.prompt is None for s in found)
    assert [s.name for s in denoise.samples(table, 1.0, 60.0, 2)] == ["reader-f", "reader-m"]
    with pytest.raises(UserError, match="no recording of 100 to 200 s"):
        denoise.samples(table, 100.0, 200.0, 10)
    for content, message in (
        ("id\ttext\na\tb\n", "no column audio"),
        ("id\taudio\ttext\n../x\treader-f.wav\tb\n", "line 2: the id '../x'"),
        ("id\taudio\ttext\nx\treader-f.wav\tb\nx\treader-f.wav\tb\n", "line 3: the id 'x'"),
    ):
        table.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            denoise.samples(table, 1.0, 60.0, 10)


def test_noise_depends_on_seed_id_and_share_alone(denoise: ModuleType, table: Path) -> None:
    found = denoise.samples(table, 1.0, 60.0, 10)
    plain = settings(denoise, table)
    first = denoise.noisy(found[1], found, 0.5, plain)
    again = denoise.noisy(found[1], found[:2], 0.5, plain)
    assert np.array_equal(first.audio.samples, again.audio.samples) and first.spans == again.spans
    assert sum(b - a for a, b in first.spans) == pytest.approx(0.5 * found[1].audio.seconds, abs=0.01)
    for other in (denoise.noisy(found[1], found, 0.3, plain), denoise.noisy(found[0], found, 0.5, plain)):
        assert other.spans != first.spans
    reseeded = denoise.noisy(found[1], found, 0.5, settings(denoise, table, seed=1))
    assert reseeded.spans != first.spans


def test_baselines_touch_nothing_outside_and_reduce_noise_inside(denoise: ModuleType, noises: ModuleType) -> None:
    clean = Audio(speech().samples * np.float32(0.1), RATE)
    mixed = noises.mix(clean, [(0.5, 1.5), (2.0, 2.4)], ["hiss"], -10.0, np.random.default_rng(0))
    inside = noises.overlap(mixed.spans, len(clean.samples), 1 / RATE)
    silent, filtered = denoise.muted(mixed).samples, denoise.wiener(mixed).samples
    for made in (silent, filtered):
        assert np.array_equal(made[~inside], clean.samples[~inside])
    assert not silent[inside].any()
    error = [np.square(made - clean.samples)[inside].mean() for made in (mixed.audio.samples, filtered)]
    assert 10 * np.log10(error[0] / error[1]) > 6


def test_the_protocol_makes_judges_and_reports(denoise: ModuleType, table: Path, tmp_path: Path) -> None:
    everyone = denoise.samples(table, 1.0, 60.0, 10)
    fake = Fake({s.text: s.audio for s in everyone})
    scores = denoise.run(fake, everyone, [0.5], tmp_path / "out", settings(denoise, table), ("sim-o",))
    made = scores["shares"]["50%"]
    assert made["clean"]["sim-o"]["items"]["reader-f"] == pytest.approx(1.0)
    assert made["noisy"]["sim-o"]["value"] < made["given"]["sim-o"]["items"]["reader-f"]
    assert made["given"]["refused"] == {"rms": "the transcript does not fit"} and made["clean"]["refused"] == {}
    assert made["given"]["sim-o"]["items"]["rms"] == made["noisy"]["sim-o"]["items"]["rms"]
    assert made["given"]["sim-o"]["count"] == 3 and made["sim-o against"] == "the clean recording itself"
    assert all(options == {"steps": 4} for _, _, options in fake.asked)
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["shares"]["50%"].keys() == made.keys()
    shown = (tmp_path / "out" / "scores.md").read_text()
    assert "| 50% | given |" in shown and shown.count("| 50% |") == 6


def test_with_the_clean_alignment_the_clean_recording_is_filled(
    denoise: ModuleType, table: Path, tmp_path: Path
) -> None:
    everyone = denoise.samples(table, 1.0, 60.0, 2)
    fake = Fake({s.text: s.audio for s in everyone})
    scores = denoise.run(fake, everyone, [0.5], tmp_path, settings(denoise, table, alignment="clean"), ("sim-o",))
    assert [text for text, _, _ in fake.asked] == ["one text", "another text"]
    assert scores["shares"]["50%"]["given"]["sim-o"]["value"] > 0.99 and "found" not in scores["shares"]["50%"]


def test_a_broken_run_continues(denoise: ModuleType, table: Path, tmp_path: Path) -> None:
    everyone = denoise.samples(table, 1.0, 60.0, 2)
    plain, folder = settings(denoise, table), tmp_path / "share-30"
    clean = {s.text: s.audio for s in everyone}
    broken = Fake(clean, broken_after=2)
    with pytest.raises(KeyboardInterrupt):
        denoise.process(broken, everyone, 0.3, folder, plain)
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"id": "reader-m", "spa')
    fake = Fake(clean)
    journal = denoise.process(fake, everyone, 0.3, folder, plain)
    assert {text for text, _, _ in fake.asked} == {"another text"} and list(journal) == ["reader-f", "reader-m"]
    assert len((folder / "journal.jsonl").read_text().splitlines()) == 2


def test_other_settings_do_not_continue_a_run(denoise: ModuleType, table: Path, tmp_path: Path) -> None:
    denoise.check_settings(tmp_path / "out", settings(denoise, table))
    denoise.check_settings(tmp_path / "out", settings(denoise, table))
    with pytest.raises(UserError, match="another seed; give another folder"):
        denoise.check_settings(tmp_path / "out", settings(denoise, table, seed=1))
