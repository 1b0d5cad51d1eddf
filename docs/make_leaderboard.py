"""Write the table and draw the pictures of docs/leaderboard.md and docs/heterogeneous-data.md.

    python docs/make_leaderboard.py [FILE]

FILE (default: docs/results/leaderboard.json) is the output of ``benchmarks/leaderboard.py --json``.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOUND = HERE / "results" / "leaderboard.json"
PAGE = HERE / "leaderboard.md"
PICTURE = HERE / "images" / "leaderboard.svg"
SHARES = HERE / "images" / "partitions.svg"
BEGIN, END = "<!-- table, written by make_leaderboard.py -->", "<!-- end of table -->"
TABLE = runpy.run_path(str(HERE.parent / "benchmarks" / "suite" / "tables.py"))["leaderboard"]
COLOURS = {0: "#9ca3af", 1: "#2563eb", 2: "#d97706"}
WORKERS, CLASSES = 16, 10
LEAST = 80.0
"""The smallest accuracy, in percent, on the axis of the picture."""

Row = dict[str, Any]


def main() -> None:
    """Write the table between its markers, draw the pictures."""
    written = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else FOUND).read_text(encoding="utf-8"))
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), written), encoding="utf-8")
    draw(written["rows"], PICTURE)
    draw_shares(SHARES)


def with_table(page: str, written: dict[str, Any]) -> str:
    """Return the page with the table, its conditions and the sentence on quasi-global momentum."""
    before, rest = page.split(BEGIN + "\n")
    parts = [conditions(written["about"]), TABLE(written["rows"]), *claim_sentences(written["about"].get("claim"))]
    return f"{before}{BEGIN}\n" + "\n\n".join(parts) + f"\n{END}{rest.partition(END)[2]}"


def conditions(about: dict[str, Any]) -> str:
    """Return one line on the conditions of the measurement."""
    return (
        f"*{about['workers']} workers, {about['steps']} steps; mean ± standard deviation over {about['seeds']} seeds; "
        f"made in {about['seconds']} s on {about['cores']} cores.*"
    )


def claim_sentences(claim: dict[str, Any] | None) -> list[str]:
    """Return the sentence that compares quasi-global momentum with the optimizer's own momentum."""
    if claim is None:
        return []

    def gain(key: str) -> str:
        of = claim[key]
        return (
            f"{100 * of['mean']:+.1f} ± {100 * of['error']:.1f} points, better in {of['wins']} of {of['seeds']} seeds"
        )

    return [
        f"`qg_dsgdm` against `dpsgd` with momentum 0.9, both on the ring at alpha {claim['alpha']:g}, seed by seed "
        f"(mean ± standard error): averaged model {gain('averaged')}; worst worker {gain('worst')}."
    ]


def _plot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "leaderboard", "font.size": 9})
    import matplotlib.pyplot as plt

    return plt


def draw(rows: list[Row], path: Path) -> None:
    """Draw the accuracy of the averaged model and of the worst worker, one line per algorithm, one colour per alpha."""
    plt = _plot()
    alphas = sorted({row["alpha"] for row in rows}, reverse=True)
    hardest = sorted((row for row in rows if row["alpha"] == alphas[-1]), key=lambda row: row["averaged"])
    places = {_line(row): place for place, row in enumerate(hardest)}
    figure, panels = plt.subplots(1, 2, figsize=(10, 0.24 * len(places) + 1.2), layout="constrained", sharey=True)
    for panel, key, title in zip(panels, ("averaged", "worst"), ("averaged model", "worst worker"), strict=True):
        for number, alpha in enumerate(alphas):
            mine = [row for row in rows if row["alpha"] == alpha]
            for shown, marker in ((True, "o"), (False, "<")):  # values below the axis are drawn at its edge
                some = [row for row in mine if (100 * row[key] >= LEAST) is shown]
                at = [max(LEAST, 100 * row[key]) for row in some]
                label = f"alpha = {alpha:g}" if shown else None
                panel.plot(at, [places[_line(row)] for row in some], marker, color=COLOURS[number % 3], label=label)
        panel.set(xlabel=f"test accuracy in percent, {title}", xlim=(LEAST - 0.5, 98.5))
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(list(places.values()), [", ".join(part for part in line if part != "-") for line in places])
    panels[0].legend(frameon=False, loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def _line(row: Row) -> tuple[str, str, str]:
    momentum = {"-": "-", "its own": "-"}.get(row["momentum"], f"momentum {row['momentum']}")
    return row["name"], row["graph"], momentum


def draw_shares(path: Path) -> None:
    """Draw the classes of the digits on each of 16 workers: one colour per class, one panel per partition."""
    import numpy as np

    from sgp_core.tasks.datasets import DATASETS
    from sgp_core.tasks.partitions import PARTITIONS

    labels = DATASETS.build("digits").load().labels.numpy()  # type: ignore[union-attr]
    plt = _plot()
    chosen: list[tuple[str, str, dict[str, Any]]] = [
        *((f"dirichlet, alpha = {alpha:g}", "dirichlet", {"alpha": alpha}) for alpha in (10.0, 1.0, 0.1)),
        ("label_shards, 2 shards", "label_shards", {"shards": 2}),
    ]
    figure, panels = plt.subplots(1, len(chosen), figsize=(11, 3.2), layout="constrained", sharey=True)
    for panel, (title, name, options) in zip(panels, chosen, strict=True):
        shares = PARTITIONS.build(name, **options).assign(labels, WORKERS, 0)
        counts = np.array([np.bincount(labels[share], minlength=CLASSES) for share in shares])
        below = counts.cumsum(1) - counts
        for label in range(CLASSES):
            panel.bar(range(WORKERS), counts[:, label], 0.9, below[:, label], color=plt.cm.tab10(label))
        panel.set(title=title, xlabel="worker", xticks=range(0, WORKERS, 5))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("training examples")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    main()
