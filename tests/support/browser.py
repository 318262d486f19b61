"""A real browser for tests of pages: Chromium from the system, driven by playwright; what is missing skips the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable() -> str | None:
    """The browser's program: ``$FLOWTTS_CHROMIUM``, or the first of ``NAMES`` in the path."""
    return os.environ.get("FLOWTTS_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser (playwright's ``Browser``); ``opened`` opens pages in it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    program = executable()
    if program is None:
        pytest.skip("needs Chromium in the path or in $FLOWTTS_CHROMIUM")
    # As root, which is usual in containers, Chromium refuses its sandbox.
    arguments = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, address: str, script: str = "", expected: str = "", **options: Any) -> Iterator[Any]:
    """A page in a profile of its own. Fails if its script, its policy or the console complains.

    ``script`` runs before the page's own. ``expected`` is part of the complaints that there may be. ``options`` are
    those of playwright's ``new_context``: ``viewport``, ``color_scheme``.
    """
    context = browser.new_context(offline=True, **options)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.set_default_timeout(10_000)
    if script:
        page.add_init_script(script)
    try:
        page.goto(address)
        yield page
        assert [one for one in complaints if not expected or expected not in one] == []
    finally:
        context.close()
