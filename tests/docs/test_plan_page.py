"""The tables of docs/plan.md are what the planner says today."""

from __future__ import annotations

import pytest

from docs.make_plan import ASKED, PAGE, page
from tests.docs.pages import commands


def test_the_tables_are_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run `python -m docs.make_plan`"


@pytest.mark.parametrize("name", ASKED)
def test_each_answers_a_command_of_the_page(name: str) -> None:
    assert ASKED[name] in commands(PAGE)
    assert f"<!-- {name}, written by docs/make_plan.py -->\n| " in PAGE.read_text(encoding="utf-8")
