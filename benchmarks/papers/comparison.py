"""What a script of this folder has found, beside what was published."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

NONE = "no published number"


@dataclass(frozen=True)
class Comparison:
    """One number of a paper and ours.

    Attributes:
        what: it is, with its conditions.
        own: what the library's own rules give.
        published: the paper's value; None where no number was published.
        source: paper, table or figure of the published value.
        theory: what a closed form or a bound gives; None where there is none.
        is_bound: whether the theory is an upper bound.
    """

    what: str
    own: float
    published: float | None = None
    source: str = NONE
    theory: float | None = None
    is_bound: bool = False

    @property
    def reference(self) -> float | None:
        """What ours is compared with: the published value, else the theory's."""
        return self.theory if self.published is None else self.published

    def cells(self) -> list[str]:
        """Return the cells of its row: what, published, theory, own, difference, source."""
        bound = "at most " if self.is_bound else ""
        theory = "-" if self.theory is None else bound + written(self.theory)
        if self.reference is None:
            difference = "-"
        elif self.published is None and self.is_bound:
            difference = "within" if self.own <= self.reference else "above"
        else:
            difference = written(self.own - self.reference, signed=True)
        published = "-" if self.published is None else written(self.published)
        return [self.what, published, theory, written(self.own), difference, self.source]


@dataclass
class Findings:
    """Everything a script has found.

    Attributes:
        rows: the numbers.
        curves: what a picture shows: a name, and for each line of it, by its label, the points ``[x, y]``.
        notes: sentences that go with the numbers.
    """

    rows: list[Comparison] = field(default_factory=list)
    curves: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


HEAD = ["", "published", "theory", "own", "difference", "source"]


def written(value: float, *, signed: bool = False) -> str:
    """Return four significant digits; what is zero up to rounding of float64 is 0."""
    if abs(value) < 1e-13:
        return "0"
    return f"{value:{'+' if signed else ''}.4g}"


def markdown(rows: Sequence[Comparison]) -> str:
    """Return the rows as a table."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---:|---:|---:|---:|---|"]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    return "\n".join(lines)


def options_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the options that all scripts have."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write what was found here, too")
    return parser


def report(name: str, description: str | None, find: Callable[[], Findings]) -> None:
    """Read the command line, find, print, and write JSON if asked to."""
    import torch

    options = options_parser(description).parse_args()
    torch.set_num_threads(1)  # vectors are small
    found = find()
    print(f"{description}\n{markdown(found.rows)}\n")
    print("\n".join(found.notes))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        about: dict[str, Any] = {"about": {"benchmark": name}, **asdict(found)}
        options.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
