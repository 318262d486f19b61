"""Somebody takes the listening test in a real browser, and what they said is read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, opened
from comparison import example

from flowtts.compare.listen import write_listen
from flowtts.compare.ratings import Ratings, read_ratings
from flowtts.compare.result import Result

# Which clips a trial plays, from the players themselves and not from the answers that are kept.
SPY = "window.played = []; const Native = Audio; window.Audio = function (s) { played.push(s); return new Native(s); };"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    folder = tmp_path_factory.mktemp("asked")
    result = example(folder)
    write_listen(result, folder)
    return result, folder


def systems(folder: Path, page: Any, players: int) -> list[str]:
    """Who made what the trial on the page plays; "" for a voice."""
    clips = json.loads((folder / "listen" / "key.json").read_text("utf-8"))["clips"]
    names = [Path(source).stem for source in page.evaluate("played")[-players:]]
    return [clips[name]["system"] if name in clips else "" for name in names]


def enter(page: Any, listener: str) -> None:
    page.fill("#listener", listener)
    page.keyboard.press("Enter")


def begin(page: Any, test: str) -> None:
    overview = page.get_by_role("button", name="Overview", exact=True)
    if overview.is_visible():
        overview.click()
    page.locator("#tests > li", has=page.get_by_role("heading", name=test)).get_by_role("button").click()


def wait(page: Any) -> None:
    """Until everything has been heard."""
    page.locator("#answers:not([disabled])").wait_for()


def saved(page: Any, folder: Path, result: Result) -> tuple[dict[str, Any], Ratings]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save answers").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return json.loads(path.read_text("utf-8")), read_ratings([path], folder, result)


def test_what_is_clicked_is_what_is_read_back(browser: Any, asked: tuple[Result, Path]) -> None:
    result, folder = asked
    with opened(browser, (folder / "listen.html").as_uri(), script=SPY) as page:
        enter(page, "anna1")
        begin(page, "Naturalness")
        opinions: dict[str, list[int]] = {}
        for number, score in enumerate((5, 3, 1), 1):
            assert page.get_by_role("heading", level=1).inner_text() == f"Naturalness: clip {number} of 11"
            opinions.setdefault(systems(folder, page, 1)[0], []).append(score)
            # Before it was heard to the end nothing can be said.
            page.keyboard.press(str(score))
            assert page.locator("#options :checked").count() == 0
            page.keyboard.press("p")
            wait(page)
            page.keyboard.press("2")
            page.keyboard.press(str(score))
            assert page.get_by_role("status").inner_text() == f"{number} of 11 rated"
            page.keyboard.press("Enter")
        begin(page, "Preference")
        wins: dict[tuple[str, str], int] = {}
        for choice in ("A is better", "B is better"):
            one, other = systems(folder, page, 2)
            for label in ("Play A", "Play B"):
                page.get_by_role("button", name=label).click()
                page.get_by_role("button", name=label).get_by_text("heard").wait_for()
            page.get_by_text(choice).click()
            pair = (one, other) if choice == "A is better" else (other, one)
            if one != other:
                wins[pair] = wins.get(pair, 0) + 1
            page.get_by_role("button", name="Next").click()

        page.reload()
        assert page.get_by_role("heading", level=1).inner_text() == "Choose a test"
        assert page.locator("#tests").get_by_text("3 of 11").count() == page.get_by_text("2 of 11").count() == 1
        assert page.locator("#kept").inner_text() == "5 answers, 5 not saved"
        begin(page, "Voice")
        voice, system = systems(folder, page, 2)
        assert voice == "" and page.get_by_role("heading", level=1).inner_text() == "Voice: clip 1 of 11"
        page.keyboard.press("r")
        page.get_by_role("button", name="the reference").get_by_text("heard").wait_for()
        page.keyboard.press("p")
        wait(page)
        page.get_by_label("Very similar").check()

        content, found = saved(page, folder, result)
        assert page.locator("#kept").inner_text() == "6 answers, all saved"
    assert content["listener"] == "anna1" and found["listeners"] == 1 and found["unanswered"] == 0
    assert {name: (one["value"], one["count"]) for name, one in found["mos"].items()} == {
        name: (sum(scores) / len(scores), len(scores)) for name, scores in opinions.items()
    }
    assert [(name, one["value"]) for name, one in found["smos"].items()] == [(system, 4)]
    told = {(p["a"], p["b"]): p["wins"] for p in found["preferences"]}
    told |= {(p["b"], p["a"]): p["losses"] for p in found["preferences"]}
    assert {pair: count for pair, count in told.items() if count} == wins
    assert found["catches"]["trials"] == 2 - sum(wins.values())


def rate_all(tab: Any, page: Path, listener: str) -> None:
    """Keep answers as if every clip had been rated."""
    enter(tab, listener)
    tab.evaluate(
        "([clips, end]) => { const at = Object.keys(localStorage).find((key) => key.endsWith(end));"
        "const kept = JSON.parse(localStorage[at]); for (const clip of clips) kept.mos[clip] = 3;"
        "localStorage[at] = JSON.stringify(kept); }",
        [[path.stem for path in (page.parent / "listen").glob("*.flac")], f" {listener}"],
    )
    tab.reload()


def order(browser: Any, page: Path, listener: str) -> list[str]:
    """What a listener hears."""
    with opened(browser, page.as_uri(), script=SPY) as tab:
        rate_all(tab, page, listener)
        tab.get_by_role("button", name="Look again").click()
        for _ in range(11):
            tab.keyboard.press("Enter")
        assert tab.get_by_role("heading", level=1).inner_text() == "Thank you"
        return [Path(source).stem for source in tab.evaluate("played")]


def test_each_listener_has_an_order_of_their_own(browser: Any, asked: tuple[Result, Path]) -> None:
    page = asked[1] / "listen.html"
    anna, ben = order(browser, page, "anna"), order(browser, page, "ben")
    assert anna != ben and sorted(anna) == sorted(ben) and len(set(anna)) == 11
    assert order(browser, page, "anna") == anna


def test_listeners_with_numbers_take_the_sheets_in_turn(browser: Any, tmp_path: Path) -> None:
    page = write_listen(example(tmp_path), tmp_path, trials=4)
    sheets = json.loads(page.read_text("utf-8").partition('id="test">')[2].partition("</script>")[0])["mos"]
    assert len(sheets) == 3
    for number in (1, 2, 4):
        with opened(browser, page.as_uri(), script=SPY) as tab:
            enter(tab, f"l{number}")
            begin(tab, "Naturalness")
            first = Path(tab.evaluate("played.at(-1)")).stem
            assert [first] in [trial for block in sheets[number % 3] for trial in block]
    with opened(browser, page.as_uri()) as tab:
        rate_all(tab, page, "l2")
        # Whoever has done a sheet may go on with the next.
        for count in (8, 11):
            tab.get_by_role("button", name="More").click()
            tab.get_by_role("button", name="Go on with more clips").click()
            tab.get_by_role("heading", name=f"clip 1 of {count}").wait_for()
            tab.get_by_role("button", name="Overview").click()
        assert tab.get_by_role("button", name="More").count() == 0


def test_a_clip_that_does_not_play_can_be_skipped(browser: Any, tmp_path: Path) -> None:
    result = example(tmp_path)
    page = write_listen(result, tmp_path)
    for path in (tmp_path / "listen").glob("*.flac"):
        path.unlink()
    with opened(browser, page.as_uri(), expected="ERR_FILE_NOT_FOUND") as tab:
        enter(tab, "anna")
        begin(tab, "Naturalness")
        tab.get_by_text("This clip cannot be played.").wait_for()
        assert tab.get_by_label("Good").is_disabled()
        tab.get_by_role("button", name="Skip").click()
        tab.get_by_role("heading", name="clip 2 of 11").wait_for()
        # Nothing was said, so there is nothing to save.
        assert tab.locator("#kept").inner_text() == "0 answers"
        assert tab.get_by_role("button", name="Save answers").is_disabled()


def test_without_storage_it_warns_and_still_saves(browser: Any, asked: tuple[Result, Path]) -> None:
    result, folder = asked
    broken = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } });"
    with opened(browser, (folder / "listen.html").as_uri(), script=broken) as page:
        assert page.get_by_text("This browser keeps nothing").is_visible()
        enter(page, "eve")
        begin(page, "Naturalness")
        page.keyboard.press("p")
        wait(page)
        page.keyboard.press("2")
        content, found = saved(page, folder, result)
        assert list(content["mos"].values()) == [2] and found["listeners"] == 1


def test_names_that_cannot_name_a_file_are_refused(browser: Any, asked: tuple[Result, Path]) -> None:
    with opened(browser, (asked[1] / "listen.html").as_uri()) as page:
        for name in ("", "  ", "../anna", "<b>anna</b>", "a" * 41):
            page.evaluate("(name) => { document.getElementById('listener').value = name; }", name)
            page.get_by_role("button", name="Start").click()
            assert page.get_by_role("alert").inner_text().startswith("Please give a name")
        enter(page, " Zoë_1 ")
        assert page.locator("#who").inner_text() == "Zoë_1"
        page.get_by_role("button", name="not you?").click()
        assert page.evaluate("document.activeElement.id") == "listener" and page.input_value("#listener") == ""


def test_keys_can_be_switched_off_and_focus_follows(browser: Any, asked: tuple[Result, Path]) -> None:
    with opened(browser, (asked[1] / "listen.html").as_uri()) as page:
        enter(page, "kim")
        assert page.evaluate("document.activeElement.id") == "overview-heading"
        begin(page, "Preference")
        assert page.evaluate("document.activeElement.id") == "trial-heading"
        page.locator("#keys").uncheck()
        page.keyboard.press("a")
        assert page.get_by_role("button", name="Play A").count() == 1
        page.locator("#keys").check()
        page.keyboard.press("a")
        page.get_by_role("button", name="Stop A").wait_for()
        # One at a time.
        page.keyboard.press("b")
        page.get_by_role("button", name="Stop B").wait_for()
        assert page.get_by_role("button", name="Stop A").count() == 0


def test_a_narrow_window_needs_no_sideways_scrolling(browser: Any, asked: tuple[Result, Path]) -> None:
    sideways = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    options = {"viewport": {"width": 320, "height": 640}, "color_scheme": "dark"}
    with opened(browser, (asked[1] / "listen.html").as_uri(), **options) as page:
        assert not page.evaluate(sideways)
        enter(page, "w" * 40)
        assert not page.evaluate(sideways)
        for test in ("Naturalness", "Preference", "Voice"):
            begin(page, test)
            assert not page.evaluate(sideways), test
            for box in (one.bounding_box() for one in page.locator("#options label").all()):
                assert box["height"] >= 44 and box["x"] + box["width"] <= 320
