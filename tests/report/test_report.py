"""What ``sgp report`` writes, looked at with a real browser."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from launcher.cli.commands.report import report
from launcher.report import palette
from launcher.report.axis import Axis
from launcher.report.series import MAX_POINTS, band, series_of
from launcher.runs.find import run_ids
from launcher.runs.number_format import duration, size
from sgp_core.errors import ConfigurationError
from tests.support.run_folders import make_rows, make_run, make_sweep
from tests.support.run_states import DAMAGED_SWEEPS, MIXED_SWEEP, WHOLE_SWEEP, make_folders

CHARTS = ("validation_accuracy", "training_loss", "validation_loss", "consensus_distance", "bytes_sent")
SWEEP = "1234abcd"


@pytest.fixture
def sweep(runs: Path) -> list[str]:
    """A sweep of two algorithms and three seeds."""
    ids = []
    for a, algorithm in enumerate(("sgp", "dpsgd")):
        for seed in (1, 2, 3):
            ids.append(f"{a}{seed}00000000")
            rows = make_rows(lift=0.01 * a + 0.001 * seed)
            make_run(runs, ids[-1], rows=rows, seed=seed, algorithm={"name": algorithm})
    make_sweep(runs, SWEEP, ids)
    return ids


# -- the page -----------------------------------------------------------------------------------------------------
def test_seeds_are_drawn_as_mean_and_standard_deviation(sweep: list[str], see: Callable[..., Any]) -> None:
    seen = see([SWEEP])
    assert [seen[chart]["curves"][0]["points"] for chart in CHARTS] == [4, 10, 4, 4, 12]
    for chart in CHARTS:
        curves = seen[chart]["curves"]
        assert [curve["runs"] for curve in curves] == ["0 1 2", "3 4 5"]
        assert [curve["colour"] for curve in curves] == ["var(--c0)", "var(--c1)"]
        assert all(curve["drawn"] == curve["points"] and curve["band"] for curve in curves)
    assert seen["step_time"]["bars"] == 2
    assert "18.0" not in seen["step_time"]["says"]
    for part in ("2.00", "6.00", "12.0", "20.0 ms"):
        assert part in seen["step_time"]["says"]


def test_single_runs_have_the_colour_of_their_group(sweep: list[str], see: Callable[..., Any]) -> None:
    seen = see([SWEEP], first="document.querySelector('[data-value=single]').click()")
    for chart in CHARTS:
        curves = seen[chart]["curves"]
        assert [curve["runs"] for curve in curves] == list("012345")
        assert [curve["colour"] for curve in curves] == ["var(--c0)"] * 3 + ["var(--c1)"] * 3
        assert not any(curve["band"] for curve in curves)
    assert seen["step_time"]["bars"] == 6


def test_a_click_in_the_legend_takes_runs_away_everywhere(sweep: list[str], see: Callable[..., Any]) -> None:
    seen = see([SWEEP], first="document.querySelector('#legend button').click()")
    assert {chart: [curve["runs"] for curve in seen[chart]["curves"]] for chart in CHARTS} == {
        chart: ["3 4 5"] for chart in CHARTS
    }
    assert seen["step_time"]["bars"] == 1
    seen = see([SWEEP], first="[...document.querySelectorAll('#legend button')].at(-1).click()")
    assert all("Nothing is switched on" in chart["says"] for chart in seen.values())


@pytest.mark.parametrize(
    ("axis", "title", "last"), [("step", "Step", "40"), ("epoch", "Epoch", "4"), ("time", "Time (s)", "0.8")]
)
def test_the_axis_can_be_changed(axis: str, title: str, last: str, sweep: list[str], see: Callable[..., Any]) -> None:
    words = "[...document.querySelectorAll('#validation_accuracy text')].map(text => text.textContent)"
    said = see([SWEEP], words, first=f"document.querySelector('[data-value={axis}]').click()")
    assert title in said
    assert last in said
    assert said == see([SWEEP], words, x=Axis(axis))


def test_virtual_time_is_an_axis_where_a_run_has_it(runs: Path, see: Callable[..., Any]) -> None:
    on_the_clock = [{**row, "virtual_time_s": 60 * row["step"]} for row in make_rows()]
    for seed in (1, 2):
        make_run(runs, f"{seed}000000000", rows=on_the_clock, seed=seed)
    make_run(runs, "3000000000", rows=make_rows(), seed=1, algorithm={"name": "dpsgd"})
    three, choices = [path.name for path in sorted(runs.iterdir())], "[...document.querySelectorAll('[data-value]')]"
    axes = f"{choices}.map(one => one.textContent).filter(text => /Step|Epoch|[Tt]ime/.test(text))"
    assert see(three, axes) == ["Step", "Epoch", "Time", "Virtual time"]
    assert see(["3000000000"], axes) == ["Step", "Epoch", "Time"]

    choose = "document.querySelector('[data-value=virtual]').click()"
    chart = see(three, first=choose)["validation_accuracy"]
    assert [curve["runs"] for curve in chart["curves"]] == ["0 1"]
    assert chart["note"] == "Without virtual time: dpsgd."
    words = "[...document.querySelectorAll('#validation_accuracy text')].map(text => text.textContent)"
    said = see(three, words, x=Axis.virtual)
    assert {"Virtual time (min)", "40"} <= set(said)
    assert said == see(three, words, first=choose)
    single = see(three, first=f"{choose}; document.querySelector('[data-value=single]').click()")
    assert [curve["points"] for curve in single["training_loss"]["curves"]] == [10, 10]
    last = "[...document.querySelectorAll('.table:not([hidden]) tr')].map(row => [...row.cells].at(-1).innerText)"
    heading, *times = see(three, last)
    assert heading == "Virtual time"
    assert sorted(times) == ["40 min 00 s", "–"]


def test_hovering_shows_the_numbers_of_all_runs(sweep: list[str], see: Callable[..., Any]) -> None:
    first = """
      const plot = document.querySelector('#validation_accuracy .plot'), box = plot.getBoundingClientRect();
      const event = new PointerEvent('pointermove', { clientX: box.right - 15, clientY: box.top + 50, bubbles: true });
      plot.dispatchEvent(event)"""
    said = see([SWEEP], "document.querySelector('#validation_accuracy .tip').textContent", first=first)
    assert said.startswith("Step 40")
    for part in ("sgp0.8895± 0.0010 std of 3 seeds", "dpsgd0.8995± 0.0010 std of 3 seeds"):
        assert part in said


def test_zeros_are_named_where_the_scale_is_logarithmic(runs: Path, see: Callable[..., Any]) -> None:
    for run_id, distance in (("aa00000000", 0.0), ("bb00000000", 0.5)):
        rows = [{**row, "consensus_distance": distance} for row in make_rows()]
        make_run(runs, run_id, rows=rows, algorithm={"name": "allreduce" if distance == 0 else "sgp"})
    both = ["aa00000000", "bb00000000"]
    seen = see(both)["consensus_distance"]
    assert [curve["runs"] for curve in seen["curves"]] == ["1"]
    assert "logarithmic scale: allreduce" in seen["says"]
    linear = see(both, first="document.querySelector('#consensus_distance [data-value=linear]').click()")
    assert [curve["runs"] for curve in linear["consensus_distance"]["curves"]] == ["0", "1"]


def test_the_table_is_sorted_and_names_the_winner(sweep: list[str], see: Callable[..., Any]) -> None:
    table = "[...document.querySelectorAll('.table[data-mode=single] tbody tr')]"
    cells = f"{table}.map(row => [row.cells[0].innerText.trim(), row.className, row.cells[1].innerText])"
    single = "document.querySelector('[data-value=single]').click()"
    ranked = see([SWEEP], cells, first=single)
    assert ranked[0] == ["1300000000best", "winner", "dpsgd"]
    assert [row[0] for row in ranked[1:]] == ["1200000000", "1100000000", "0300000000", "0200000000", "0100000000"]
    by_id = see([SWEEP], cells, first=f"{single}; document.querySelector('.table:not([hidden]) th button').click()")
    assert [row[0].removesuffix("best") for row in by_id] == sorted(sweep)
    merged = "[...document.querySelectorAll('.table:not([hidden]) tbody tr')].map(row => row.innerText)"
    means = see([SWEEP], merged)
    assert len(means) == 2
    for part in ("dpsgd", "best", "3 completed", "0.8995", "± 0.0010"):
        assert part in means[0]


def test_a_phone_shows_all_without_scrolling_sideways(sweep: list[str], see: Callable[..., Any]) -> None:
    wide = see([SWEEP], "[document.documentElement.scrollWidth, innerWidth]", width=500)
    assert wide[0] <= wide[1]


def test_what_is_missing_is_missing_and_nothing_else(runs: Path, see: Callable[..., Any]) -> None:
    half = [row for row in make_rows(17) if row["split"] == "train"]
    holes = [{**row, "loss": None if row["step"] == 8 else row["loss"], "epoch": None} for row in make_rows()]
    torn = "".join(json.dumps(row) + "\n" for row in make_rows(20)) + '{"step": 24, "split": "tr'
    wild = [{"step": "x", "split": "train", "loss": 1}, {"split": "val"}, *make_rows(20)]
    wild += [{"step": 21, "split": "val", "accuracy": "high", "loss": True, "bytes_sent": [1]}]
    error = {"rank": 1, "type": "ValueError", "message": "no such <thing>\nmore", "log": "x"}
    make_run(runs, "0000000000", rows=half, status="running", seed=1)
    make_run(runs, "1111111111", rows=holes, status="completed", algorithm={"name": "dpsgd"})
    make_run(runs, "2222222222", rows=torn, status="failed", error=error, algorithm={"name": "local_sgd"})
    make_run(
        runs,
        "3333333333",
        rows=json.dumps(wild[0]) + "\nnull\n[]\n" + "\n".join(map(json.dumps, wild[1:])),
        topology={"name": "star"},
    )
    make_run(runs, "4444444444", rows=None, status="queued", topology={"name": "torus"})
    make_run(runs, "5555555555", rows="", status=None, topology={"name": "complete"})
    (runs / "5555555555" / "spec.json").write_text("{")
    ids = [path.name for path in sorted(runs.iterdir())]

    seen = see(ids)
    assert [curve["runs"] for curve in seen["training_loss"]["curves"]] == list("0123")
    assert [curve["points"] for curve in seen["training_loss"]["curves"]] == [4, 9, 5, 5]
    assert [curve["runs"] for curve in seen["validation_accuracy"]["curves"]] == list("123")
    over_epochs = see(ids, x=Axis.epoch)
    assert [curve["runs"] for curve in over_epochs["training_loss"]["curves"]] == list("023")
    rows = see(ids, "[...document.querySelectorAll('tbody tr')].map(row => row.innerText)")
    assert len(rows) == 6
    assert any("ValueError: no such <thing>" in row and "more" not in row for row in rows)


def test_runs_in_every_state_and_shape_make_a_page(runs: Path, see: Callable[..., Any], capsys: Any) -> None:
    make_folders(runs)
    ids = run_ids(runs)
    labels = see(ids, "[...document.querySelectorAll('.table:not([hidden]) tbody tr')].length", as_json=True)
    assert labels == len(json.loads(capsys.readouterr().out)["groups"])
    for sweep in (WHOLE_SWEEP, MIXED_SWEEP):
        assert see([sweep])["training_loss"]["curves"]
    for sweep in DAMAGED_SWEEPS:
        with pytest.raises(ConfigurationError, match="lists no runs"):
            report([sweep])


@pytest.mark.parametrize("rows", [None, "", "not json\n"])
def test_nothing_yet_is_said_so(rows: str | None, runs: Path, see: Callable[..., Any]) -> None:
    make_run(runs, "0000000000", rows=rows, status="queued")
    seen = see(["0000000000"])
    assert all("No data yet" in chart["says"] for chart in seen.values())
    assert all(not chart["curves"] for chart in seen.values())


@pytest.mark.filterwarnings("error")
def test_text_from_runs_is_text(runs: Path, see: Callable[..., Any]) -> None:
    evil = "_</script><script>window.evil = 1</script><img src=x onerror='window.evil = 1'>\"&$\\frac{$"
    error = {"rank": 0, "type": evil, "message": evil, "log": None}
    for run_id in ("0000000000", "1111111111"):
        make_run(runs, run_id, name=evil, rows=make_rows(), status="failed", error=error, model={"name": evil + run_id})
    assert see(["0000000000", "1111111111"], "window.evil || document.querySelectorAll('img').length") == 0
    assert evil in see(["0000000000", "1111111111"], "document.body.textContent")
    report(["0000000000", "1111111111"], out=Path("out"), formats="svg")
    assert ElementTree.parse("out/step_time.svg") is not None


def test_the_page_needs_nothing_but_itself(sweep: list[str]) -> None:
    report([SWEEP], out=Path("out"), formats="html")
    page = Path("out/report.html").read_text()
    assert [path.name for path in Path("out").iterdir()] == ["report.html"]
    for reference in ("http://", "https://", "src=", "@import", "url("):
        assert reference not in page


def test_fifty_runs_can_be_told_apart(runs: Path, see: Callable[..., Any]) -> None:
    ids = [f"{number:010d}" for number in range(50)]
    for number, run_id in enumerate(ids):
        make_run(runs, run_id, rows=make_rows(lift=number / 10), optimizer={"name": "sgd", "lr": number / 100})
    seen = see(ids)
    assert [len(seen[chart]["curves"]) for chart in CHARTS] == [50] * 5
    looks = [(curve["colour"], curve["dashes"]) for curve in seen["training_loss"]["curves"]]
    assert len(set(looks)) == len(palette.LIGHT) * len(palette.DASHES) == 32
    assert "lr=0.49" in see(ids, "document.getElementById('legend').textContent")
    assert Path("out/report.html").stat().st_size < 500_000


def test_long_records_are_thinned_and_keep_their_extremes(runs: Path, see: Callable[..., Any]) -> None:
    rows = [{"step": step, "split": "train", "loss": 1.0 + random.Random(step).random()} for step in range(1, 20_001)]
    rows[7654]["loss"] = 77.0
    make_run(runs, "0000000000", rows=rows)
    make_run(runs, "1111111111", rows=rows[:100], seed=1)
    page = "[document.querySelector('footer').textContent, document.getElementById('data').textContent]"
    footer, data = see(["0000000000", "1111111111"], page)
    assert f"drawn from {MAX_POINTS} of their points" in footer
    charts = {chart["key"]: chart for chart in json.loads(data)["charts"]}
    long, short = (run[-1] for run in charts["training_loss"]["runs"])
    assert (len(long), len(short)) == (MAX_POINTS, 100)
    assert max(long) == 77.0
    assert "drawn from" not in see(["1111111111"], page)[0]


# -- figures, files and numbers -------------------------------------------------------------------------------------
def test_a_worker_alone_is_at_no_distance(runs: Path) -> None:
    make_run(runs, "0123456789", rows=[{**row, "consensus_distance": 0.0} for row in make_rows()])
    report(["0123456789"], formats="png")
    assert (runs / "0123456789" / "report" / "consensus_distance.png").stat().st_size > 5000


def test_every_chart_is_a_figure_too(sweep: list[str], runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(runs, "ffffffffff", rows=None, status="queued")
    report([SWEEP])
    folder = runs / "sweeps" / SWEEP / "report"
    names = [*CHARTS, "step_time"]
    files = ["report.html", *(f"{name}.{kind}" for name in names for kind in ("png", "svg"))]
    assert capsys.readouterr().out.split() == [f"runs/sweeps/{SWEEP}/report/{name}" for name in files]
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    for name in names:
        assert min(Image.open(folder / f"{name}.png").size) > 300
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
    report(["ffffffffff"], formats="svg")
    assert (runs / "ffffffffff" / "report" / "training_loss.svg").exists()


def test_figures_over_virtual_time_name_the_curves_that_have_none(runs: Path) -> None:
    make_run(runs, "1000000000", rows=[{**row, "virtual_time_s": row["step"]} for row in make_rows()])
    make_run(runs, "2000000000", rows=make_rows(), algorithm={"name": "dpsgd"})
    report(["1000000000", "2000000000"], out=Path("out"), formats="svg", x=Axis.virtual)
    drawn = Path("out/training_loss.svg").read_text()
    assert "<!-- Virtual time (s) -->" in drawn
    assert "<!-- Without virtual time: dpsgd. -->" in drawn
    with pytest.raises(ConfigurationError, match="--x virtual: no run has a virtual time; runs with cluster=simulator"):
        report(["2000000000"], out=Path("none"), x=Axis.virtual)
    assert not Path("none").exists()


def test_json_has_the_numbers(sweep: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    report([SWEEP], formats="html", as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == [f"runs/sweeps/{SWEEP}/report/report.html"]
    assert [run["run_id"] for run in said["runs"]] == sweep
    first = said["runs"][0]
    assert first["changed"] == {"algorithm": "sgp", "seed": "1"}
    assert (first["state"], first["winner"], first["steps"], first["best_step"]) == ("completed", False, 40, 40)
    assert math.isclose(first["best"], 0.8885)
    assert first["communication_time_ms"] == 12.0
    assert [(group["label"], group["runs"], group["winner"]) for group in said["groups"]] == [
        ("sgp", 3, False),
        ("dpsgd", 3, True),
    ]
    assert math.isclose(said["groups"][1]["spread"]["best"], 0.001)


def test_several_runs_are_reported_where_one_stands(sweep: list[str]) -> None:
    report(sweep[:2], formats="html")
    assert Path(f"report-{sweep[0]}-{sweep[1]}/report.html").exists()
    report(sweep, formats="html")
    assert (
        len([path for path in Path().glob("report-*/report.html") if len(path.parent.name) == len("report-") + 8]) == 1
    )


def test_a_lower_loss_wins(sweep: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    report([SWEEP], formats="html", metric="loss", as_json=True)
    run = json.loads(capsys.readouterr().out)["runs"][0]
    assert (run["best"], run["best_step"]) == (1 / 40, 40)


def test_replicas_scores_stand_in_for_the_average(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"accuracy_local_mean" if key == "accuracy" else key: v for key, v in row.items()} for row in make_rows()]
    make_run(runs, "0000000000", rows=rows)
    report(["0000000000"], formats="html", as_json=True)
    assert math.isclose(json.loads(capsys.readouterr().out)["runs"][0]["best"], 0.8875)


def test_mistakes_are_one_sentence(sweep: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"no run has a validation metric 'acuracy'; did you mean 'accuracy'\?"
    ):
        report([SWEEP], metric="acuracy")
    with pytest.raises(ConfigurationError, match=r"metric 'bleu'; known: accuracy, loss$"):
        report([SWEEP], metric="bleu")
    with pytest.raises(ConfigurationError, match="--format gif: no such format"):
        report([SWEEP], formats="html,gif")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot write the report to file"):
        report([SWEEP], out=Path("file"))


def test_the_command_line_costs_no_numpy() -> None:
    heavy = "[name for name in ('numpy', 'matplotlib', 'torch', 'hydra', 'wandb') if name in sys.modules]"
    code = f"import sys, launcher.cli.commands.report, launcher.cli.commands.export; sys.exit({heavy} or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- what curves are made of ------------------------------------------------------------------------------------------
def test_a_band_speaks_for_the_runs_that_came_so_far() -> None:
    one = series_of([{"step": step, "loss": float(step)} for step in (1, 2, 3)], "loss")
    other = series_of([{"step": step, "loss": 3.0} for step in (2, 4)], "loss")
    made = band([one, other], Axis.step)
    assert made is not None
    assert made.x.tolist() == [1, 2, 3, 4]
    assert made.mean.tolist() == [1, 2.5, 3, 3]
    assert made.std.tolist() == [0, pytest.approx(0.5**0.5), 0, 0]  # the sample standard deviation of 2 and 3
    assert made.high.tolist() == pytest.approx([1, 2.5 + 0.5**0.5, 3, 3])
    assert made.count.tolist() == [1, 2, 2, 1]
    assert band([one], Axis.time) is None


def test_a_step_counts_once_and_what_is_no_number_never() -> None:
    values = [(1, 5.0), (2, None), (3, math.nan), (4, math.inf), (5, "6"), (6, True), (7, 8), (1, 9.0)]
    made = series_of([{"step": step, "loss": value} for step, value in values], "loss")
    assert made.x[Axis.step].tolist() == [1, 7]
    assert made.values.tolist() == [9, 8]


def test_colours_can_be_told_apart_by_everybody() -> None:
    for colours in (palette.LIGHT, palette.DARK):
        for simulated in _VISION.values():
            labs = [_lab(simulated @ _linear(colour)) for colour in colours]
            pairs = [np.linalg.norm(a - b) for i, a in enumerate(labs) for b in labs[:i]]
            assert min(pairs) > 9.5


def test_numbers_read_well() -> None:
    assert [size(value) for value in (0, 999, 14_800_000, 2.5e12)] == ["0 B", "999 B", "14.8 MB", "2.5 TB"]
    assert [duration(value) for value in (5.21, 119.6, 3599.9, 7265)] == [
        "5.2 s",
        "2 min 00 s",
        "1 h 00 min",
        "2 h 01 min",
    ]


_VISION = {  # Machado, Oliveira, Fernandes 2009, severity 1
    "all": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}


def _linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(linear, 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
