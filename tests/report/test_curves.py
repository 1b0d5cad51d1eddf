"""Curves in the charts of a report can be told apart, also where they coincide."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.cli.commands.report import report
from launcher.report.coincidence import find_coinciding
from launcher.report.looks import Look, choose_looks
from launcher.report.strokes import line_strokes
from tests.support.run_folders import make_rows, make_run, make_sweep

SWEEP = "1234abcd"
TOPOLOGIES, ALGORITHMS = ("ring", "star", "complete"), ("sgp", "dpsgd")


@pytest.fixture
def crossed(runs: Path) -> str:
    """A sweep of three topologies and two algorithms, which are alike in everything but the loss."""
    ids = []
    for (t, topology), (a, algorithm) in product(enumerate(TOPOLOGIES), enumerate(ALGORITHMS)):
        ids.append(f"{t}{a}00000000")
        rows = make_rows(lift=0.05 * t)
        rows = [{**row, "loss": row["loss"] + 0.4 * a} for row in rows]
        make_run(runs, ids[-1], rows=rows, topology={"name": topology}, algorithm={"name": algorithm})
    make_sweep(runs, SWEEP, ids)
    return SWEEP


def test_validation_loss_is_a_chart(crossed: str, see: Callable[..., Any]) -> None:
    chart = see([crossed])["validation_loss"]
    assert chart["says"].startswith("Validation loss")
    assert [curve["points"] for curve in chart["curves"]] == [4] * 6


def test_a_task_without_validation_loss_has_no_empty_chart_of_it(runs: Path, see: Callable[..., Any]) -> None:
    make_run(runs, "0000000000", rows=[row for row in make_rows() if row.pop("loss")])
    assert "validation_loss" not in see(["0000000000"])
    make_run(runs, "1111111111", rows=make_rows())
    assert list(see(["1111111111"], metric="loss"))[:2] == ["validation_loss", "training_loss"]


def test_two_factors_are_colour_and_dash(crossed: str, see: Callable[..., Any]) -> None:
    curves = see([crossed])["training_loss"]["curves"]
    looks = {curve["runs"]: (curve["colour"], curve["dashes"]) for curve in curves}
    assert looks == {str(2 * t + a): (f"var(--c{t})", "7 4" if a else None) for t, a in product(range(3), range(2))}
    words = "[...document.querySelectorAll('#legend p, #legend .items button')].map(one => one.textContent)"
    assert see([crossed], words) == ["topology colour", *TOPOLOGIES, "algorithm dash", *ALGORITHMS]
    swatches = "[...document.querySelectorAll('td.run line')].map(line => line.getAttribute('stroke-dasharray'))"
    assert sorted(map(str, see([crossed], swatches))) == ["7 4"] * 3 + ["None"] * 3


def test_a_click_on_a_value_takes_all_its_curves_away(crossed: str, see: Callable[..., Any]) -> None:
    def click(*names: str) -> str:
        find = "[...document.querySelectorAll('#legend button')].find(one => one.textContent === '{}').click();"
        return "".join(map(find.format, names))

    def left(first: str) -> list[str]:
        return sorted(curve["runs"] for curve in see([crossed], first=first)["training_loss"]["curves"])

    assert left(click("dpsgd")) == list("024")
    assert left(click("dpsgd", "ring")) == list("24")
    assert left(click("dpsgd", "ring", "dpsgd")) == list("2345")
    assert left(click("None")) == []
    assert left(click("None", "All")) == list("012345")


def test_small_multiples_show_a_factor_each(crossed: str, see: Callable[..., Any]) -> None:
    choice = 'document.querySelector(\'[aria-label="Small multiples"] [data-value="{}"]\').click()'
    by_topology = see([crossed], first=choice.format(0))["validation_loss"]
    assert by_topology["panels"] == list(TOPOLOGIES)
    assert by_topology["ends"] == list(ALGORITHMS)[::-1] * 3  # the higher loss above
    assert len(by_topology["curves"]) == 6
    assert see([crossed], first=choice.format(1))["validation_loss"]["panels"] == list(ALGORITHMS)
    assert see([crossed])["validation_loss"]["panels"] == []


def test_curves_that_coincide_are_seen_and_named(crossed: str, see: Callable[..., Any]) -> None:
    seen = see([crossed])
    score = seen["validation_accuracy"]
    assert "these coincide: sgp and dpsgd for every topology." in score["note"]
    assert {curve["runs"]: curve["kind"] for curve in score["curves"]} == {
        str(run): "" if run % 2 else "casing" for run in range(6)
    }  # of one colour: the dashed line lies on the solid one
    assert [curve["runs"] for curve in score["curves"]] == list("024135")
    sent = seen["bytes_sent"]
    assert "these coincide: all curves." in sent["note"]
    assert {curve["dashes"] for curve in sent["curves"]} == {"9 18"}
    assert seen["training_loss"]["note"] == ""
    assert {curve["kind"] for curve in seen["training_loss"]["curves"]} == {""}
    dpsgd_off = "[...document.querySelectorAll('#legend button')].find(one => one.textContent === 'dpsgd').click()"
    assert see([crossed], first=dpsgd_off)["validation_accuracy"]["note"] == ""


def test_what_coincides_is_said_in_few_words(runs: Path, see: Callable[..., Any]) -> None:
    lifts = {("ring", "sgp"): 0.0, ("star", "sgp"): 0.2, ("ring", "dpsgd"): 0.0, ("star", "dpsgd"): 0.2}
    lifts |= {("ring", "local_sgd"): 0.4, ("star", "local_sgd"): 0.4, ("ring", "d2"): 0.6, ("star", "d2"): 0.8}
    for number, ((topology, algorithm), lift) in enumerate(lifts.items()):
        names = {"topology": {"name": topology}, "algorithm": {"name": algorithm}}
        make_run(runs, f"{number:010d}", rows=make_rows(lift=lift), **names)
    note = see([path.name for path in sorted(runs.iterdir())])["training_loss"]["note"]
    assert note.endswith("coincide: sgp and dpsgd for every topology; ring and star for local_sgd.")


def test_two_runs_that_coincide_are_stripes_of_one_line(runs: Path, see: Callable[..., Any]) -> None:
    for run_id, algorithm in (("0000000000", "sgp"), ("1111111111", "dpsgd")):
        make_run(runs, run_id, rows=make_rows(), algorithm={"name": algorithm})
    seen = see(["0000000000", "1111111111"])["training_loss"]
    assert seen["note"] == "Within the width of a line, these coincide: sgp and dpsgd."
    assert [(curve["kind"], curve["dashes"]) for curve in seen["curves"]] == [("stripe", "9 9")] * 2


def test_stripes_keep_the_dashes_that_all_of_them_have(runs: Path, see: Callable[..., Any]) -> None:
    for t, a in product(range(2), range(3)):
        rows = make_rows(lift=0.1 * t)
        algorithm = {"name": ("sgp", "dpsgd", "allreduce")[a]}
        make_run(runs, f"{t}{a}00000000", rows=rows, topology={"name": TOPOLOGIES[t]}, algorithm=algorithm)
    seen = see([path.name for path in sorted(runs.iterdir())])
    assert seen["training_loss"]["note"].endswith("coincide: sgp, dpsgd and allreduce for every topology.")
    assert [curve["dashes"] for curve in seen["training_loss"]["curves"]] == ["9 18"] * 3 + ["7 26"] * 3


def test_seeds_that_coincide_are_no_news(runs: Path, see: Callable[..., Any]) -> None:
    for seed in (1, 2):
        make_run(runs, f"{seed}000000000", rows=make_rows(), seed=seed)
    single = "document.querySelector('[data-value=single]').click()"
    assert see(["1000000000", "2000000000"], first=single)["bytes_sent"]["note"] == ""


def test_curves_are_named_at_their_ends_where_there_is_room(crossed: str, see: Callable[..., Any]) -> None:
    overlap = """(() => {
      const box = element => element.getBoundingClientRect();
      const names = [...document.querySelectorAll('#validation_accuracy .end text')].map(box);
      const outer = box(document.getElementById('validation_accuracy'));
      return [names.length, names.some((a, i) => names.slice(i + 1).some(b => Math.abs(a.top - b.top) < 12)),
        names.every(name => name.right <= outer.right && name.bottom <= outer.bottom)];
    })()"""
    assert see([crossed], overlap) == [6, False, True]


def test_the_legend_is_beside_the_charts_and_above_them_on_a_phone(crossed: str, see: Callable[..., Any]) -> None:
    boxes = """['legend', 'charts'].map(id => document.getElementById(id).getBoundingClientRect())
      .map(box => [box.left, box.top, box.right, box.bottom])"""
    legend, charts = see([crossed], boxes)
    assert legend[0] >= charts[2]
    assert abs(legend[1] - charts[1]) < 4
    legend, charts = see([crossed], boxes, width=390)
    assert legend[3] <= charts[1]


def test_every_number_of_the_table_is_on_a_phone(crossed: str, see: Callable[..., Any]) -> None:
    cells = """[...document.querySelectorAll('.table:not([hidden]) td')].map(cell => {
      const box = cell.getBoundingClientRect();
      const inside = box.left >= 0 && box.right <= innerWidth;
      return [cell.innerText.trim(), inside, getComputedStyle(cell, '::before').content];
    })"""
    found = see([crossed], cells, width=390)
    assert len(found) == 6 * 12
    assert all(inside for _, inside, _ in found)
    titles = {title for _, _, title in found}
    assert {'"Best"', '"Final"', '"Loss"', '"Distance"', '"Sent"', '"topology"'} <= titles
    assert see([crossed], "[document.documentElement.scrollWidth, innerWidth]", width=390) == [390, 390]


def test_figures_name_what_coincides(crossed: str) -> None:
    report([crossed], out=Path("out"), formats="svg")
    assert "<!-- Within the width" in Path("out/validation_accuracy.svg").read_text()
    assert "<!-- Within the width" not in Path("out/training_loss.svg").read_text()


# -- what decides it ------------------------------------------------------------------------------------------------
def test_looks_follow_two_factors_only_where_these_are_crossed() -> None:
    grid = [{"algorithm": a, "topology": t} for a in "abc" for t in "xy"]
    looks = choose_looks(grid)
    assert looks.crossed
    assert looks.groups == tuple(Look(a, t) for a in range(3) for t in range(2))
    turned = choose_looks([{"algorithm": a, "topology": t} for a in "ab" for t in "xyz"])
    assert [factor.key for factor in turned.factors] == ["topology", "algorithm"]  # more values than there are dashes
    together = choose_looks([{"algorithm": a, "lr": a} for a in "abc"])
    assert (together.crossed, together.factors) == (False, ())
    assert together.groups == (Look(0, 0), Look(1, 0), Look(2, 0))
    three = choose_looks([dict(zip("abc", values, strict=True)) for values in product("01", repeat=3)])
    assert (three.crossed, len(three.factors), len(set(three.groups))) == (False, 3, 8)
    large = choose_looks([{"a": str(a), "b": str(b)} for a in range(5) for b in range(6)])
    assert not large.crossed
    assert len(set(large.groups)) == 30
    some_lack_it = choose_looks([{"a": "1", "b": "1"}, {"a": "1", "b": "2"}, {"a": "2"}])
    assert not some_lack_it.crossed


def test_curves_coincide_if_no_point_is_a_line_apart() -> None:
    x = np.linspace(0, 1, 11)
    near, apart = x + 0.001, x + np.where(x == 0.5, 0.05, 0)
    sparse = (x[[0, 5, 10]], x[[0, 5, 10]])
    short = (x[:5], x[:5])
    assert find_coinciding([(x, x), (x, apart), (x, near), sparse, short]) == [[0, 2, 3]]
    assert find_coinciding([]) == []
    assert find_coinciding([(x, 0 * x), (x, 0 * x)]) == [[0, 1]]


def test_figures_draw_what_coincides_as_casing_or_stripes() -> None:
    looks = [Look(0, 0), Look(0, 1), Look(1, 0), Look(2, 0), Look(3, 0)]
    strokes = line_strokes(looks, [[0, 1], [2, 3]])
    assert [stroke.casing for stroke in strokes] == [True, False, False, False, False]
    assert [stroke.stripe for stroke in strokes] == [None, None, (0, 2), (1, 2), None]
