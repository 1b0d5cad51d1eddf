"""Printing tables: by rich on a terminal, elsewhere as aligned plain text that is never cut."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from launcher.runs.plain_text import clean

if TYPE_CHECKING:
    from rich.table import Table

STATE_STYLES = {
    "queued": "cyan",
    "running": "bold cyan",
    "completed": "green",
    "failed": "bold red",
    "preempted": "yellow",
    "cancelled": "yellow",
    "lost": "bold red",
    "damaged": "bold red",
}
_STYLES: Mapping[str, Mapping[str, str]] = {"state": STATE_STYLES}


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    styles: Mapping[str, Mapping[str, str]] = _STYLES,
    bold: Collection[int] = (),
) -> None:
    """Print a table.

    Args:
        right: columns whose cells are aligned to the right.
        styles: styles of cells on a terminal, by column and text.
        bold: positions of the rows in bold type on a terminal.
    """
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(rich_table(columns, rows, right=right, styles=styles, bold=bold))
        return
    for line in align(columns, rows, right=right):
        print(line)


def rich_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    styles: Mapping[str, Mapping[str, str]] = _STYLES,
    bold: Collection[int] = (),
) -> Table:
    """Return a table for a terminal; see :func:`print_table`."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=column == columns[0],  # the id, which users copy
        )
    for number, row in enumerate(rows):
        cells = [
            Text(clean(cell), style=styles.get(column, {}).get(cell, ""))
            for column, cell in zip(columns, row, strict=True)
        ]
        table.add_row(*cells, style="bold" if number in bold else None)
    return table


def align(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> list[str]:
    """Return the lines of a table in plain text, as wide as its cells."""
    from rich.cells import cell_len

    lines = [[clean(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(cell_len(line[index]) for line in lines) for index in range(len(columns))]
    padded = []
    for line in lines:
        cells = []
        for column, cell, width in zip(columns, line, widths, strict=True):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if column in right else cell + space)
        padded.append("  ".join(cells).rstrip())
    return padded
