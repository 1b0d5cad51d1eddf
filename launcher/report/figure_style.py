"""How figures of reports and of commands look."""

from __future__ import annotations

from typing import Any

INK, MUTED, RULE = "#161b22", "#5a6472", "#e2e6eb"

STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.dpi": 160,
    "font.size": 9.5,
    "grid.color": RULE,
    "legend.frameon": False,
    "svg.hashsalt": "sgp",  # the same runs give the same file
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}
