"""What the soak says of growth, and what it sees of processes and files; the loads themselves run in `make soak`."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

import soak
from suite import acts, tables, usage
from suite.growth import Limit, Sample, judge, noise, slope
from suite.launches import Launches, Unexpected
from tests.docs.pages import ROOT

LIMIT = Limit(slope=0.2, least=8.0)


def series(at: int, by: float, noise: float = 0.0, warm: float = 0.0) -> list[Sample]:
    source = random.Random(0)
    return [(k, 100 + by * k + source.uniform(-noise, noise) + (warm if k > 5 else 0.0)) for k in range(at)]


def test_slope_is_the_median_of_pairs_so_that_an_outlier_changes_nothing() -> None:
    samples = series(30, 0.5)
    samples[17] = (17, 10_000.0)
    assert slope(samples) == pytest.approx(0.5)
    assert slope([(3.0, 1.0), (3.0, 2.0)]) == 0.0  # no unit has passed


@pytest.mark.parametrize(
    ("samples", "grows"),
    [
        (series(90, 0.5), True),
        (series(90, 0.1), False),  # below the limit
        (series(90, 0.0, noise=3.0), False),
        (series(90, 0.0, warm=500.0), False),  # the warm-up
        (series(12, 0.5), False),  # steep, but too little in all to say
        (series(90, -1.0), False),
    ],
)
def test_growth_is_steeper_than_the_limit_and_more_than_nothing_in_all(samples: list[Sample], grows: bool) -> None:
    row = judge(samples, LIMIT)
    assert row is not None
    assert row["grows"] is grows


def test_slope_within_the_noise_of_its_samples_is_no_growth() -> None:
    wild = [(k, 100.0 * (k * 7 % 10)) for k in range(90)]  # the same ten values again and again
    assert noise(wild, slope(wild)) > 5.0
    row = judge([(k, value + k) for k, value in wild], LIMIT)
    assert row is not None
    assert not row["grows"]
    calm = judge([(k, value / 1000 + k) for k, value in wild], LIMIT)
    assert calm is not None
    assert calm["grows"]
    assert calm["noise"] < 0.02


def test_first_half_is_a_warm_up() -> None:
    assert judge([(k, min(k, 50)) for k in range(100)], Limit(0.1, 1.0))["grows"] is False  # type: ignore[index]


def test_short_series_say_nothing() -> None:
    assert judge([], LIMIT) is None
    assert judge(series(4, 1.0), LIMIT) is None
    young = [(k / 30, 100.0 * k) for k in range(50)]  # a process that has lived for less than two minutes
    assert judge(young, replace(LIMIT, warm_up=1.0)) is None
    assert judge([(2 * at, value) for at, value in young], replace(LIMIT, warm_up=1.0)) is not None


def test_one_thing_left_by_each_act_grows() -> None:
    row = judge([(k, k) for k in range(6)], soak.AN_ACT["processes left"])
    assert row is not None
    assert row["grows"]


def test_marked_processes_are_found_by_role_and_part_and_measured(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    child = "import subprocess, sys; subprocess.run(['sleep', '60'], env={'M': sys.argv[1], 'R': 'it', **RANK})"
    code = child.replace("RANK", "{'SUBMITIT_LOCAL_GLOBALID': '3'}")
    started = subprocess.Popen([sys.executable, "-c", code, mark], env={"M": mark, "R": "it"})
    try:
        found: list[usage.Found] = []
        while len(found) < 2:
            found = usage.find_marked(mark, ("M", "R"))
        assert {(process.role, process.part) for process in found} == {("it", "launcher"), ("it", "worker 3")}
        held = usage.measure(started.pid)
        assert held is not None
        assert held.rss >= held.pss > 0
        assert held.rss >= held.anonymous > 0
        assert held.descriptors >= 3
        assert held.threads == 1
    finally:
        for process in usage.find_marked(mark, ("M", "R")):
            subprocess.run(["kill", "-9", str(process.pid)], check=False)
        started.wait()
    assert usage.find_marked(mark, ("M", "R")) == []
    assert usage.measure(started.pid) is None


def test_files_are_counted_with_the_bytes_they_take(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(b"x" * 5000)
    (tmp_path / "link").symlink_to("nowhere")
    entries, taken = usage.count_files(tmp_path)
    assert entries == 3
    assert taken >= 5000


def test_commands_are_killed_with_what_they_started_and_an_unexpected_end_is_told(tmp_path: Path) -> None:
    launches = Launches(tmp_path)
    wrong = launches.start("it", ["no_such_setting=1"])
    with pytest.raises(Unexpected, match="no_such_setting"):
        wrong.finish()
    assert wrong.finish(codes=(2,)) == 2
    living = launches.start("it", ["--help"])
    living.process.send_signal(signal.SIGSTOP)
    assert [process.part for process in launches.processes("it")] == ["launcher"]
    launches.kill()
    assert launches.processes() == []


def test_act_that_goes_wrong_is_noted_and_cleared_away_and_the_next_one_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(act: acts.Act) -> None:
        """It leaves a process and a file."""
        act.runs.mkdir()
        act.launches.start(acts.ROLE, ["--help"]).process.send_signal(signal.SIGSTOP)
        raise Unexpected("it hangs")

    monkeypatch.setattr(acts, "ACTS", {"hang": hang, "rest": lambda act: None})
    under_test = soak.Soak(tmp_path, 1.0, 5.0, 0, own_shm=False)
    under_test.attempt(0, "hang")
    assert under_test.wrong == ["act 0, hang: it hangs"]
    assert under_test.launches.processes() == []
    assert not under_test.runs[acts.ROLE].exists()
    under_test.attempt(1, "rest")
    assert under_test.performed == ["rest"]


def test_table_has_a_line_for_each_figure() -> None:
    row = {"of": "long run", "part": "worker 0", "figure": "rss", "unit": "minute"}
    row |= judge([(k, 5e6 * k) for k in range(9)], Limit(2e5, 8e6)) or {}
    assert tables.soak([row]).splitlines()[2] == (
        "| long run | worker 0 | rss | 20.00 MB | 40.00 MB | 40.00 MB | 5.00 ± 0.00 MB a minute | 0.20 MB | **grows** |"
    )


def test_verdict_of_each_kind_names_what_grows_most_or_else_comes_closest_to_its_limit() -> None:
    def row(part: str, figure: str, by: float, limit: Limit) -> tables.Row:
        known = {"of": "long run", "part": part, "figure": figure, "unit": "minute"}
        return {**known, **(judge([(k, by * k) for k in range(99)], limit) or {})}

    memory = Limit(2e5, 8e6)
    rows = [row("worker 0", "rss", 1e5, memory), row("worker 1", "rss", 1.5e5, memory)]
    rows += [row("wandb-core", "rss", 9e9, Limit(float("inf"), 0.0)), row("worker 0", "threads", 1.0, Limit(0.1, 3))]
    kinds = {"memory": ("rss",), "threads": ("threads",), "disk": ("disk",)}
    assert tables.soak_verdicts(rows, kinds) == [
        "memory: no growth in 2 figures; at most 0.15 ± 0.00 MB a minute (long run, worker 1, rss)",
        "threads: 1 of 1 figures grow; at most 1 ± 0 a minute (long run, worker 0, threads)",
        "disk: too short to say",
    ]


def test_every_act_is_said_in_the_program_s_own_words_and_make_has_a_target() -> None:
    assert all(act.__doc__ for act in acts.ACTS.values())
    kinds = {figure for figures in soak.KINDS.values() for figure in figures}
    assert {*soak.A_MINUTE, *soak.AN_ACT, "disk"} - kinds == {"pss"}
    assert "benchmarks/soak.py --minutes $(SOAK_MINUTES)" in (ROOT / "Makefile").read_text()
