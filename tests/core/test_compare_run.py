"""Whole comparisons: killed and gone on with, shared by two processes, as one that nothing disturbed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowtts.compare.clock import without_times
from flowtts.compare.exports import write_exports
from flowtts.compare.page import write_page
from flowtts.compare.report import read_result
from flowtts.compare.result import Result
from flowtts.voice import shipped

KILLS = int(os.environ.get("FLOWTTS_KILLS", "3"))
"""How often the comparison is killed; ten were tried by hand."""

TIMED = ("report.json", "index.html", "summary.csv")

COMMAND = (
    "griffin-lim-copy", "voicebox-fewstep:steps=2", "recordings", "--prompts", "p.tsv", "--metrics", "mel,sim-o,fsd",
    "--device", "cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prompts, and ``whole``, an undisturbed comparison of them."""
    made = tmp_path_factory.mktemp("compare")
    rows = []
    for number, name in enumerate(("rms", "slt", "awb")):
        shutil.copy(shipped()[name], made / f"{name}.flac")
        text = shipped()[name].with_suffix(".txt").read_text().strip()
        rows.append(f"p{number}\t{text}\t{name}.flac\t{text}\t{name}.flac\n")
    (made / "p.tsv").write_text("id\ttext\tvoice\tvoice_text\treference\n" + "".join(rows))
    assert start(made, "whole").wait() == 0
    return made


def start(folder: Path, out: str, *launcher: str) -> subprocess.Popen[bytes]:
    words = launcher or (sys.executable,)
    return subprocess.Popen(
        [*words, "-m", "flowtts", "compare", *COMMAND, "--out", out], cwd=folder, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def same(folder: Path, out: str) -> None:
    """Everything in a folder is what is in ``whole``, byte for byte, apart from times and names of folders."""
    mine, theirs = (
        {str(path.relative_to(folder / name)): path for path in (folder / name).rglob("*") if path.is_file()}
        for name in (out, "whole")
    )
    assert mine.keys() == theirs.keys()
    for name in mine:
        if name not in ("report.json", "index.html", "summary.csv") and not name.endswith(".record.json"):
            assert mine[name].read_bytes() == theirs[name].read_bytes(), name
    # What tells the time is made again without it.
    pages = []
    for name in ("whole", out):
        result = plain(folder / name)
        shutil.copytree(folder / name, folder / f"{name}.timeless", dirs_exist_ok=True)
        write_exports(result, folder / f"{name}.timeless")
        write_page(result, folder / f"{name}.timeless")
        pages.append([(folder / f"{name}.timeless" / file).read_bytes() for file in TIMED])
    assert pages[0] == pages[1]


def plain(folder: Path) -> Result:
    return {**without_times(read_result(folder)), "command": ""}


@pytest.mark.slow
def test_killed_at_random_it_ends_as_if_nothing_had_happened(folder: Path) -> None:
    rng = random.Random(7)
    killed = 0
    while killed < KILLS:
        run = start(folder, "killed")
        until = time.monotonic() + rng.uniform(3, 14)
        while run.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        if run.poll() is not None:
            # It was done before its time: begin again, so that there is something to kill.
            shutil.rmtree(folder / "killed")
            continue
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        killed += 1
    assert start(folder, "killed").wait() == 0
    same(folder, "killed")


@pytest.mark.slow
def test_two_processes_make_what_one_makes(folder: Path) -> None:
    # Accelerate starts several processes on a machine only for --multi_gpu; the command then says cpu.
    launcher = (
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1",
        "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0",
    )  # fmt: skip
    assert start(folder, "two", *launcher).wait() == 0
    same(folder, "two")
