"""The benchmark: its settings, its arithmetic, and a whole run on a recipe whose error is known in closed form."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flowtts import bench as benchmark
from flowtts.audio.io import write
from flowtts.bench import Job, Sentence, Setting, read_plan, read_sentences
from flowtts.bench import run as running
from flowtts.bench.models import Loaded
from flowtts.bench.report import markdown, verdicts, write_all
from flowtts.bench.scoring import Task, score_all
from flowtts.bench.settings import Cost, estimate, expand, reference_of, value_of
from flowtts.bench.speak import Speaker, Utterance
from flowtts.bench.statistics import difference, fewest, interval, judging_rate
from flowtts.bench.store import Store, key_of
from flowtts.pipeline import Pipeline
from flowtts.solve import solve
from flowtts.solve.grid import grid_named
from flowtts.text import FrontEnd
from flowtts.types import VOICEBOX_MEL, Audio, Field, Generated, MelSpec, Phone, Sampling, UserError
from flowtts.types import Utterance as Prompt
from flowtts.voice import Voice

PLAIN = Sampling(guidance=1.0)


# --- settings and sentences ------------------------------------------------------------------------------------------


def test_lists_are_multiplied_and_a_setting_comes_once() -> None:
    rows = [
        {"model": ["a"], "solver": ["euler", "heun"], "steps": [2, 4]},
        {"model": ["a", "b"], "solver": ["euler"], "steps": [4]},
    ]
    found = expand(rows, lambda model: replace(PLAIN, grid=f"of-{model}"))
    assert [(one.model, one.sampling.solver, one.sampling.steps) for one in found] == [
        ("a", "euler", 2), ("a", "euler", 4), ("a", "heun", 2), ("a", "heun", 4), ("b", "euler", 4),
    ]  # fmt: skip
    assert {one.sampling.grid for one in found} == {"of-a", "of-b"}


def test_names_differ_and_can_be_folders() -> None:
    grids = ("sway", "sway:-0.5", "sway:0.5", "a/grid.json", "b/grid.json")
    settings = [Setting(model, replace(PLAIN, grid=grid)) for model in ("m", "x/m", "y/m") for grid in grids]
    settings += [Setting("m", replace(PLAIN, guidance="2,interval=0.1:0.9")), Setting("m", replace(PLAIN, steps=9))]
    settings += [Setting("m", replace(PLAIN, temperature=0.5))]
    names = [one.name for one in settings]
    assert len(set(names)) == len(names)
    assert all(name == Path(name).name and ":" not in name for name in names)
    assert Setting("voicebox", Sampling("euler", "sway", 8, 1.3)).name == "voicebox-euler-sway-8-g1.3"


def test_the_reference_keeps_model_guidance_and_temperature_unless_told() -> None:
    one = Setting("m", Sampling("euler", "sway", 4, 2.0, 0.5))
    assert reference_of(one, {}) == Setting("m", Sampling("rk4", "uniform", 32, 2.0, 0.5))
    told = reference_of(one, {"model": "teacher", "steps": 8, "guidance": 1.3})
    assert told == Setting("teacher", Sampling("rk4", "uniform", 8, 1.3, 0.5))


def test_a_plan_is_read_with_lists_and_its_reference(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "settings:\n- {solver: euler, grid: [uniform, sway], steps: [4, 8]}\n- {guidance: '1.30', temperature: 1}\n"
        "reference: {steps: 64}\n"
    )
    rows, reference = read_plan(path)
    assert rows == [
        {"solver": ["euler"], "grid": ["uniform", "sway"], "steps": [4, 8]}, {"guidance": [1.3], "temperature": [1.0]},
    ]  # fmt: skip
    assert reference == {"steps": 64}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("settings: []", "must be a list"), ("rows: 1", "'rows'"), ("settings: [euler]", "must be a list"),
        ("settings: [{slover: euler}]", "solver"), ("settings: [{steps: many}]", "setting 1: steps 'many'"),
        ("settings: [{steps: []}]", "no value"), ("settings: [{guidance: x}]", "setting 1"),
        ("settings: [{steps: 2}]\nreference: 3", "reference"), ("settings: [{temperature: -1}]", "temperature"),
    ],
)  # fmt: skip
def test_a_wrong_plan_says_where(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"plan\.yaml") as caught:
        read_plan(path)
    assert said in str(caught.value)


def test_equal_scales_are_one_setting() -> None:
    assert value_of("guidance", "1.30", "") == value_of("guidance", 1.3, "") == 1.3


@pytest.mark.parametrize(
    ("sampling", "cost"),
    [
        (Sampling("euler", "uniform", 8, 1.3), Cost(8, 16)),
        (Sampling("euler", "sway", 8, 1.0), Cost(8, 8)),
        (Sampling("midpoint", "uniform", 4, 2.0), Cost(8, 16)),
        (Sampling("rk4", "cosine", 2, 0.0), Cost(8, 8)),
        (Sampling("euler", "uniform", 4, "2,interval=0.5:1"), Cost(4, 6)),
    ],
)
def test_costs_are_counted_without_a_network(sampling: Sampling, cost: Cost) -> None:
    assert estimate(sampling) == cost


def test_shipped_sentences_are_forty_and_hold_every_phone() -> None:
    found = read_sentences()
    assert len(found) == 40 and len({one.id for one in found}) == 40
    frontend = FrontEnd()
    phones = {
        phone.symbol.partition("_")[0].rstrip("012")
        for one in found for phone in frontend.analyse(one.text).phones if phone.word >= 0
    }  # fmt: skip
    assert len(phones) == 39
    assert read_sentences(count=3) == found[:3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id\twords\n1\thello\n", "'text'"), ("id\ttext\n", "holds no sentence"), ("id\ttext\na\n", "line 2"),
        ("id\ttext\na\thello\nb\t \n", "line 3"), ("id\ttext\na/b\thello\n", "'a/b'"),
        ("id\ttext\na\thello\nA\tbye\n", "twice"), ("id\ttext\na\thello\n", "1 sentences, not 2"),
    ],
)  # fmt: skip
def test_wrong_sentences_are_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "s.tsv"
    path.write_text(content)
    with pytest.raises(UserError, match=r"s\.tsv") as caught:
        read_sentences(path, 2)
    assert said in str(caught.value)


# --- arithmetic ------------------------------------------------------------------------------------------------------


def test_an_interval_is_of_the_weighted_mean() -> None:
    assert interval([0.0, 1.0], [3, 1])["value"] == 0.25
    assert interval([0.5] * 4) == {"value": 0.5, "low": 0.5, "high": 0.5}
    spread = interval([0.0, 1.0] * 20)
    assert spread["low"] < 0.5 < spread["high"]


def scored(value: float | None, items: dict[str, float | None]) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "items": items}


def test_a_difference_is_paired_and_weighed_by_words() -> None:
    texts = {"a": "one two three", "b": "four"}
    # 1 error of 3 words and 0 of 1 against 0 and 1: both sets have one error in four words.
    mine, theirs = scored(0.25, {"a": 1 / 3, "b": 0.0}), scored(0.25, {"a": 0.0, "b": 1.0})
    found = difference("wer-closed", mine, theirs, texts)
    assert found is not None and found["value"] == 0
    assert found["low"] == -1 and found["high"] == pytest.approx(1 / 3)
    same = difference("wer", mine, mine, texts)
    assert same == {"value": 0, "low": 0, "high": 0}


def test_a_difference_of_what_is_no_mean_has_no_interval() -> None:
    found = difference("fsd", scored(3.0, {"a": 1.0}), scored(1.0, {"a": 1.0}), {"a": "one"})
    assert found == {"value": 2.0, "low": None, "high": None}
    assert difference("sim-o", scored(None, {"a": None}), scored(1.0, {"a": 1.0}), {"a": "one"}) is None


def row(model: str, calls: int, rate: float, gap: float, reference: bool = False) -> dict[str, Any]:
    return {
        "model": model, "network_calls": calls, "reference": reference, "metrics": {"wer": {"value": rate}},
        "differences": {} if reference else {"wer": {"value": gap}},
    }  # fmt: skip


def test_the_fewest_calls_within_a_point_win() -> None:
    rows = [
        row("m", 256, 0.05, 0, True), row("m", 4, 0.09, 0.04), row("m", 16, 0.06, 0.01), row("m", 16, 0.055, 0.005),
        row("m", 32, 0.05, 0.0), row("n", 8, 0.5, 0.45),
    ]  # fmt: skip
    found = fewest(rows, "wer")
    assert found["m"] == rows[3] and found["n"] is None
    assert judging_rate(("sim-o", "wer-closed", "wer")) == "wer-closed" and judging_rate(("sim-o",)) is None


def test_a_store_gives_back_only_what_is_whole(tmp_path: Path) -> None:
    store, said = Store(tmp_path), (Utterance("v", Sentence("a", "hello")),)
    store.save("s", {"key": "k"})
    assert store.load("s", "k", said) is None  # its recording is missing
    store.audio("s").mkdir(parents=True)
    store.audio("s", said[0]).touch()
    assert store.load("s", "k", said) == {"key": "k"} and store.load("s", "other", said) is None
    store.forget("s")
    assert store.load("s", "k", said) is None and not store.audio("s", said[0]).exists()
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})


# --- a whole run -----------------------------------------------------------------------------------------------------


@dataclass
class Decay:
    """A recipe that follows dx/dt = -x, so that Euler with n steps gives (1 - 1/n)^n x0."""

    fails: str = ""
    says: list[Sampling] = field(default_factory=list)
    name: str = "decay"
    tasks: frozenset[str] = frozenset({"say"})
    symbols: Sequence[str] = ("a",)
    sampling: Sampling = PLAIN

    @property
    def spec(self) -> MelSpec:
        return VOICEBOX_MEL

    def durations(self, phones: Sequence[Phone], prompt: Prompt | None, rng: torch.Generator) -> Tensor:
        return torch.full((len(phones),), 4.0)

    def say(
        self, phones: Sequence[Phone], durations: Tensor, prompt: Prompt | None, sampling: Sampling,
        rng: torch.Generator,
    ) -> Generated:  # fmt: skip
        self.says.append(sampling)
        if sampling.solver == self.fails:
            raise UserError("this solver is out of order")
        x0 = torch.randn(1, int(durations.sum()), 80, generator=rng)
        found = solve(lambda t, x: -x, x0, sampling)
        return Generated(found.x[0], durations, found.nfe, found.network_calls)


class Shown(Decay):
    """Shows its field, and counts how often that is asked for."""

    shown = 0

    def field(
        self, phones: Sequence[Phone], durations: Tensor, features: Tensor, known: Tensor, guidance: float | str
    ) -> Field:
        self.shown += 1
        assert features.shape == (int(durations.sum()), 80) and not bool(known.any())
        return lambda t, x: (1 + 2 * float(t)) * x


class Hum:
    """A vocoder of one tone, because sound does not matter here."""

    name = "hum"
    spec = VOICEBOX_MEL

    def decode(self, features: Tensor) -> Tensor:
        return 0.1 * torch.sin(0.1 * torch.arange(features.shape[1] * 160))[None]


class Watcher:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done: list[tuple[int, int | None]] = []

    def set(self, done: int, total: int | None = None, description: str | None = None) -> None:
        self.done.append((done, total))

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def decay(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Decay]:
    """Lets benchmarks load a `Decay` in place of a model."""
    prompt = Prompt((), torch.zeros(0, dtype=torch.long), torch.zeros(0, 80))
    voice = Voice("rms", "hello", False, prompt, 1.0, Audio(torch.zeros(16000).numpy(), 16_000), "0")

    def use(fails: str = "", kind: type[Decay] = Decay) -> Decay:
        recipe = kind(fails)
        tts = Pipeline(recipe, Hum(), "decay", "hash")

        def load_all(
            models: Sequence[str], sentences: Sequence[Sentence], voices: Sequence[str], vocoder: str, device: str,
            seed: int, engine: str,
        ) -> Loaded:  # fmt: skip
            cpu, sources = torch.device("cpu"), {name: name for name in voices}
            prompts = {VOICEBOX_MEL: {name: voice for name in voices}}
            speakers = {name: Speaker(tts, prompts[VOICEBOX_MEL], sources, seed, cpu) for name in models}
            said = tuple(Utterance(name, sentence) for name in voices for sentence in sentences)
            return Loaded(speakers, said, cpu, prompts, sources, vocoder)

        monkeypatch.setattr(running, "load_all", load_all)
        return recipe

    return use


def job(*solvers: str, metrics: tuple[str, ...] = ("mel",), seed: int = 0) -> Job:
    rows = {"model": ["m"], "solver": list(solvers), "steps": [2, 4]}
    return Job((rows,), (Sentence("a", "Hello."), Sentence("b", "Good night.")), ("rms",), metrics, seed=seed)


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{row['solver']} {row['steps']}": row for row in result["rows"]}


def test_the_distance_is_the_solvers_error(decay: Callable[..., Decay], tmp_path: Path) -> None:
    decay()
    rows = by_name(benchmark.bench(job("euler"), tmp_path, Watcher()))
    assert list(rows) == ["rk4 32", "euler 2", "euler 4"]
    assert rows["rk4 32"]["reference"] and rows["rk4 32"]["mel"] is None
    # Both see the same noise, so the ratio of the distances is that of |(1 - 1/n)^n - 1/e|, whatever the noise.
    far = {n: abs((1 - 1 / n) ** n - math.exp(-1)) for n in (2, 4)}
    found = {n: rows[f"euler {n}"]["mel"]["value"] for n in (2, 4)}
    assert found[2] / found[4] == pytest.approx(far[2] / far[4], rel=1e-3)
    assert found[2] == pytest.approx(far[2] * math.sqrt(2 / math.pi), rel=0.05)  # the mean of |x0|
    assert (rows["euler 2"]["nfe"], rows["euler 2"]["network_calls"]) == (2, 2)
    times = rows["euler 4"]
    assert 0 < times["sampling"]["seconds"] < times["whole"]["seconds"] and times["whole"]["rtf"] > 0
    assert sorted(path.name for path in (tmp_path / "audio" / "m-euler-uniform-2-g1.0").iterdir()) == [
        "rms-a.flac", "rms-b.flac"
    ]  # fmt: skip


def test_what_is_measured_is_not_measured_again(decay: Callable[..., Decay], tmp_path: Path) -> None:
    recipe = decay()
    first = benchmark.bench(job("euler"), tmp_path, Watcher())
    assert len(recipe.says) == 3 * (2 + 1)  # the first call of every setting is discarded
    recipe.says.clear()
    assert benchmark.bench(job("euler"), tmp_path, Watcher()) == first and recipe.says == []
    benchmark.bench(job("euler", "heun"), tmp_path, Watcher())
    assert {one.solver for one in recipe.says} == {"heun"}
    recipe.says.clear()
    (tmp_path / "audio" / "m-euler-uniform-4-g1.0" / "rms-b.flac").unlink()
    benchmark.bench(job("euler"), tmp_path, Watcher())
    assert [one.steps for one in recipe.says] == [4] * 3
    recipe.says.clear()
    benchmark.bench(job("euler", seed=1), tmp_path, Watcher())
    assert len(recipe.says) == 9


def test_a_setting_that_fails_is_a_row_and_is_tried_again(decay: Callable[..., Decay], tmp_path: Path) -> None:
    decay(fails="heun")
    watch = Watcher()
    result = benchmark.bench(job("heun", "euler"), tmp_path, watch)
    rows = by_name(result)
    assert rows["heun 2"]["error"] == rows["heun 4"]["error"] == "this solver is out of order"
    assert rows["euler 2"]["error"] is None and sum("failed" in line for line in watch.lines) == 2
    assert "failed: this solver" in markdown(result)
    decay()
    assert by_name(benchmark.bench(job("heun", "euler"), tmp_path, Watcher()))["heun 2"]["error"] is None


def test_without_its_reference_a_setting_has_no_distance(decay: Callable[..., Decay], tmp_path: Path) -> None:
    decay(fails="rk4")
    rows = by_name(benchmark.bench(job("euler"), tmp_path, Watcher()))
    assert rows["rk4 32"]["error"] and rows["euler 2"]["error"] is None and rows["euler 2"]["mel"] is None
    decay()
    assert by_name(benchmark.bench(job("euler"), tmp_path, Watcher()))["euler 2"]["mel"]["value"] > 0


def test_progress_counts_network_calls_to_the_end(decay: Callable[..., Decay], tmp_path: Path) -> None:
    decay()
    plan = benchmark.outline(job("euler"), benchmark.load(job("euler")))
    assert plan.calls(plan.settings) == (128 + 2 + 4) * 3
    watch = Watcher()
    benchmark.bench(job("euler"), tmp_path, watch)
    assert (128 * 3, (128 + 2 + 4) * 3) in watch.done and (4 * 3, 4 * 3) in watch.done


def test_the_report_names_what_is_enough(decay: Callable[..., Decay], tmp_path: Path) -> None:
    pytest.importorskip("jiwer")
    pytest.importorskip("matplotlib")
    decay()
    result = benchmark.bench(job("euler", metrics=("wer-closed",)), tmp_path, Watcher())
    assert write_all(result, tmp_path) is None
    saved = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert saved["enough"]["metric"] == "wer-closed" and saved["machine"]["threads"] == 1
    scores = [one["metrics"]["wer-closed"] for one in saved["rows"]]
    assert all({"value", "low", "high", "backend", "sample_rate", "count", "dropped"} <= set(one) for one in scores)
    text = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert text.count("\n| ") == 4 and "pocketsphinx" in text and verdicts(result)[0] in text
    assert (tmp_path / "bench.svg").read_text(encoding="utf-8").count("<svg") == 1
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_numbers_are_written_all_the_same(
    decay: Callable[..., Decay], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decay()
    result = benchmark.bench(job("euler", metrics=()), tmp_path, Watcher())
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    line = write_all(result, tmp_path)
    assert line is not None and "matplotlib" in line and "\n" not in line
    assert (tmp_path / "bench.json").exists() and not (tmp_path / "bench.svg").exists()


def test_a_recipe_without_a_field_cannot_have_a_grid_fitted(decay: Callable[..., Decay], tmp_path: Path) -> None:
    decay()
    with pytest.raises(UserError, match="--fit-grid"):
        benchmark.bench(replace(job("euler"), fit=tmp_path / "grid.json"), tmp_path, Watcher())


def test_a_fitted_grid_is_written_used_and_kept(decay: Callable[..., Decay], tmp_path: Path) -> None:
    recipe, path = decay(kind=Shown), tmp_path / "new" / "grid.json"
    assert isinstance(recipe, Shown)
    asked = replace(job("euler"), rows=({"model": ["m"], "grid": [str(path)], "steps": [8]},), fit=path)
    (row,) = [row for row in benchmark.bench(asked, tmp_path, Watcher())["rows"] if not row["reference"]]
    assert row["error"] is None and row["grid"] == str(path)
    times = grid_named(str(path))(8).diff()
    assert times[0] > times[-1]  # this field changes fastest at the end
    assert recipe.shown == 2
    benchmark.bench(asked, tmp_path, Watcher())
    assert recipe.shown == 2
    path.write_text('{"knots": [0, 0.5, 1]}')
    benchmark.bench(asked, tmp_path, Watcher())
    assert recipe.shown == 4


def test_a_grid_is_fitted_to_one_model() -> None:
    rows = ({"model": ["m", "n"]},)
    with pytest.raises(UserError, match="one --model"):
        benchmark.load(replace(job(), rows=rows, fit=Path("grid.json")))


def test_judging_in_processes_is_judging_here(tmp_path: Path, noise: Callable[..., Audio]) -> None:
    write(tmp_path / "a.flac", noise(0.5))
    good = (("a", tmp_path / "a.flac", "hello", tmp_path / "a.flac"),)
    gone = (("a", tmp_path / "gone.flac", "hello", tmp_path / "a.flac"),)
    tasks = [Task("good", "mel", good), Task("gone", "mel", gone)]

    def collect(jobs: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        score_all(tasks, jobs, lambda task, score, reason: found.update({task.setting: (score, reason)}))
        return found

    here = collect(1)
    assert here["good"][0]["dropped"] == {"a": "it has no reference"} and "gone.flac" in here["gone"][1]
    assert collect(2) == here
