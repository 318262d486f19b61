"""The table of metrics: spellings, lists, what decides a value, and values beside other ways to compute them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_judges
import torch

from flowtts.audio.io import read
from flowtts.compare.result import MetricInfo
from flowtts.compat import require
from flowtts.eval.bootstrap import mean_interval
from flowtts.eval.judging import Context, score
from flowtts.eval.metrics import Asked, Wanted, identity, info, load, load_all, parse, read_list
from flowtts.eval.report import evaluate
from flowtts.eval.table import METRICS
from flowtts.recognise import spoken_words
from flowtts.registry import load_metrics, read_metrics
from flowtts.types import Audio, Item, UserError
from flowtts.voice import shipped

CAPTAIN = read(Path(__file__).parent / "assets" / "captain_slt.flac")
TEXT = "The old captain counted seven lanterns, and the river was quiet."


def part_of(audio: Audio, seconds: float) -> Audio:
    return Audio(audio.samples[: round(seconds * audio.sample_rate)], audio.sample_rate)


def noisy(audio: Audio, amount: float) -> Audio:
    noise = np.random.default_rng(0).normal(0, amount, len(audio.samples))
    return Audio((audio.samples + noise).clip(-1, 1).astype("f4"), audio.sample_rate)


# --- how a metric is asked for ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "spelled", "options"),
    [
        ("wer", "wer", {}),
        (" sim ", "sim-o", {}),
        ("wer-whisper:", "wer-whisper", {}),
        ("wer-whisper:base.en", "wer-whisper:base.en", {"model": "base.en"}),
        ("wer-whisper:model=/p/x.pt,beam=5", "wer-whisper:model=/p/x.pt,beam=5", {"model": "/p/x.pt", "beam": "5"}),
        ("wer-whisper:beam=5,model=a", "wer-whisper:model=a,beam=5", {"model": "a", "beam": "5"}),
        ("wer-whisper:base.en,beam=5", "wer-whisper:model=base.en,beam=5", {"model": "base.en", "beam": "5"}),
        ("utmos:/a,b/c=d.pt", "utmos:/a,b/c=d.pt", {"model": "/a,b/c=d.pt"}),
        ("utmos:model=v=1.pt", "utmos:model=v=1.pt", {"model": "v=1.pt"}),
        ({"wer": None}, "wer", {}),
        ({"wer-whisper": {"beam": 5}}, "wer-whisper:beam=5", {"beam": "5"}),
        ({"name": "dnsmos", "part": "bak"}, "dnsmos:bak", {"part": "bak"}),
        (Wanted("mcd", (("definition", "versa"),)), "mcd:versa", {"definition": "versa"}),
    ],
)
def test_spellings(asked: Asked, spelled: str, options: dict[str, str]) -> None:
    found = parse(asked)
    assert (found.spelled, dict(found.options)) == (spelled, options)
    assert parse(found.spelled) == found


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("wre", "unknown metric 'wre'; did you mean 'wer'"),
        ({"name": "sim-wavelm"}, "unknown metric 'sim-wavelm'; did you mean 'sim-wavlm'"),
        ({"name": "dnsmos:bak"}, "unknown metric 'dnsmos:bak'; did you mean 'dnsmos'"),
        ("mel:x", "'mel' takes no option"),
        ("dnsmos:prat=bak", "'dnsmos' has no option 'prat'; did you mean 'part'"),
        ("dnsmos:loudness=3", "'dnsmos' has no option 'loudness'; it takes part"),
        ("wer-whisper:tiny,model=base", "option 'model' of 'wer-whisper' is given twice"),
        ("dnsmos:part=", "'part' of 'dnsmos' needs one plain value"),
        ({"dnsmos": {"part": ["bak"]}}, "'part' of 'dnsmos' needs one plain value"),
        ({"dnsmos": {"part": True}}, "'part' of 'dnsmos' needs one plain value"),
        ({"utmos": {"model": "a,beam=2"}}, "'model' of 'utmos' needs one plain value"),
        ({"dnsmos": "bak"}, "is no metric"),
        ({"dnsmos": {}, "wer": {}}, "is no metric"),
    ],
)
def test_spellings_that_are_refused(asked: Asked, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(asked)


@pytest.mark.parametrize(
    ("spelling", "said"),
    [
        ("dnsmos:loud", "no part 'loud'; there are ovrl, sig, bak, p808"),
        ("mcd:mine", "no definition 'mine'; there are own, versa"),
        ("wer-whisper:beam=wide", "'beam' must be a whole number, not 'wide'"),
        ("wer-whisper:beam=0", "beam must be 1 or more"),
    ],
)
def test_values_that_are_refused(spelling: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(spelling)


def test_a_list_in_yaml_is_the_same_as_its_entries_and_spellings(tmp_path: Path) -> None:
    path = tmp_path / "metrics.yaml"
    path.write_text("- wer\n- dnsmos: {part: sig}\n- {name: mcd, definition: versa}\n- sim\n- mel:\n")
    spelled = ["wer", "dnsmos:sig", "mcd:versa", "sim-o", "mel"]
    assert read_list(path) == spelled
    assert read_metrics(str(path)) == tuple(spelled)
    entries: list[Asked] = ["wer", {"dnsmos": {"part": "sig"}}, {"name": "mcd", "definition": "versa"}, parse("sim")]
    for wanted in (spelled[:4], entries):
        judges = load_all(wanted)
        assert [judge.name for judge in judges] == ["wer", "dnsmos", "mcd", "sim-o"]
        assert vars(judges[1])["part"] == "sig"
        assert vars(judges[2])["world"].settings.pitch == "harvest"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wer", "names no metric"),
        ("[]", "names no metric"),
        ("", "names no metric"),
        ("- wer\n- [cer]", "entry 2: .* is no metric"),
        ("- wer\n- 3", "entry 2: 3 is no metric"),
        ("- wre", "entry 1: unknown metric 'wre'; did you mean 'wer'"),
        ("- dnsmos: {prat: sig}", "entry 1: .* no option 'prat'; did you mean 'part'"),
        ("- {part: sig}", "entry 1: .* is no metric"),
        ("[", "is no YAML list"),
    ],
)
def test_yaml_that_is_no_list_of_metrics(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "metrics.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"metrics\.yaml:? {said}") as refused:
        read_metrics(str(path))
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"gone\.yaml: cannot be read"):
        read_metrics(str(tmp_path / "gone.yaml"))


def test_commas_separate_metrics_and_options_of_one() -> None:
    assert read_metrics(" wer, dnsmos:part=sig ,mel,") == ("wer", "dnsmos:part=sig", "mel")
    assert read_metrics("wer-whisper:model=a,beam=2,cer") == ("wer-whisper:model=a,beam=2", "cer")
    with pytest.raises(UserError, match="unknown metric 'beam=2'"):
        read_metrics("wer,beam=2")
    with pytest.raises(UserError, match="names no metric"):
        read_metrics(" , ")


# --- what the table says ----------------------------------------------------------------------------------------------


def test_a_metric_says_what_a_report_wants_to_know() -> None:
    wanted = set(MetricInfo.__annotations__) - {"backend", "sample_rate"}
    about = {name: info(name) for name in METRICS}
    for name, one in about.items():
        assert wanted <= set(one) and (one["name"], one["spelled"]) == (name, name)
        assert one["paper"] and one["level"] in ("item", "set")
        assert one["unit"] == "%" if one["rate"] else one["unit"] != "%"
    assert len({one["label"] for one in about.values()}) == len(METRICS)
    assert info("sim")["name"] == "sim-o"
    assert info("wer-whisper:model=a,beam=2")["spelled"] == "wer-whisper:model=a,beam=2"


def test_packages_are_distributions() -> None:
    for name, entry in METRICS.items():
        for package in entry.packages:
            assert identity(name)["versions"][package] == version(package)


def test_pitch_is_judged_alike_whatever_the_definition_of_distortion() -> None:
    for wanted in (["mcd:versa", "f0-rmse"], ["f0-rmse", "mcd:versa"]):
        worlds = {judge.name: vars(judge)["world"] for judge in load_metrics(wanted)}
        assert worlds["f0-rmse"].settings == load_metrics(["f0-rmse"])[0].world.settings  # type: ignore[attr-defined]
        assert worlds["mcd"].settings != worlds["f0-rmse"].settings
    same = [vars(judge)["world"] for judge in load_metrics(["mcd", "f0-rmse", "voicing"])]
    assert same[0] is same[1] is same[2]


# --- what decides a value ---------------------------------------------------------------------------------------------


def test_an_identity_is_plain_and_follows_name_options_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    different = ["wer", "cer", "mcd", "mcd:versa", "dnsmos", "dnsmos:bak", "utmos:/gone.pt", "utmos:/lost.pt"]
    found = [json.dumps(identity(one), sort_keys=True) for one in different]
    assert len(set(found)) == len(found)
    assert identity("dnsmos:part=bak") == identity("dnsmos:bak") == identity({"dnsmos": {"part": "bak"}})
    before = identity("wer")
    monkeypatch.setattr("flowtts.eval.metrics.version", lambda package: "0")
    assert identity("wer") != before


@pytest.mark.parametrize("name", ["utmos", "sim-o", "fsd", "wer-whisper"])
def test_an_identity_follows_the_content_of_a_file_of_weights(name: str, tmp_path: Path) -> None:
    path, copy = tmp_path / "w.pt", tmp_path / "w2.pt"
    path.write_bytes(b"one")
    copy.write_bytes(b"one")
    first = identity(f"{name}:{path}")
    assert first["weights"] == identity(f"{name}:{copy}")["weights"] is not None
    os.utime(path, ns=(1, 1))
    assert identity(f"{name}:{path}") == first
    path.write_bytes(b"two")
    assert identity(f"{name}:{path}") != first


def test_an_identity_follows_weights_that_are_found_without_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    none = identity("wer-whisper")
    (tmp_path / "whisper").mkdir()
    (tmp_path / "whisper" / "base.en.pt").write_bytes(b"one")
    one = identity("wer-whisper")
    assert none["weights"] is None and one != none
    (tmp_path / "whisper" / "base.en.pt").write_bytes(b"three")
    assert identity("wer-whisper") != one


def test_an_identity_follows_the_files_of_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    (tmp_path / "model").mkdir()
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(b"one")
    first = identity(f"sim-wavlm:{tmp_path}")
    assert first == identity(f"sim-wavlm:{tmp_path}") and first["weights"]
    weights.write_bytes(b"more")
    assert identity(f"sim-wavlm:{tmp_path}") != first
    assert identity(f"sim-wavlm:{tmp_path / 'gone'}")["weights"] is None


# --- values that are no numbers ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("nothing", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_dropped_and_the_others_are_judged(nothing: float) -> None:
    values = {"a": 1.0, "b": nothing, "c": 3.0}
    found = score(mean_interval(list(values.values())), values, {"d": "it is silent"}, "a judge")
    assert found.items == {"a": 1.0, "c": 3.0} and found.count == 2
    assert found.dropped == {"d": "it is silent", "b": "the judge gave no number"}
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)
    weighed = score(mean_interval([nothing]), values, {}, "a judge", weights={"a": 3.0, "b": 9.0, "c": 1.0})
    assert weighed.value == 1.5 and weighed.weights == {"a": 3.0, "c": 1.0}


def test_a_set_of_which_no_value_is_a_number_is_not_judged() -> None:
    found = score(mean_interval([math.nan]), {"a": math.nan}, {}, "a judge")
    assert math.isnan(found.value) and found.count == 0 and list(found.dropped) == ["a"]


def test_a_network_that_overflows_costs_its_recordings_only(noise: Callable[[float, int], Audio]) -> None:
    class Overflows:
        backend = "a network"

        def open(self) -> Callable[[Any], torch.Tensor]:
            return lambda samples: torch.full((4,), math.nan if len(samples) > 16_000 else 0.5)

    judge = load("sim-o")
    vars(judge)["encoder"] = Overflows()
    short, long = noise(1.0, 16_000), noise(1.1, 16_000)
    found = judge([Item(short, "", prompt=short, id="fine"), Item(long, "", prompt=short, id="over")])
    assert found.items == {"fine": 1.0} and found.value == 1.0
    assert found.dropped == {"over": "the judge gave no number"}


# --- beside other ways to compute them --------------------------------------------------------------------------------


def test_word_and_character_rates_are_those_of_jiwer() -> None:
    jiwer: Any = pytest.importorskip("jiwer")
    items = [Item(CAPTAIN, TEXT, id="right"), Item(part_of(CAPTAIN, 2.0), TEXT, id="half")]
    found = evaluate(items, ["wer", "cer"])
    words, characters = found.scores["wer"], found.scores["cer"]
    heard = [" ".join(spoken_words(words.heard[item.id])) for item in items]
    said = [" ".join(spoken_words(TEXT))] * 2
    assert words.value == pytest.approx(jiwer.wer(said, heard))
    assert characters.value == pytest.approx(jiwer.cer(said, heard))
    assert words.heard == characters.heard
    assert words.items["half"] > 0.3
    plain = found.as_json()["metrics"]["wer"]
    assert plain["heard"] == words.heard and plain["weights"] == {"right": 11, "half": 11}


def test_a_closed_vocabulary_in_parts_knows_the_whole_set() -> None:
    pytest.importorskip("jiwer")
    half = part_of(CAPTAIN, 1.66)
    items = [Item(CAPTAIN, TEXT, id="right"), Item(half, "A quiet owl was counted", id="wrong")]
    whole = load("wer-closed")(items)
    context = Context(texts=tuple(item.text for item in items))
    parts = [load("wer-closed", context)([item]) for item in items]
    assert {name: said for part in parts for name, said in part.heard.items()} == whole.heard
    assert {name: value for part in parts for name, value in part.items.items()} == whole.items
    assert whole.heard["wrong"].endswith("old captain counted")
    # By itself it knows other words.
    assert load("wer-closed")(items[1:]).heard["wrong"] != whole.heard["wrong"]


def test_pesq_is_the_package_on_the_same_samples() -> None:
    pesq: Any = pytest.importorskip("pesq")
    made = noisy(CAPTAIN, 0.003)
    found = load("pesq")([Item(made, "", reference=CAPTAIN)])
    assert found.value == pytest.approx(pesq.pesq(16_000, CAPTAIN.samples, made.samples, "wb"), abs=1e-6)


def test_mel_distance_is_that_of_librosa() -> None:
    librosa: Any = pytest.importorskip("librosa")

    def decibels(audio: Audio) -> np.ndarray:
        padded = np.pad(audio.samples, (1024 - 160) // 2, mode="reflect")
        bands = librosa.feature.melspectrogram(
            y=padded, sr=16_000, n_fft=1024, win_length=640, hop_length=160, center=False, power=1, n_mels=80, fmax=8000
        )
        found: np.ndarray = 20 * np.log10(np.maximum(bands, 1e-5))
        return found

    made = noisy(CAPTAIN, 0.01)
    expected = np.abs(decibels(made) - decibels(CAPTAIN)).mean()
    assert load("mel")([Item(made, "", reference=CAPTAIN)]).value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("seconds", "windows", "part"), [(3.0, 3, "bak"), (9.5, 1, "sig"), (11.2, 2, "ovrl")])
def test_dnsmos_is_its_network_on_nine_seconds(seconds: float, windows: int, part: str) -> None:
    speechmos: Any = pytest.importorskip("speechmos")
    runtime: Any = pytest.importorskip("onnxruntime")
    sound = np.tile(read(shipped()["reader-f"]).samples, 2)[: round(seconds * 16_000)]
    long = sound
    while len(long) < 9.01 * 16_000:
        long = np.tile(long, 2)
    session = runtime.InferenceSession(str(Path(speechmos.__file__).parent / "dnsmos_models" / "sig_bak_ovr.onnx"))
    heard = [long[second * 16_000 :][: int(9.01 * 16_000)] for second in range(windows)]
    raw = [dict(zip(CURVES, session.run(None, {"input_1": one[None]})[0][0], strict=True))[part] for one in heard]
    found = load(f"dnsmos:{part}")([Item(Audio(sound, 16_000), "")])
    assert found.value == pytest.approx(np.mean(np.polyval(CURVES[part], raw)), abs=1e-3)


CURVES = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}
"""From what the network says to opinions, as published, in the order of what it says."""


@pytest.mark.parametrize("again", [False, True])
def test_wavlm_s_similarity_is_the_cosine_of_its_vectors(again: bool, tmp_path: Path) -> None:
    try:
        transformers: Any = require("transformers", "hf")
    except UserError as error:
        pytest.skip(str(error))
    tiny_judges.wavlm(tmp_path)
    network = transformers.WavLMForXVector.from_pretrained(tmp_path).eval()

    def voice(samples: np.ndarray) -> torch.Tensor:
        normalised = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        with torch.inference_mode():
            found: torch.Tensor = network(torch.from_numpy(normalised)[None]).embeddings[0]
        return found

    made, prompt = part_of(CAPTAIN, 1.5), part_of(read(shipped()["rms"]), 1.5)
    backwards = Audio(prompt.samples[::-1].copy(), 16_000)
    context = Context(resynthesise=lambda audio: Audio(audio.samples[::-1].copy(), audio.sample_rate))
    found = load(f"sim-{'r-' if again else ''}wavlm:{tmp_path}", context)([Item(made, "", prompt=prompt)])
    expected = torch.cosine_similarity(voice(made.samples), voice((backwards if again else prompt).samples), 0)
    assert found.value == pytest.approx(float(expected), abs=1e-5)
    assert abs(found.value) < 0.9999


def test_whisper_keeps_as_many_hypotheses_as_asked(tmp_path: Path) -> None:
    try:
        whisper: Any = require("whisper", "whisper")
    except UserError as error:
        pytest.skip(str(error))
    path = tiny_judges.whisper(tmp_path)
    sound = part_of(CAPTAIN, 2.0)
    model = whisper.load_model(str(path))
    heard = {
        beam: model.transcribe(
            sound.samples, language="en", temperature=0.0, condition_on_previous_text=False, beam_size=beam, fp16=False
        )["text"]
        for beam in (None, 4)
    }
    assert heard[None] != heard[4]
    for beam, spelling in ((None, f"wer-whisper:{path}"), (4, f"wer-whisper:{path},beam=4")):
        found = load(spelling)([Item(sound, TEXT, id="a")])
        assert found.heard == {"a": heard[beam]}
        assert ("beam 4" in found.backend) == (beam == 4)
