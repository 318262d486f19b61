"""The listening test is blind, equally loud, balanced, and whole."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from comparison import TEXTS, example, tone

from flowtts.audio.active import TRAINING_RMS, active_rms
from flowtts.audio.io import read, write
from flowtts.compare import listen
from flowtts.compare.listen import write_listen
from flowtts.compare.listen_plan import CATCH_EVERY, Layout, Sheet, fingerprint, lay_out
from flowtts.compare.result import Result
from flowtts.types import Audio, UserError

SYSTEMS = ("voicebox", "tortoise", "recordings")


@pytest.fixture
def result(tmp_path: Path) -> Result:
    return example(tmp_path)


def data(page: Path) -> dict[str, Any]:
    """What the page's script reads."""
    (text,) = re.findall(
        r'<script type="application/json" id="test">(.*?)</script>', page.read_text("utf-8"), re.DOTALL
    )
    found: dict[str, Any] = json.loads(text)
    return found


def key(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "listen" / "key.json").read_text("utf-8"))
    return found


def flat(sheets: list[Sheet]) -> list[list[str]]:
    return [trial for sheet in sheets for block in sheet for trial in block]


def large(prompts: int, systems: int, seeds: int = 1, failed: tuple[tuple[int, int], ...] = ()) -> Any:
    """A result of which only the plan is asked, so that it needs no sounds."""
    names = [f"system{n}" for n in range(systems)]
    rows = [
        {
            "system": name, "prompt": f"p{p}", "item": f"p{p}.s{seed}",
            "audio": None if (p, n) in failed else f"audio/{name}/p{p}.s{seed}.flac", "audio_hash": f"{name}{p}{seed}",
        }
        for n, name in enumerate(names) for p in range(prompts) for seed in range(seeds)
    ]  # fmt: skip
    return {
        "systems": [{"name": name} for name in names], "items": rows,
        "prompts": [
            {"id": f"p{p}", "text": f"text {p}", "voice_audio": f"prompts/v{p % 2}.flac"} for p in range(prompts)
        ],
    }  # fmt: skip


def systems_of(test: Layout, trial: list[str]) -> tuple[str, ...]:
    return tuple(sorted(test.clips[name]["system"] for name in trial if name in test.clips))


def is_catch(test: Layout, trial: list[str]) -> bool:
    return any(test.clips[name]["catch"] for name in trial if name in test.clips)


# --- blind -----------------------------------------------------------------------------------------------------------


def test_neither_the_page_nor_names_of_files_tell_a_system(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    for number, system in enumerate(raw["systems"]):
        # The title of a comparison names its systems as a rule, and sources and settings do.
        system |= {"label": f"Label{number}x", "source": f"source{number}x", "hash": f"hash{number}x"}
    raw["title"] = raw["command"] = "Voicebox against Tortoise"
    page = write_listen(result, tmp_path)
    names = [path.name for path in (tmp_path / "listen").iterdir()]
    told = {row[part] for row in raw["items"] for part in ("system", "audio", "audio_hash", "item") if row[part]}
    told |= {system[part] for system in raw["systems"] for part in ("name", "label", "source", "hash") if system[part]}
    assert {*SYSTEMS, "Label0x", "e01"} < told
    for text in (page.read_text("utf-8").lower(), " ".join(names)):
        assert [word for word in sorted(told) if word.lower() in text] == []
    assert all(re.fullmatch(r"[0-9a-f]{16}\.flac|key\.json", name) for name in names)


def test_the_page_has_no_way_to_the_key() -> None:
    asset = Path(listen.__file__).parent / "assets"
    for kind in ("html", "js"):
        assert "key.json" not in asset.joinpath(f"listen.{kind}").read_text("utf-8")


def test_order_tells_no_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = example(tmp_path)
    written: list[str] = []

    def spy(path: Path, audio: Audio) -> None:
        written.append(path.stem)
        write(path, audio)

    monkeypatch.setattr(listen, "write", spy)
    write_listen(result, tmp_path)
    assert written == sorted(written) and len(set(written)) == len(written)
    test = lay_out(large(40, 4), 0, 40)
    for kind, sheets in test.sheets.items():
        for block in (block for sheet in sheets for block in sheet):
            assert block == sorted(block), kind
    # Sorted by name, a system is as often first as another: 40 blocks, each 10 expected, deviation 2.7.
    first = Counter(test.clips[block[0][0]]["system"] for sheet in test.sheets["mos"] for block in sheet)
    assert len(first) == 4 and all(2 <= count <= 18 for count in first.values())
    assert list(test.clips) == sorted(test.clips) and list(test.sources) == sorted(test.sources)


def test_files_differ_in_nothing_but_the_sound(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    row = next(row for row in raw["items"] if row["system"] == "tortoise")
    with soundfile.SoundFile(tmp_path / row["audio"], "w", 24_000, 2, "PCM_24", format="FLAC") as file:
        file.title, file.artist, file.comment = "made by Tortoise", "Tortoise", "Tortoise"
        file.write(0.05 * np.random.default_rng(0).standard_normal((12_000, 2)))
    assert b"Tortoise" in (tmp_path / row["audio"]).read_bytes()
    write_listen(result, tmp_path)
    heads = set()
    for path in (tmp_path / "listen").glob("*.flac"):
        with soundfile.SoundFile(path) as file:
            heads.add((file.samplerate, file.channels, file.subtype, tuple(file.copy_metadata().items())))
        assert b"Tortoise" not in path.read_bytes()
        audio = read(path)
        assert active_rms(audio.samples, audio.sample_rate) == pytest.approx(TRAINING_RMS, rel=0.01)
    assert heads == {(24_000, 1, "PCM_16", ())}


def test_the_level_goes_down_for_all_rather_than_overload_one(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    sparse = 0.001 * np.random.default_rng(0).standard_normal(16_000, "f4")
    sparse[::320] = 0.9
    write(tmp_path / raw["items"][0]["audio"], Audio(sparse, 16_000))
    write(tmp_path / raw["items"][1]["audio"], Audio(np.zeros(8000, "f4"), 16_000))
    page = write_listen(result, tmp_path)
    rms, clips = key(tmp_path)["rms"], key(tmp_path)["clips"]
    assert TRAINING_RMS / 4 < rms < 0.9 * TRAINING_RMS
    assert f"−{-20 * np.log10(rms):.0f} dB" in page.read_text("utf-8")
    for name, clip in clips.items():
        samples = read(tmp_path / "listen" / f"{name}.flac").samples
        silent = (clip["system"], clip["item"]) == ("voicebox", "e02")
        assert np.abs(samples).max() < 0.95
        # Silence is what the system made, so that is what is heard.
        assert active_rms(samples, 16_000) == pytest.approx(0.0 if silent else rms, rel=0.01, abs=1e-9)


# --- who hears what --------------------------------------------------------------------------------------------------


def test_every_clip_is_asked_about_once(result: Result, tmp_path: Path) -> None:
    test = data(write_listen(result, tmp_path))
    clips = key(tmp_path)["clips"]
    made = Counter((row["system"], row["item"]) for row in result["items"] if row["audio"])
    for kind, place in (("mos", 0), ("smos", 1)):
        heard = Counter((clips[t[place]]["system"], clips[t[place]]["item"]) for t in flat(test[kind]))
        assert heard == made and len(made) == 11, kind
    real = [t for t in flat(test["ab"]) if not any(clips[name]["catch"] for name in t[:2])]
    asked = Counter((frozenset(clips[n]["system"] for n in t[:2]), clips[t[0]]["item"]) for t in real)
    pairs = [frozenset(pair) for pair in combinations(SYSTEMS, 2)]
    failed = {(pair, "e04") for pair in pairs if "tortoise" in pair}
    assert asked == Counter({(pair, item): 1 for pair in pairs for item in TEXTS if (pair, item) not in failed})
    for one, other, text in flat(test["ab"]):
        assert clips[one]["item"] == clips[other]["item"] and TEXTS[clips[one]["item"]] == text
    files = {path.stem for path in (tmp_path / "listen").glob("*.flac")}
    assert files == {
        name for kind in ("mos", "ab", "smos") for t in flat(test[kind]) for name in t if name not in TEXTS.values()
    }


def test_a_voice_is_the_one_that_was_asked_for(result: Result, tmp_path: Path) -> None:
    test, clips = data(write_listen(result, tmp_path)), key(tmp_path)["clips"]
    voices = {prompt["id"]: prompt["voice_audio"] for prompt in result["prompts"]}
    for voice, name in flat(test["smos"]):
        source = read(tmp_path / voices[clips[name]["item"]]).samples
        copy = read(tmp_path / "listen" / f"{voice}.flac").samples
        assert np.corrcoef(source, copy)[0, 1] > 0.999


@pytest.mark.parametrize("systems", [2, 3, 4])
def test_a_sheet_is_balanced(systems: int) -> None:
    test = lay_out(large(12, systems), 0, 12)
    sheets = test.sheets["mos"]
    assert len(sheets) == systems
    for sheet in sheets:
        assert all(len({systems_of(test, trial) for trial in block}) == len(block) == systems for block in sheet)
        assert set(Counter(systems_of(test, trial) for trial in flat([sheet])).values()) == {12 // systems}
        assert len({test.clips[name]["item"] for (name,) in flat([sheet])}) == 12
    for sheet in test.sheets["ab"]:
        real = [trial for trial in flat([sheet]) if not is_catch(test, trial)]
        counts = Counter(systems_of(test, trial) for trial in real)
        assert set(counts) == set(combinations(sorted({clip["system"] for clip in test.clips.values()}), 2))
        assert max(counts.values()) - min(counts.values()) <= 1 and len({text for *_, text in real}) == len(real)


@pytest.mark.parametrize(("prompts", "systems", "trials", "failed"), [
    (1, 2, 40, ()), (5, 3, 7, ((0, 1),)), (40, 4, 40, ((0, 0), (1, 1), (2, 1))), (13, 5, 1, ()), (3, 1, 2, ()),
    (30, 2, 50, tuple((p, 1) for p in range(30))),
])  # fmt: skip
def test_sheets_share_everything_out(
    prompts: int, systems: int, trials: int, failed: tuple[tuple[int, int], ...]
) -> None:
    test = lay_out(large(prompts, systems, failed=failed), 3, trials)
    opinions = flat(test.sheets["mos"])
    assert len(opinions) == len({name for (name,) in opinions}) == prompts * systems - len(failed)
    good = [systems - sum(p == q for q, _ in failed) for p in range(prompts)]
    real = [trial for trial in flat(test.sheets["ab"]) if not is_catch(test, trial)]
    assert len(real) == len({tuple(trial[:2]) for trial in real}) == sum(n * (n - 1) // 2 for n in good)
    for sheet in test.sheets["mos"]:
        # A sheet is not longer than asked for by more than one block.
        assert sum(map(len, sheet)) < trials + systems


def test_some_pairs_are_a_clip_and_itself(result: Result, tmp_path: Path) -> None:
    test = lay_out(large(40, 4), 0, 40)
    for sheet in test.sheets["ab"]:
        pairs = flat([sheet])
        catches = [trial for trial in pairs if is_catch(test, trial)]
        assert len(catches) == max(1, (len(pairs) - len(catches)) // CATCH_EVERY)
        for one, other, _ in catches:
            assert one != other and test.sources[one] == test.sources[other]
    assert not any(is_catch(test, trial) for kind in ("mos", "smos") for trial in flat(test.sheets[kind]))
    write_listen(result, tmp_path)
    (again,) = [name for name, clip in key(tmp_path)["clips"].items() if clip["catch"]]
    folder = tmp_path / "listen"
    same = [path.stem for path in folder.glob("*.flac") if path.read_bytes() == (folder / f"{again}.flac").read_bytes()]
    assert len(same) == 2


def test_seeds_are_paired_in_their_order() -> None:
    raw = large(2, 2, seeds=2)
    raw["items"] = [row for row in raw["items"] if (row["system"], row["item"][-1]) != ("system1", "1")]
    raw["items"][0]["audio"] = None
    test = lay_out(raw, 0, 40)
    pairs = {
        tuple(sorted((test.clips[name]["system"], test.clips[name]["item"]) for name in trial[:2]))
        for trial in flat(test.sheets["ab"]) if not is_catch(test, trial)
    }  # fmt: skip
    # The first seed of p0 failed: the second is not compared in its place.
    assert pairs == {(("system0", "p1.s0"), ("system1", "p1.s0"))}
    assert len(flat(test.sheets["mos"])) == 5


def test_another_seed_is_another_test() -> None:
    raw = large(6, 2)
    tests = [lay_out(raw, seed, 40) for seed in (0, 0, 1)]
    assert tests[0] == tests[1]
    assert not tests[0].clips.keys() & tests[2].clips.keys()
    texts = [[text for *_, text in flat(test.sheets["ab"])] for test in tests]
    assert texts[0] != texts[2]
    assert len({fingerprint(raw, seed, trials) for seed in (0, 1) for trials in (1, 2)}) == 4
    marks = {fingerprint(raw, 0, 40)}
    for part, name in (("items", "audio_hash"), ("prompts", "text")):
        raw[part][0][name] += "x"
        marks.add(fingerprint(raw, 0, 40))
    assert len(marks) == 3


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_same_again_writes_the_page_alone(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_listen(result, tmp_path)
    before = {path: path.read_bytes() for path in (page, *(tmp_path / "listen").iterdir())}
    with monkeypatch.context() as patch:
        patch.setattr(listen, "write", None)
        patch.setattr(listen, "read", None)
        page.write_text("", "utf-8")
        write_listen(result, tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    next(path for path in before if path.suffix == ".flac").unlink()
    write_listen(result, tmp_path)
    assert {path: path.read_bytes() for path in before} == before


def test_the_folder_holds_this_test_alone(result: Result, tmp_path: Path) -> None:
    write_listen(result, tmp_path)
    old = {path.name for path in (tmp_path / "listen").glob("*.flac")}
    write_listen(result, tmp_path, seed=1)
    new = {path.name for path in (tmp_path / "listen").glob("*.flac")}
    assert not old & new and {f"{name}.flac" for name in key(tmp_path)["clips"]} < new
    # Two voices more.
    assert len(new) == len(key(tmp_path)["clips"]) + 2


def test_the_key_says_not_to_open_it(result: Result, tmp_path: Path) -> None:
    write_listen(result, tmp_path)
    found = key(tmp_path)
    assert next(iter(found)) == "warning" and "Do not open this before everybody has rated" in found["warning"]


def test_what_cannot_be_read_is_left_out_and_said(result: Result, tmp_path: Path) -> None:
    lost, broken = (row["audio"] for row in result["items"][:2])
    assert lost is not None and broken is not None
    (tmp_path / lost).unlink()
    (tmp_path / broken).write_bytes(b"no sound")
    page = write_listen(result, tmp_path)
    assert "2 clips could not be read and are not part of this test" in page.read_text("utf-8")
    assert key(tmp_path)["left_out"].keys() == {lost, broken}
    assert len(flat(data(page)["mos"])) == 9
    assert "could not be read" not in write_listen(example(tmp_path / "whole"), tmp_path / "whole").read_text("utf-8")


def test_little_to_hear_is_no_error(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    raw["systems"], raw["items"] = raw["systems"][:1], raw["items"][:4]
    alone = data(write_listen(result, tmp_path))
    assert alone["ab"] == [] and len(flat(alone["mos"])) == 4
    raw["items"], raw["prompts"] = [], []
    shutil.rmtree(tmp_path / "listen")
    nothing = data(write_listen(result, tmp_path))
    assert nothing["mos"] == nothing["ab"] == nothing["smos"] == []


def test_a_sitting_needs_a_trial(result: Result, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a sitting of 0 trials is none"):
        write_listen(result, tmp_path, trials=0)
    assert not (tmp_path / "listen").exists()


# --- the page --------------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Every element with its attributes and what it stands in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.all: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs), tuple(self.open)))
        if tag not in ("meta", "link", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_whatever_people_write_stays_text(result: Result, tmp_path: Path) -> None:
    hostile = '</script><script>alert(1)</script><!-- $test {x} \u2028 "'
    plain = [tag for tag, *_ in Elements(write_listen(result, tmp_path).read_text("utf-8")).all]
    result["prompts"][0]["text"] = hostile
    page = write_listen(result, tmp_path)
    assert [tag for tag, *_ in Elements(page.read_text("utf-8")).all] == plain and plain.count("script") == 2
    assert hostile in {text for *_, text in flat(data(page)["ab"])}


def test_nothing_is_fetched_but_clips_and_only_its_own_code_runs(result: Result, tmp_path: Path) -> None:
    text = write_listen(result, tmp_path).read_text("utf-8")
    assert not re.search(r"https?:|@import|url\(|\$\w+\b(?!\{)", re.sub(r"\$\{", "", text))
    policy = next(a["content"] for tag, a, _ in Elements(text).all if tag == "meta" and "http-equiv" in a)
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (own,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()}'"
    assert rules["default-src"] == "'none'" and rules["media-src"] == "'self' file:" and "connect-src" not in rules


def test_everything_can_be_found_by_name(result: Result, tmp_path: Path) -> None:
    found = Elements(write_listen(result, tmp_path).read_text("utf-8"))
    assert found.open == []
    ids = [a["id"] for _, a, _ in found.all if "id" in a]
    assert len(ids) == len(set(ids))
    named = {a["for"] for tag, a, _ in found.all if tag == "label" and "for" in a}
    for tag, attributes, within in found.all:
        assert tag != "input" or attributes["id"] in named or "label" in within
        assert tag != "section" or attributes["aria-labelledby"] in ids
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
    tags = [tag for tag, *_ in found.all]
    assert all(tag in tags for tag in ("main", "fieldset", "legend", "noscript", "footer", "progress"))
    live = [a for _, a, _ in found.all if a.get("aria-live") == "polite"]
    assert len(live) == 1 and live[0]["role"] == "status"


def test_a_tone_is_not_changed_but_in_level(tmp_path: Path) -> None:
    tone(tmp_path / "a.flac", 440.0)
    audio = listen._mastered(read(tmp_path / "a.flac"), listen.Mastering(24_000, 0.05, {}))
    spectrum = np.abs(np.fft.rfft(audio.samples * np.hanning(len(audio.samples))))
    assert audio.sample_rate == 24_000 and np.argmax(spectrum) * 24_000 / len(audio.samples) == pytest.approx(
        440, abs=3
    )
    assert np.sqrt(np.mean(audio.samples**2)) == pytest.approx(0.05, rel=0.01)
