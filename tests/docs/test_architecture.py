"""docs/architecture.md: the drawing and the traced step are those of the code, and every part has its paragraph."""

from __future__ import annotations

import pytest

from docs import make_architecture
from docs.make_architecture import COLOURS, PAGE, PICTURE, drawing, layers, page_with_step

AGAIN = "run `python -m docs.make_architecture`"


def test_the_drawing_is_of_the_imports() -> None:
    assert PICTURE.read_text(encoding="utf-8") == drawing(), AGAIN


def test_the_step_is_that_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with_step(page), AGAIN
    step = page.partition("<!-- step, written by docs/make_architecture.py -->")[2].partition("<!-- end of step -->")[0]
    assert 0 < len(step.strip().splitlines()) <= 11, "a reader can follow a step through eleven files"


@pytest.mark.parametrize("package", COLOURS)
def test_every_part_has_a_paragraph(package: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for row in layers(package) for name in row if f"**`{name}`**" not in page] == []


def test_another_import_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = {package: make_architecture.imports(package) for package in COLOURS}
    graphs["launcher"].add_edge("console", "config")
    monkeypatch.setattr(make_architecture, "imports", graphs.__getitem__)
    assert PICTURE.read_text(encoding="utf-8") != drawing()
