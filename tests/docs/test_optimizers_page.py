"""What the page of optimizers says of Muon inside DiLoCo is what its benchmark has found."""

from __future__ import annotations

import json

from tests.docs.pages import ROOT


def test_the_table_is_that_of_the_results() -> None:
    rows = json.loads((ROOT / "docs" / "results" / "muon.json").read_text(encoding="utf-8"))["rows"]
    page = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
    for row in rows:
        scores = {optimizer: row[optimizer] for optimizer in ("adamw", "muon")}
        losses = [f"{100 * (score / row['none'][optimizer] - 1):+.1f} %" for optimizer, score in scores.items()]
        of = losses if row["outer"] != "none" else ["", ""]
        cells = [str(row["workers"]), row["outer"], f"{scores['adamw']:.3f}", f"**{scores['muon']:.3f}**", *of]
        assert f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |") in page, row
