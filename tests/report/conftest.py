"""What tests of reports share: a browser, and a way to see what it shows of a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.commands.report import report
from tests.support import browser
from tests.support.packages import BROWSER, require

SEEN = """Object.fromEntries([...document.querySelectorAll('figure')].map(figure => [figure.id, {
  curves: [...figure.querySelectorAll('.curve')].map(curve => ({
    points: Number(curve.dataset.points),
    drawn: curve.querySelector('.line').getAttribute('d').split(/[ML]/).length - 1,
    band: curve.querySelector('.band') !== null,
    runs: curve.dataset.runs,
    colour: curve.querySelector('.line').getAttribute('stroke'),
    dashes: curve.querySelector('.line').getAttribute('stroke-dasharray'),
    kind: curve.classList[1] ?? '',
  })),
  ends: [...figure.querySelectorAll('.end')].map(end => end.textContent),
  panels: [...figure.querySelectorAll('h3')].map(title => title.textContent),
  note: figure.querySelector('.aside')?.textContent ?? '',
  bars: figure.querySelectorAll('.bar').length,
  says: figure.textContent,
}]))"""
"""What each chart shows."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[browser.Browser]:
    """A browser. Without one on this machine, tests that ask for it are skipped, or fail in CI."""
    require(BROWSER)
    opened = browser.Browser()
    yield opened
    opened.close()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs are, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.fixture
def see(chromium: browser.Browser) -> Callable[..., Any]:
    """Report on runs, open the page, run a few lines of script in it, and return what an expression says."""

    def see(targets: list[str], expression: str = SEEN, *, first: str = "", width: int = 1200, **options: Any) -> Any:
        report(targets, out=Path("out"), formats="html", **options)
        return chromium.see(Path("out/report.html"), f"(() => {{ {first}; return {expression}; }})()", width=width)

    return see
