"""Comparing systems on the same prompts: speaking, judging, statistics, a report, a listening test.

asked, sets = read_sets(["english"])
job = Job(systems=parse(["voicebox", "recordings"], {}, [0]), prompts=asked, metrics=("wer", "sim-o"), sets=sets)
result = compare(job, folder, watch)
write_report(result, folder)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowtts.compare.plan import Job as Job
    from flowtts.compare.plan import outline as outline
    from flowtts.compare.prompts import read_sets as read_sets
    from flowtts.compare.ranks import Ranks as Ranks
    from flowtts.compare.report import read_result as read_result
    from flowtts.compare.report import summary_cells as summary_cells
    from flowtts.compare.report import summary_columns as summary_columns
    from flowtts.compare.report import write_report as write_report
    from flowtts.compare.result import Result as Result
    from flowtts.compare.run import compare as compare
    from flowtts.compare.systems import parse as parse

_WHERE = {
    "Job": "plan", "outline": "plan", "read_sets": "prompts", "Ranks": "ranks", "read_result": "report",
    "summary_cells": "report", "summary_columns": "report", "write_report": "report", "Result": "result",
    "compare": "run", "parse": "systems",
}  # fmt: skip


def __getattr__(name: str) -> object:
    # Processes that make recordings need neither the page nor the statistics.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"flowtts.compare.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'flowtts.compare' has no attribute {name!r}")
