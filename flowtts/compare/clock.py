"""What remains of a result when the clock is left out: two runs of one command agree on it."""

from __future__ import annotations

from flowtts.compare.result import Result, Row, System


def without_times(result: Result) -> Result:
    """The result with everything blank that depends on when and where it was made.

    Args:
        result: stays as it is.
    """
    systems: list[System] = [{**system, "times": None} for system in result["systems"]]
    rows: list[Row] = [{**row, "took": None} for row in result["items"]]
    return {**result, "created": "", "machine": {}, "systems": systems, "items": rows}
