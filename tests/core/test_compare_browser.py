"""The page in a real browser, from disk and without a network: sorting, playing, looking, filtering."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comparison import example

from flowtts.compare.page import write_page

sync = pytest.importorskip("playwright.sync_api")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SUMMARY, DIFFERENCES = "#summary-table", "#difference-table"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """An installed Chromium; $FLOWTTS_CHROMIUM names another."""
    path = os.environ.get("FLOWTTS_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium in PATH; name one in FLOWTTS_CHROMIUM")
    with sync.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path)
        yield started
        started.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report with one value missing, its sounds in the page and beside it."""
    found = {name: tmp_path_factory.mktemp(name) for name in ("embedded", "linked")}
    for name, folder in found.items():
        result: Any = example(folder)
        result["scores"]["tortoise"]["sim-o"] |= {"value": None, "low": None, "high": None, "rank": None}
        result["prompts"][2]["text"] = "Not </script><script>document.title = 'broken'</script> a tag."
        write_page(result, folder, name == "embedded")
    return found


both = pytest.mark.parametrize("how", ["embedded", "linked"])


def opened(browser: Any, folder: Path, problems: list[str], **options: Any) -> Any:
    """The page; whatever the browser complains of, or fetches elsewhere, is a problem."""
    context = browser.new_context(offline=True, **options)
    page = context.new_page()
    page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url[:100]}"))
    inside = ("data:", folder.as_uri())
    page.on("request", lambda request: request.url.startswith(inside) or problems.append(f"asked: {request.url[:100]}"))
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective))"
    )
    page.goto((folder / "index.html").as_uri())
    return page


@pytest.fixture
def window(browser: Any, folders: dict[str, Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page in a window of its own; at the end nothing may have gone wrong in any."""
    problems: list[str] = []
    made: list[Any] = []

    def show(how: str = "embedded", **options: Any) -> Any:
        made.append(opened(browser, folders[how], problems, **options))
        return made[-1]

    yield show
    for page in made:
        page.context.close()
    assert problems == []


@pytest.fixture
def page(window: Callable[..., Any]) -> Any:
    return window()


def column(page: Any, table: str, number: int) -> list[str]:
    """Values of a column from above."""
    cells = page.locator(f"{table} tbody tr > :nth-child({number})")
    return [cell.get_attribute("data-value") for cell in cells.all()]


def orders(page: Any, table: str) -> list[str | None]:
    return [head.get_attribute("aria-sort") for head in page.locator(f"{table} thead tr:last-child th").all()]


def test_a_column_is_sorted_by_click_the_missing_last(page: Any) -> None:
    assert column(page, SUMMARY, 2) == ["0.05", "0.25", "0.0"] and not any(orders(page, SUMMARY))
    page.locator(SUMMARY).get_by_role("button", name="WER lower is better").click()
    assert column(page, SUMMARY, 2) == ["0.0", "0.05", "0.25"]
    assert orders(page, SUMMARY)[:3] == [None, "ascending", None]
    page.locator(f"{SUMMARY} thead button").nth(1).click()
    assert column(page, SUMMARY, 2) == ["0.25", "0.05", "0.0"] and orders(page, SUMMARY)[1] == "descending"
    likeness = page.locator(f"{SUMMARY} thead button").nth(2)
    likeness.click()  # the best first, which is the highest here
    assert column(page, SUMMARY, 3) == ["0.9", "0.85", ""]
    assert orders(page, SUMMARY)[:3] == [None, None, "descending"]
    likeness.click()
    assert column(page, SUMMARY, 3) == ["0.85", "0.9", ""]
    assert page.get_by_role("status").filter(has_text="Sorted by SIM-o").inner_text().endswith(", ascending")


def test_a_column_is_sorted_by_keyboard(page: Any) -> None:
    page.locator(f"{SUMMARY} thead button").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").startswith("WER")
    page.keyboard.press("Enter")
    assert column(page, SUMMARY, 2) == ["0.0", "0.05", "0.25"] and orders(page, SUMMARY)[1] == "ascending"
    page.keyboard.press("Space")
    assert column(page, SUMMARY, 2) == ["0.25", "0.05", "0.0"] and orders(page, SUMMARY)[1] == "descending"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    names = page.locator(f"{SUMMARY} tbody th").all_inner_texts()
    assert names == ["recordings", "Tortoise", "Voicebox"] and orders(page, SUMMARY)[:2] == ["ascending", None]


def test_the_first_stop_of_the_keyboard_leads_past_the_navigation(page: Any) -> None:
    assert page.title() == "A comparison" and page.locator("h3", has_text="Not </script>").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator("a.skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_intervals_are_by_prompt_or_by_speaker(page: Any) -> None:
    cell = page.locator(f"{SUMMARY} tbody td").first
    assert "[3.0, 7.0]" in cell.inner_text() and "[2.0, 8.0]" not in cell.inner_text()
    page.get_by_label("speakers").check()
    assert "[3.0, 7.0]" not in cell.inner_text() and "[2.0, 8.0]" in cell.inner_text()


@both
def test_a_recording_plays_to_its_end(window: Callable[..., Any], how: str) -> None:
    page = window(how)
    player = page.locator("audio[aria-label='Voicebox: The old bridge shook.']")
    player.focus()
    page.keyboard.press("Space")
    page.wait_for_function("audio => audio.ended", arg=player.element_handle(), timeout=20_000)
    assert player.evaluate("audio => [audio.currentTime, audio.duration]") == pytest.approx([0.4, 0.4], abs=0.02)
    # So does one that is in the page only once, wherever it stands.
    player = page.locator("audio[aria-label='voice of e03']")
    assert player.is_visible() and not page.locator("a.same:visible").count()
    player.evaluate("audio => { audio.muted = true; return audio.play(); }")
    page.wait_for_function("audio => audio.ended", arg=player.element_handle(), timeout=20_000)


def test_one_sound_plays_at_a_time(page: Any) -> None:
    first, second = (page.locator("audio").nth(number).element_handle() for number in (1, 2))
    stopped = page.evaluate(
        "async ([first, second]) => { first.loop = second.loop = first.muted = second.muted = true;"
        " await first.play(); await second.play(); return [first.paused, second.paused]; }",
        [first, second],
    )
    assert stopped == [True, False]


def test_a_spectrogram_opens(page: Any) -> None:
    picture = page.locator("details.picture").first
    image = picture.locator("img")
    assert not image.is_visible()
    picture.locator("summary").click()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
    assert image.is_visible() and image.evaluate("i => [i.naturalWidth, i.naturalHeight]") == [21, 64]


def test_recordings_are_filtered(page: Any) -> None:
    shown, prompts = page.locator(".take:visible"), page.locator(".prompt:visible")
    count = page.locator("#row-count")
    assert shown.count() == 12 and count.inner_text() == "12 of 12 recordings"
    page.get_by_role("searchbox", name="Text").fill("young FOX")
    assert (prompts.count(), shown.count(), count.inner_text()) == (1, 3, "3 of 12 recordings")
    page.keyboard.press("Enter")  # sends nothing
    page.get_by_role("searchbox", name="Text").fill("")
    page.get_by_role("combobox", name="System").select_option(label="Tortoise")
    assert (prompts.count(), shown.count()) == (4, 4)
    page.get_by_label("only with errors").check()
    # Misheard; and what could not be made.
    assert [e.get_attribute("data-system") for e in shown.all()].count("tortoise") == shown.count() == 3
    assert page.locator(".failure:visible").inner_text().startswith("Failed:")
    page.get_by_role("combobox", name="System").select_option("")
    page.get_by_label("only with errors").uncheck()
    assert (prompts.count(), shown.count()) == (4, 12)


def test_differences_are_filtered(page: Any) -> None:
    shown = page.locator(f"{DIFFERENCES} tbody tr:visible")
    assert shown.count() == 6
    page.get_by_role("combobox", name="Metric").select_option(label="WER")
    assert shown.count() == 3
    page.get_by_label("only those that are real").check()
    assert shown.count() == 2 and page.locator("#difference-count").inner_text() == "2 of 6 pairs"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_fits_its_window(window: Callable[..., Any], width: int, scheme: str) -> None:
    page = window(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light, dark = (sum(int(part) for part in colour[4:-1].split(",")) for colour in (paper, ink))
    assert (light > dark) == (scheme == "light") and abs(light - dark) > 500


@both
def test_without_scripts_everything_is_there(window: Callable[..., Any], how: str) -> None:
    page = window(how, java_script_enabled=False)
    assert page.locator(".take:visible").count() == 12 and page.locator(f"{SUMMARY} tbody tr:visible").count() == 3
    assert page.locator("form:visible").count() == page.locator("button").count() == 0
    page.get_by_label("speakers").check()
    assert "[2.0, 8.0]" in page.locator(f"{SUMMARY} tbody td").first.inner_text()
    players, links = page.locator("audio:visible").count(), page.locator("a.same:visible").count()
    assert (players, links) == ((13, 2) if how == "embedded" else (15, 0))
