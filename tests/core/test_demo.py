"""The demonstration writes a page that a browser can show with nothing but what lies beside it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("resemblyzer")
pytest.importorskip("matplotlib")

from flowtts.audio.io import read
from flowtts.demo import METRICS, SENTENCES, VOICES, make


def test_page_recordings_and_scores(tmp_path: Path) -> None:
    table = io.StringIO()
    made = make(tmp_path, Console(file=table, width=120), {"solver": "euler", "steps": 2})
    count = len(SENTENCES) * len(VOICES)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'src="([^":]+\.wav)"', page)
    assert len(named) == count and all(read(tmp_path / name).seconds > 1 for name in named)
    assert page.count("data:image/png;base64,") == count and page.count("data:audio/flac;base64,") == count
    assert not re.search(r'(src|href)="https?:', page)
    assert set(made) == set(METRICS) and all(made[name]["count"] == count for name in METRICS)
    assert json.loads((tmp_path / "scores.json").read_text())["metrics"] == made
    assert all(voice in table.getvalue() for voice in VOICES)
