"""The page of a comparison: whole, safe, readable by everyone, and honest about what is missing."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from comparison import example, tone

from flowtts.compare import sounds
from flowtts.compare.page import write_page
from flowtts.compare.result import Result

VOID = {"meta", "link", "img", "input", "br"}
HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(2)> " onload="alert(3)\' & {x} %s'


class Page(HTMLParser):
    """Elements in order, each with its attributes, its ancestors and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[dict[str, Any]] = []
        self.all: list[dict[str, Any]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> says an attribute twice"
        element = {"tag": tag, "attrs": dict(attrs), "within": [e["tag"] for e in self.open], "text": ""}
        self.all.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        # The closing tag of a paragraph that a block ended would be found here.
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element["text"] += data

    def __call__(self, tag: str, **attributes: str) -> list[dict[str, Any]]:
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [e for e in self.all if e["tag"] == tag and wanted.items() <= e["attrs"].items()]

    def row(self, table: str, first: str) -> list[str]:
        """The cells of a row of a table, by what its head says."""
        (held,) = self("table", id=table)
        inside = self.all[self.all.index(held) :]
        at = next(
            i for i, e in enumerate(inside) if e["tag"] == "th" and "row" in e["attrs"].values() and e["text"] == first
        )
        rest = [e for e in inside[at + 1 :] if e["tag"] in ("td", "th")]
        stop = next((i for i, e in enumerate(rest) if e["tag"] == "th"), len(rest))
        return [e["text"] for e in rest[:stop]]


def made(result: Result, folder: Path, embed: bool | None = None) -> tuple[str, Page]:
    text = write_page(result, folder, embed).read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture
def result(tmp_path: Path) -> Result:
    return example(tmp_path)


# --- form ------------------------------------------------------------------------------------------------------------


def test_nothing_is_fetched_and_only_its_own_code_runs(result: Result, tmp_path: Path) -> None:
    text, page = made(result, tmp_path)
    assert not re.search(r"(?:https?:)?//\w|@import|url\(", re.sub(r"base64,[\w+/=]+", "", re.sub(r"//.*", "", text)))
    assert "http://" not in text and "https://" not in text
    (policy,) = page("meta", http_equiv="Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy["attrs"]["content"].split(";"))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (own,) = page(tag)
        digest = base64.b64encode(hashlib.sha256(own["text"].encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'" and not own["attrs"]
    assert rules["default-src"] == "'none'" and rules["media-src"] == rules["img-src"] == "data:"
    assert not [e for e in page.all if "style" in e["attrs"] or any(name.startswith("on") for name in e["attrs"])]


def test_ids_are_unique_and_links_lead_somewhere(result: Result, tmp_path: Path) -> None:
    _, page = made(result, tmp_path)
    ids = [e["attrs"]["id"] for e in page.all if "id" in e["attrs"]]
    assert len(ids) == len(set(ids))
    named = [e["attrs"]["href"][1:] for e in page("a") if e["attrs"]["href"].startswith("#")]
    named += [e["attrs"]["data-same"] for e in page("audio") if "data-same" in e["attrs"]]
    named += [e["attrs"]["aria-labelledby"] for e in page.all if "aria-labelledby" in e["attrs"]]
    assert set(named) <= set(ids) and len(named) > 10


def test_every_control_and_picture_has_a_name(result: Result, tmp_path: Path) -> None:
    _, page = made(result, tmp_path)
    assert all("label" in e["within"] for e in page.all if e["tag"] in ("input", "select"))
    assert all(e["text"].strip() for e in page.all if e["tag"] in ("label", "legend", "summary", "option", "caption"))
    assert all(e["attrs"]["aria-label"] for e in page.all if e["tag"] == "audio" or e["attrs"].get("role") == "region")
    assert all(e["attrs"]["alt"] for e in page("img"))
    for drawing in page("svg"):
        assert drawing["attrs"].get("aria-hidden") == "true" or drawing["attrs"]["aria-label"]
    assert len(page("caption")) == len(page("table")) >= 5
    assert all("scope" in e["attrs"] for e in page("th"))
    # What scrolls can be scrolled by keyboard.
    assert all(e["attrs"]["tabindex"] == "0" for e in page.all if e["attrs"].get("role") == "region")
    assert all(e["attrs"]["preload"] == "none" and "controls" in e["attrs"] for e in page("audio"))


def test_landmarks_and_headings_are_in_order(result: Result, tmp_path: Path) -> None:
    _, page = made(result, tmp_path)
    for tag in ("main", "nav", "footer", "h1", "title"):
        assert len(page(tag)) == 1, tag
    levels = [int(e["tag"][1]) for e in page.all if re.fullmatch("h[1-6]", e["tag"])]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert page("html")[0]["attrs"]["lang"] == "en" and page("a", class_="skip")[0]["attrs"]["href"] == "#main"


def test_it_is_the_same_to_the_byte(result: Result, tmp_path: Path) -> None:
    first = write_page(result, tmp_path).read_bytes()
    assert write_page(result, tmp_path).read_bytes() == first


def test_whatever_people_write_stays_text(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    for key in ("title", "command", "created"):
        raw[key] = HOSTILE
    raw["machine"] = {HOSTILE: [HOSTILE]}
    raw["sets"][0] |= {"name": HOSTILE, "source": HOSTILE, "hash": HOSTILE}
    raw["prompts"][0] |= {key: HOSTILE for key in ("text", "set", "speaker", "voice", "voice_text")}
    for key in ("label", "source", "hash", "licence", "error"):
        raw["systems"][0][key] = HOSTILE
    raw["systems"][0]["settings"] = {HOSTILE: HOSTILE}
    for key in ("label", "unit", "backend", "paper"):
        raw["metrics"][0][key] = HOSTILE
    raw["items"][0] |= {"error": HOSTILE, "heard": {"wer": HOSTILE}, "dropped": {"wer": HOSTILE}}
    raw["items"][1] |= {"dropped": {"wer": HOSTILE}, "words": [{"text": HOSTILE, "start": 0.0, "end": 0.3}]}
    raw["scores"]["voicebox"]["wer"]["dropped"] = {HOSTILE: HOSTILE}
    raw["ratings"] = {
        "mos": {HOSTILE: {"value": 4.0}}, "preferences": [{"a": HOSTILE, "b": HOSTILE}], "files": [HOSTILE]
    }  # fmt: skip
    _, page = made(result, tmp_path)
    assert len(page("script")) == len(page("style")) == 1
    assert not [e for e in page.all if any(name.startswith("on") for name in e["attrs"])]
    assert page("h1")[0]["text"] == page("title")[0]["text"] == page("pre")[0]["text"] == HOSTILE
    assert [e["text"] for e in page("h3")].count(HOSTILE) == 1 and "alert" not in page("script")[0]["text"]
    assert all(e["attrs"].get("src", "data:").startswith("data:") for e in page("img"))


# --- sounds ----------------------------------------------------------------------------------------------------------


def test_embedded_sounds_are_in_the_page_once(result: Result, tmp_path: Path) -> None:
    _, page = made(result, tmp_path, embed=True)
    players = page("audio")
    held = [e["attrs"]["src"] for e in players if "src" in e["attrs"]]
    wanted = {path.read_bytes() for path in tmp_path.rglob("*.flac")}
    assert all(source.startswith("data:audio/flac;base64,") for source in held)
    assert {base64.b64decode(source.partition(",")[2]) for source in held} == wanted and len(held) == len(wanted)
    again = [e for e in players if "src" not in e["attrs"]]
    assert len(again) == 2 and all("hidden" in e["attrs"] for e in again)  # two voices, each of two prompts
    assert len(players) == 4 + 11


def test_linked_sounds_lie_beside_the_page(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    odd = "audio/voicebox/a b#1?ü.flac"
    tone(tmp_path / odd, 300)
    raw["items"][0]["audio"] = odd
    text, page = made(result, tmp_path, embed=False)
    sources = [e["attrs"]["src"] for e in page("audio")]
    assert len(sources) == 4 + 11 and "audio/voicebox/a%20b%231%3F%C3%BC.flac" in sources
    assert all((tmp_path / source).is_file() for source in sources if "%" not in source)
    assert "media-src 'self' file:;" in text and "has to stay with them" in text


def test_small_sounds_are_embedded_and_large_ones_linked(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.flac"))
    monkeypatch.setattr(sounds, "EMBEDDED_BYTES", size)
    assert "data:audio" in made(result, tmp_path)[0]
    monkeypatch.setattr(sounds, "EMBEDDED_BYTES", size - 1)
    assert "data:audio" not in made(result, tmp_path)[0]


@pytest.mark.parametrize("embed", [True, False])
def test_a_recording_that_is_gone_is_said_to_be(result: Result, tmp_path: Path, embed: bool) -> None:
    raw: Any = result
    (tmp_path / "audio/voicebox/e02.flac").unlink()
    (tmp_path / "audio/voicebox/e03.flac").write_bytes(b"no sound")
    tone(tmp_path.parent / "secret.flac", 200)
    raw["items"][0]["audio"] = "../secret.flac"
    raw["items"][3]["audio"] = str(tmp_path.parent / "secret.flac")
    text, page = made(result, tmp_path, embed)
    said = [e["text"] for e in page.all if e["attrs"].get("class") == "failure"]
    assert [line for line in said if "e02" in line] == ["no such file: audio/voicebox/e02.flac"]
    assert "no such file: ../secret.flac" in said and sum("no such file: /" in line for line in said) == 1
    (broken,) = [line for line in said if line.startswith("no picture: audio/voicebox/e03.flac")]
    assert str(tmp_path) not in broken
    assert base64.b64encode((tmp_path.parent / "secret.flac").read_bytes()).decode() not in text


# --- content ---------------------------------------------------------------------------------------------------------


def test_the_summary_has_every_number(result: Result, tmp_path: Path) -> None:
    _, page = made(result, tmp_path)
    wer, sim, count, nfe, calls, rtf, warm, cold, loading, memory = page.row("summary-table", "Voicebox")
    assert wer == "5.0 rank 1[3.0, 7.0][2.0, 8.0]" and sim.startswith("0.850 rank 1[0.830, 0.870]")
    assert (count, nfe, calls, rtf) == ("4 of 4", "16", "32", "0.500[0.400, 0.600]")
    assert (warm, cold, loading, memory) == ("0.450", "4", "2", "700")
    assert page.row("summary-table", "recordings")[2:] == ["4 of 4", *["–"] * 7]
    values = [e["attrs"]["data-value"] for e in page("td", class_="number")]
    assert "0.05" in values and "" in values
    heads = [e["text"] for e in page("th", scope="col")]
    assert "WER\u00a0↓lower is better %" in heads and "SIM-o\u00a0↑higher is better" in heads
    assert [e["text"] for e in page("b") if "td" in e["within"]][:2] == ["5.0", "0.850"]  # not the recordings'


def test_what_failed_is_never_hidden(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    raw["scores"]["voicebox"]["sim-o"] |= {"count": 2, "dropped": {"e01": "it is silent", "e02": "it is silent"}}
    raw["items"][0] |= {"scores": {"wer": 0.25}, "dropped": {"sim-o": "it is silent"}}
    _, page = made(result, tmp_path)
    assert page.row("summary-table", "Tortoise")[0].endswith("3 of 4")
    assert page.row("summary-table", "Voicebox")[1].endswith("2 of 4")
    (missing,) = page("section", id="missing")
    assert "Tortoise: 3 of 4 madefailed: e04 – it could not be said: too long" in missing["text"]
    assert "Voicebox: 4 of 4 madenot judged (SIM-o): e01, e02 – it is silent" in missing["text"]
    failed = [e for e in page("li", class_="take") if "Failed: it could not be said: too long" in e["text"]]
    assert len(failed) == 1 and failed[0]["attrs"]["data-wrong"] == "1" and "not judged" not in failed[0]["text"]
    assert "SIM-onot judged: it is silent" in page("li", class_="take")[0]["text"]


def test_where_nothing_is_missing_nothing_is_said(result: Result, tmp_path: Path) -> None:
    result["systems"] = [system for system in result["systems"] if system["name"] != "tortoise"]
    result["items"] = [row for row in result["items"] if row["system"] != "tortoise"]
    result["differences"] = []
    assert made(result, tmp_path)[1]("section", id="missing") == []


def test_a_system_that_could_not_be_had_at_all_keeps_its_row(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    raw["systems"][0] |= {"error": "no such checkpoint", "made": 0, "failed": 4, "times": None, "nfe": None}
    raw["scores"]["voicebox"] = {
        "wer": {**dict.fromkeys(("value", "low", "high", "speaker_low", "speaker_high", "rank")), "count": 0,
                "dropped": dict.fromkeys(("e01", "e02", "e03", "e04"), "no such checkpoint")},
    }  # fmt: skip
    nothing: Any = {"error": "no such checkpoint", "audio": None, "scores": {}, "heard": {}, "seconds": None}
    for row in raw["items"][:4]:
        row |= nothing
    for difference in raw["differences"]:
        if "voicebox" in (difference["a"], difference["b"]):
            difference |= dict.fromkeys(("value", "low", "high", "p", "adjusted")) | {"pairs": 0, "real": False}
    _, page = made(result, tmp_path)
    wer, sim, count, *_ = page.row("summary-table", "Voicebox")
    assert (wer, sim, count) == ("–no intervalno interval0 of 4", "–not judged", "0 of 4")
    assert "the whole system: no such checkpoint" in page("section", id="missing")[0]["text"]
    assert page.row("difference-table", "WER")[2:] == ["–", "–", "–", "–", "0", "cannot be said"]
    assert "failed: e01, e02, e03, e04 – no such checkpoint" in page("section", id="missing")[0]["text"]


def test_differences_are_told_in_words(result: Result, tmp_path: Path) -> None:
    _, page = made(result, tmp_path)
    assert page.row("difference-table", "WER") == [
        "Voicebox", "Tortoise", "−20.0 points", "[−22.0, −18.0]", "0.010", "0.030", "3", "Voicebox is better"
    ]  # fmt: skip
    assert "4 of 6 differences are real" in page("section", id="differences")[0]["text"]
    rows = [e["attrs"] for e in page("tr") if "data-metric" in e["attrs"]]
    assert [e["data-metric"] for e in rows] == ["wer"] * 3 + ["sim-o"] * 3
    assert [e["data-real"] for e in rows] == ["1", "0", "1"] * 2


def test_errors_are_marked_for_the_eye_and_the_ear(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    raw["items"][1]["heard"] = {"wer": "a young red fox", "cer": "a young red fox", "wer-whisper": "fox"}
    raw["items"][2]["heard"] = {"wer": ""}
    _, page = made(result, tmp_path)
    heard = [e["text"] for e in page("p", class_="heard")]
    assert heard[0] == "WER heard the old bridge instead of shook heard took 1 error"
    assert heard[3] == "WER, cer heard a young added: red fox 1 error"
    assert heard[4] == "wer-whisper heard missing: a young fox 2 errors"
    assert heard[7].endswith("missing: she poured b hot b and cold 7 errors")
    wrong = [e["attrs"]["data-system"] for e in page("li", class_="take") if e["attrs"]["data-wrong"] == "1"]
    first = ["voicebox", "tortoise", "recordings"]  # all of them misheard the first prompt
    assert len(page("mark")) == 3 and wrong == [*first, "voicebox", "voicebox", "tortoise"]


def test_what_was_asked_of_a_prompt_is_there(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    raw["prompts"][1] |= {"task": "edit", "voice_text": "An old fox.", "reference_audio": "audio/recordings/e02.flac"}
    raw["items"][1] |= {
        "words": [{"text": "young", "start": 0.1, "end": 0.25}, {"text": "lost"}],
        "spans": [{"removed": "old", "inserted": "young", "start_out": 0.08, "end_out": 0.27}],
    }  # fmt: skip
    _, page = made(result, tmp_path)
    prompt = page("article", class_="prompt")[1]
    assert "in place of “An old fox.”" in prompt["text"] and "voice slt" in prompt["text"]
    named = [e["attrs"]["aria-label"] for e in page("audio")]
    assert [name for name in named if name.startswith("reference")] == ["reference of e02"]
    drawn = [e["attrs"]["aria-label"] for e in page("svg", class_="times") if "aria-label" in e["attrs"]]
    assert drawn == ["young 0.10 to 0.25 s; edited 0.08 to 0.27 s"]
    assert "the voice says “a prompt”" in page("article", class_="prompt")[0]["text"]


def test_seeds_are_told_apart_and_values_of_sets_are_not_given_to_recordings(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    raw["systems"][0]["seeds"] = [0, 1]
    raw["items"].insert(1, {**raw["items"][0], "seed": 1, "item": "e01.s1"})
    raw["metrics"][1]["level"] = "set"
    _, page = made(result, tmp_path)
    assert [e["text"] for e in page("h4")][:3] == ["Voicebox, seed 0", "Voicebox, seed 1", "Tortoise"]
    assert {e["text"] for e in page("dt") if "li" in e["within"]} == {"WER"}
    assert "of the whole set" in page.row("metric-table", "SIM-o")[-1]
    assert "SIM-o of every recording" not in [e["text"] for e in page("figcaption")]


def test_every_plot_has_its_numbers(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    other = {**raw["systems"][0], "name": "v8", "label": "Voicebox steps=8", "nfe": 32.0}
    raw["systems"].append({**other, "settings": {**other["settings"], "steps": 8}})
    raw["scores"]["v8"] = {"wer": {**raw["scores"]["voicebox"]["wer"], "value": 0.03}}
    _, page = made(result, tmp_path)
    assert [e["text"] for e in page("figcaption")] == [
        "WER against speed", "SIM-o against WER", "WER over evaluations", "SIM-o over evaluations",
        "WER of every recording", "SIM-o of every recording",
    ]  # fmt: skip
    drawings = [e for e in page("svg", class_="plot")]
    tables = [e for e in page("table") if "figure" in e["within"]]
    assert len(drawings) == len(tables) == 6
    assert "System Voicebox, RTF 0.5, low 0.4, high 0.6, WER 5, low 3, high 7" in drawings[0]["attrs"]["aria-label"]
    assert "\nVoicebox16537\nVoicebox32337\n" in tables[2]["text"]  # two figures of one family: NFE, value, low, high
    # Each system's mark in a plane differs from the others in shape and colour.
    marks = {(e["attrs"]["class"], e["attrs"]["d"]) for e in page("path") if e["attrs"]["class"].startswith("mark")}
    assert len({colour for colour, _ in marks}) == len({shape for _, shape in marks}) == 4


def test_listeners_are_heard(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    assert made(result, tmp_path)[1]("section", id="ratings") == []
    raw["ratings"] = {
        "mos": {
            "voicebox": {"value": 4.125, "low": 3.9, "high": 4.3, "count": 24, "listeners": 2}, "gone": {"value": None}
        },
        "smos": {"tortoise": {"value": 3.0, "low": None, "high": None, "count": 1, "listeners": 1}},
        "preferences": [
            {"a": "voicebox", "b": "tortoise", "wins": 9, "losses": 2, "ties": 1, "p": 0.0654, "adjusted": 0.1308},
            {"a": "voicebox", "b": "recordings", "wins": 0, "losses": 0, "ties": 3, "p": None, "adjusted": None},
        ],
        "files": ["anna.json", "ben.json"], "listeners": 1, "silent": ["ben"], "unanswered": 2,
        "catches": {"trials": 4, "same": 3, "by_listener": {"anna": [3, 4]}},
    }  # fmt: skip
    _, page = made(result, tmp_path)
    said = page("section", id="ratings")[0]["text"]
    assert "1 listener; read from anna.json, ben.json; no answer from ben; trials that could not be answered: 2" in said
    assert "in 3 of 4 pairs of a clip and itself no difference was heard" in said
    assert page.row("mos-table", "Voicebox") == ["4.12", "[3.90, 4.30]", "24", "2"]
    assert page.row("mos-table", "gone") == ["–", "–", "–", "–"]
    assert page.row("smos-table", "Tortoise") == ["3.00", "–", "1", "1"]
    assert page.row("preference-table", "Voicebox") == ["Tortoise", "9", "2", "1", "0.065", "0.131"]
    assert "recordings003––" in page("table", id="preference-table")[0]["text"]
    raw["ratings"] = {"listeners": 3}
    assert "3 listeners." in made(result, tmp_path)[1]("section", id="ratings")[0]["text"]


def test_what_it_takes_to_do_it_again_is_there(result: Result, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("", encoding="utf-8")
    _, page = made(result, tmp_path)
    about = page("section", id="about")[0]["text"]
    for said in (
        "flowtts compare voicebox tortoise recordings", "2026-01-01T00:00:00+00:00", "A CPU", "torch 2.13.0",
        "ab12", "0123456789abcdef", "solver midpoint, steps 4, vocoder vocos", "yes: flowtts detect",
    ):  # fmt: skip
        assert said in about
    assert page("a", href="scores.csv") and not page("a", href="listen.html")
    raw: Any = result
    raw["tagged"] = False
    assert "yes: flowtts detect" not in made(result, tmp_path)[0]


# --- little ----------------------------------------------------------------------------------------------------------


def test_one_system_alone_is_shown(result: Result, tmp_path: Path) -> None:
    result["systems"], result["differences"] = result["systems"][:1], []
    result["items"] = result["items"][:4]
    _, page = made(result, tmp_path)
    assert "There is nothing to compare" in page("section", id="differences")[0]["text"]
    assert page.row("summary-table", "Voicebox")[0].startswith("5.0")


def test_without_metrics_or_prompts_there_is_still_a_page(result: Result, tmp_path: Path) -> None:
    result["metrics"], result["differences"], result["scores"] = [], [], {}
    _, page = made(result, tmp_path)
    assert "No metric was asked for." in page("section", id="metrics")[0]["text"]
    assert page("section", id="plots") == [] and page.row("summary-table", "Voicebox")[0] == "4 of 4"
    result["prompts"], result["items"], result["systems"], result["sets"] = [], [], [], []
    assert "0 systems, 0 prompts" in made(result, tmp_path)[0]


def test_any_script_can_be_shown(result: Result, tmp_path: Path) -> None:
    raw: Any = result
    texts = ["שלום עולם", "日本語のテキスト", "naïve café 🙂 – “quotes”", "à"]
    for prompt, text in zip(raw["prompts"], texts, strict=True):
        prompt["text"] = text
    raw["systems"][0]["label"] = "システム ß"
    _, page = made(result, tmp_path)
    assert [e["text"] for e in page("h3") if e["attrs"].get("dir") == "auto"] == texts
    assert page.row("summary-table", "システム ß")[2] == "4 of 4"
