"""A report as one self-contained HTML page: it loads nothing from the network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from launcher.report import palette
from launcher.report.html.data import page_data
from launcher.report.html.header import origin, shared_settings, tiles
from launcher.report.html.table import results_note, tables
from launcher.report.html.timeline import timelines
from launcher.report.report import Report
from launcher.report.series import MAX_POINTS

_HERE = Path(__file__).parent
_SCRIPT = (
    "view",
    "numbers",
    "scales",
    "svg",
    "coincidence",
    "labels",
    "curves",
    "hover",
    "bars",
    "legend",
    "table",
    "main",
)
"""The parts of the page's script, which share one scope."""
_LIGHT = {
    "ground": "#f6f7f9",
    "surface": "#ffffff",
    "sunken": "#edf0f3",
    "ink": "#161b22",
    "muted": "#5a6472",
    "faint": "#a4adb9",
    "rule": "#e2e6eb",
    "good": "#12855f",
    "bad": "#b3261e",
    "win": "#eef4fb",
    "shadow": "rgb(22 27 34 / 0.13)",
    "on-data": "#161b22",
    "on-compute": "#ffffff",
    "on-communication": "#ffffff",
}
_DARK = {
    "ground": "#0f1216",
    "surface": "#171b21",
    "sunken": "#1e242c",
    "ink": "#e7ebf0",
    "muted": "#9aa4b2",
    "faint": "#5c6673",
    "rule": "#272e37",
    "good": "#4fd6a6",
    "bad": "#f28b82",
    "win": "#1a2636",
    "shadow": "rgb(0 0 0 / 0.5)",
    "on-data": "#e7ebf0",
    "on-compute": "#0f1216",
    "on-communication": "#0f1216",
}


def page(report: Report) -> str:
    """Return the HTML page."""
    title = f"{report.kind}: {report.title}"
    return Template(_asset("page.html")).substitute(
        document_title=escape(title),
        palette=_palette(),
        css=_asset("page.css"),
        js="\n\n".join(_asset(f"page.{part}.js") for part in _SCRIPT),
        kind=escape(report.kind),
        title=escape(report.title),
        shared=shared_settings(report),
        origin=origin(report),
        tiles=tiles(report),
        timelines=timelines(report),
        results_note=escape(results_note(report)),
        tables=tables(report),
        footer=_footer(report),
        # "</script>" inside a string would end the script
        data=json.dumps(page_data(report), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8").strip()


def _palette() -> str:
    def rules(colours: Sequence[str], shades: Mapping[str, str], parts: Mapping[str, str]) -> str:
        named = {f"c{index}": colour for index, colour in enumerate(colours)} | dict(shades)
        named |= {f"part-{part}": shade for part, shade in parts.items()}
        return " ".join(f"--{name}: {value};" for name, value in named.items())

    light, dark = rules(palette.LIGHT, _LIGHT, palette.PARTS), rules(palette.DARK, _DARK, palette.PARTS_DARK)
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"


def _footer(report: Report) -> str:
    notes = []
    if report.seeds:
        notes.append(
            "Runs that differ by their seed only are drawn as their mean ± the sample standard deviation over seeds."
        )
    if report.thinned:
        notes.append(
            f"Long curves are drawn from {MAX_POINTS} of their points, lowest and highest values among them; "
            "metrics.jsonl of each run has them all."
        )
    notes.append(str(report.origin.get("made", "")))
    return "".join(f"<p>{escape(note)}</p>" for note in notes if note)
