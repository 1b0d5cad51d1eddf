"""Tables that pages repeat from docs/results are those that benchmarks have found."""

from __future__ import annotations

import json
from typing import Any

from tests.docs.pages import ROOT

DOCS = ROOT / "docs"


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return the rows of a benchmark."""
    rows: list[dict[str, Any]] = json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return rows


def table_row(*cells: str) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(cells) + " |"


def test_muon_inside_diloco() -> None:
    page = (DOCS / "optimizers.md").read_text(encoding="utf-8").replace("| |", "|  |").replace("| |", "|  |")
    for row in rows_of("muon"):
        scores = {optimizer: row[optimizer] for optimizer in ("adamw", "muon")}
        losses = [f"{100 * (score / row['none'][optimizer] - 1):+.1f} %" for optimizer, score in scores.items()]
        of = losses if row["outer"] != "none" else ["", ""]
        cells = str(row["workers"]), row["outer"], f"{scores['adamw']:.3f}", f"**{scores['muon']:.3f}**"
        assert table_row(*cells, *of) in page, row


def test_language_models() -> None:
    page = (DOCS / "language.md").read_text(encoding="utf-8")
    for row in rows_of("language_small"):
        scores = f"{row['bits_per_byte']:.3f}", f"{min(row['of_seeds']):.3f} to {max(row['of_seeds']):.3f}"
        sent = f"{row['bytes_sent'] / 1e6:.0f}", f"{row['peak_step_bytes'] / 1e6:.1f}"
        assert table_row(row["name"], *scores, f"{row['lr']:g}", *sent) in page, row
