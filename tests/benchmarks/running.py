"""Benchmarks run small: what they print, and what they write."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def run_small(
    benchmark: ModuleType, options: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a benchmark's command line in this process; return what it wrote: about the run, and the rows."""
    found = folder / "found" / "it.json"
    monkeypatch.setattr(sys, "argv", [benchmark.__name__, *options.split(), "--json", str(found)])
    benchmark.main()
    written = json.loads(found.read_text())
    assert written["about"]["benchmark"] == benchmark.__name__
    return written["about"], written["rows"]


def table_rows(said: str) -> list[list[str]]:
    """Return the cells of every Markdown row that was printed, heads left out; every table is rectangular."""
    tables: list[list[list[str]]] = []
    for line in said.splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if tables and len(tables[-1]) and tables[-1][0] is not None and len(tables[-1][0]) == len(cells):
                tables[-1].append(cells)
            else:
                tables.append([cells])
    return [row for table in tables for row in table if row[0] != "contender"]
