"""From a corpus on disk to Lhotse manifests with aligned phones, resumable and in parallel."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from flowtts.alignment import choose_aligner
from flowtts.alignment.base import Aligner
from flowtts.alignment.files import write_text
from flowtts.data.journal import Journal
from flowtts.data.manifest import lhotse, write_manifests
from flowtts.data.rows import Broken, Row, read_rows
from flowtts.data.work import Job, Options, run
from flowtts.types import PathLike, UserError

_CHUNK = 8


@dataclass(frozen=True)
class Report:
    """What became of a corpus.

    Attributes:
        cuts: the manifest to train on.
        accepted: rows in it.
        resumed: how many of them an earlier run had done.
        rejected: rows left out.
        seconds: of accepted sound.
        faults: rejected rows by kind of fault: row, audio, duration, text, match, error.
        rejections: the TSV that says why, row by row.
    """

    cuts: Path
    accepted: int
    resumed: int
    rejected: int
    seconds: float
    faults: Mapping[str, int]
    rejections: Path


def prepare(
    kind: str,
    source: PathLike,
    out: PathLike,
    *,
    aligner: str | Aligner = "pocketsphinx",
    textgrids: PathLike | None = None,
    transcribed: bool = True,
    lexicon: PathLike | None = None,
    min_seconds: float = 0.4,
    max_seconds: float = 35.0,
    min_confidence: float = 0.5,
    jobs: int = 1,
    progress: bool = True,
) -> Report:
    """Normalise, pronounce and align a corpus; write ``cuts.jsonl.gz`` and its siblings, and ``rejected.tsv``.

    A broken row never stops the run. Finished rows are kept in ``journal.jsonl``: a rerun skips them and tries the
    rejected ones again.

    Args:
        kind: "ljspeech", "librispeech", "libritts", "vctk", "table" (a TSV with audio and text columns), "engine" (a
            corpus spoken by ``flowtts.recipes.voicebox.corpus``, whose labels are true and are not aligned anew) or
            "folder" (sound files alone, for ``transcribed=False``).
        source: the corpus' folder or the table.
        out: a folder, made if missing.
        aligner: "pocketsphinx", an aligner's checkpoint, or any picklable ``Aligner``.
        textgrids: import alignments from a folder of TextGrids (Montreal Forced Aligner) instead.
        transcribed: False ignores transcripts and keeps the sound alone.
        lexicon: own pronunciations.
        min_seconds: shorter rows are rejected.
        max_seconds: longer rows are rejected.
        min_confidence: rows whose ``Alignment.confidence`` is lower are rejected.
        jobs: worker processes.
        progress: a bar on standard error, if that is a terminal.

    Raises:
        UserError: no such corpus, a broken header of a table, other options than those ``out`` was begun with, no row
            left, or Lhotse is missing.
    """
    lhotse()
    if jobs < 1:
        raise UserError(f"jobs must be at least 1, not {jobs}")
    # All of them before anything is written: a broken header then leaves nothing behind.
    rows = list(_unique(read_rows(kind, source)))
    made = choose_aligner(aligner) if isinstance(aligner, str) else aligner
    options = Options(
        kind, made.name if textgrids is None else "textgrid", transcribed and kind != "folder",
        None if textgrids is None else str(Path(textgrids).resolve()),
        None if lexicon is None else str(Path(lexicon).resolve()), min_seconds, max_seconds, min_confidence,
    )  # fmt: skip
    if textgrids is not None and not Path(textgrids).is_dir():
        raise UserError(f"{textgrids}: no such folder of TextGrids; check the path")
    out = Path(out)
    _make_folder(out)
    with Journal(out / "journal.jsonl", options) as journal:
        order, faulty = _run(rows, journal, options, pickle.dumps(made), jobs, progress)
        rejections = out / "rejected.tsv"
        lines = ["row\treason", *(f"{name}\t{' '.join(reason.split())}" for name, _, reason in faulty)]
        write_text(rejections, "\n".join(lines) + "\n")
        if not order.accepted:
            raise UserError(f"{source}: no usable row; {rejections} says why")
        seconds = 0.0

        def entries() -> Iterator[dict[str, Any]]:
            nonlocal seconds
            for name in order.accepted:
                entry = journal.get(name)
                seconds += entry["duration"]
                yield entry

        cuts = write_manifests(out, entries())
    faults = Counter(fault for _, fault, _ in faulty)
    return Report(cuts, len(order.accepted), order.resumed, len(faulty), seconds, dict(faults), rejections)


@dataclass
class _Order:
    """Accepted ids in the source's order, and how many of them were done before."""

    accepted: list[str]
    resumed: int


_Faults = list[tuple[str, str, str]]


def _unique(rows: Iterable[Row | Broken]) -> Iterator[Row | Broken]:
    """Second rows of the same id become broken."""
    seen: set[str] = set()
    for row in rows:
        if isinstance(row, Row) and row.id in seen:
            yield Broken(row.id, "another row has the same id")
        else:
            seen.add(row.id)
            yield row


def _run(
    rows: list[Row | Broken], journal: Journal, options: Options, aligner: bytes, jobs: int, progress: bool
) -> tuple[_Order, _Faults]:
    good = [row for row in rows if isinstance(row, Row)]
    pending = [row for row in good if row not in journal]
    rejected: dict[str, tuple[str, str]] = {}
    chunks = [tuple(pending[i : i + _CHUNK]) for i in range(0, len(pending), _CHUNK)]
    work = (Job(options, aligner, chunk) for chunk in chunks)
    with ExitStack() as stack:
        advance = _bar(stack, len(pending), progress)
        for job, entries in _results(work, jobs, stack):
            journal.add(job.rows, entries)
            rejected.update({e["id"]: (e["fault"], e["reason"]) for e in entries if "fault" in e})
            advance(len(entries))
    order = _Order([row.id for row in good if row.id not in rejected], len(good) - len(pending))
    faulty = [
        (row.id, "row", row.reason) if isinstance(row, Broken) else (row.id, *rejected[row.id])
        for row in rows
        if isinstance(row, Broken) or row.id in rejected
    ]
    return order, faulty


def _results(work: Iterator[Job], jobs: int, stack: ExitStack) -> Iterator[tuple[Job, list[dict[str, Any]]]]:
    """Jobs and what came of them, as they finish."""
    if jobs == 1:
        for job in work:
            yield job, run(job)
        return
    # Forked workers would inherit PyTorch's threads in an unknown state.
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    stack.callback(pool.shutdown, cancel_futures=True)
    running: dict[Future[list[dict[str, Any]]], Job] = {}
    try:
        for job in islice(work, 2 * jobs):
            running[pool.submit(run, job)] = job
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                yield job, future.result()
                for following in islice(work, 1):
                    running[pool.submit(run, following)] = following
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process died, perhaps for lack of memory; what is finished is kept: run the same command again "
            "with fewer jobs"
        ) from error


def _bar(stack: ExitStack, total: int, wanted: bool) -> Any:
    """A function that advances the bar, or does nothing where no bar is wanted or seen."""
    if not wanted or total == 0 or not sys.stderr.isatty():
        return lambda count: None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("aligning"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = bar.add_task("", total=total)
    return lambda count: bar.advance(task, count)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror}); choose another folder") from error
