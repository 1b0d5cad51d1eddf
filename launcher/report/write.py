"""Writing a report: its page and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launcher.report.html.page import page
from launcher.report.report import Report
from sgp_core.atomic_files import write_text

PAGE = "report.html"
FORMATS = ("html", "png", "svg")


def save(report: Report, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write ``report`` to ``folder`` in each of the formats and return the files, the page first.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if "html" in formats:
        content = page(report).encode(errors="replace").decode()  # half of a surrogate pair cannot be encoded
        write_text(folder / PAGE, content)
        written.append(folder / PAGE)
    if figures := [kind for kind in formats if kind != "html"]:
        from launcher.report.figures import save_figures

        written += save_figures(report, folder, figures)
    return written
