"""What the parts of the page are made of: cells, tables, and words for screen readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from flowtts.compare.figures import MINUS, NOTHING
from flowtts.compare.result import MetricInfo


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes:
        label: plain.
        numeric: whether its cells are numbers, which align to the right.
        first: the order that the first press of its button brings: the best first.
        arrow: which way is better, for metrics: "↑" or "↓".
        unit: small, beneath.
    """

    label: str
    numeric: bool = True
    first: str = "ascending"
    arrow: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: what stands there, plain.
        value: what numeric columns are sorted by; None comes last.
        html: markup that stands there instead.
        head: whether it names its row.
    """

    text: str
    value: float | None = None
    html: str | None = None
    head: bool = False


def name_cell(text: str, html: str | None = None) -> Cell:
    """The cell that names its row."""
    return Cell(text, None, html, head=True)


def number_cell(value: float | None, form: str = ".4g") -> Cell:
    """A number, or a dash."""
    return Cell(NOTHING if value is None else f"{value:{form}}".replace("-", MINUS), value)


def unseen(text: str) -> str:
    """Words for screen readers alone."""
    return f'<span class="unseen">{escape(text)}</span>'


def metric_column(metric: MetricInfo) -> Column:
    """The column of a metric."""
    higher = metric["higher_is_better"]
    first, arrow = ("descending", "↑" if higher else "") if higher in (True, None) else ("ascending", "↓")
    return Column(metric["label"], first=first, arrow=arrow, unit=metric["unit"])


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    *,
    id: str = "",
    sortable: bool = True,
    groups: Sequence[tuple[str, int]] = (),
    attributes: Sequence[str] = (),
) -> str:
    """A table that scrolls sideways where it is too wide.

    Args:
        caption: what it shows.
        columns: its heads.
        rows: its cells.
        id: of the element.
        sortable: whether the script puts buttons into the heads.
        groups: (label, columns) of a line above the heads.
        attributes: of each row's element.
    """
    above = "".join(
        f'<th scope="colgroup" colspan="{span}">{escape(label)}</th>' if label else f'<td colspan="{span}"></td>'
        for label, span in groups
    )
    above = f'<tr class="groups">{above}</tr>' if above else ""
    head = "".join(_head(column) for column in columns)
    body = "".join(
        f"<tr{' ' + attributes[i] if attributes else ''}>{_row(cells, columns)}</tr>\n" for i, cells in enumerate(rows)
    )
    named = f' id="{id}"' if id else ""
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="wide" role="region" aria-label="{escape(caption)}" tabindex="0">'
        f"<table{named}{kind}><caption>{escape(caption)}</caption>"
        f"<thead>{above}<tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def _head(column: Column) -> str:
    kind = ' class="number"' if column.numeric else ""
    better = {"↑": "higher is better", "↓": "lower is better"}.get(column.arrow, "")
    arrow = f'&nbsp;<span aria-hidden="true" class="arrow">{column.arrow}</span>{unseen(better)}' if better else ""
    unit = f' <small class="unit">{escape(column.unit)}</small>' if column.unit else ""
    return f'<th scope="col"{kind} data-first="{column.first}">{escape(column.label)}{arrow}{unit}</th>'


def _row(cells: Sequence[Cell], columns: Sequence[Column]) -> str:
    return "".join(_cell(cell, column) for cell, column in zip(cells, columns, strict=True))


def _cell(cell: Cell, column: Column) -> str:
    content = escape(cell.text) if cell.html is None else cell.html
    if cell.head:
        return f'<th scope="row">{content}</th>'
    if not column.numeric:
        return f"<td>{content}</td>"
    return f'<td class="number" data-value="{"" if cell.value is None else repr(float(cell.value))}">{content}</td>'
