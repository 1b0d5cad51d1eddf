"""When failures befall whom, the account of mass, and what the table says; the runs themselves take minutes."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import elastic_kills
from elastic_kills import Storm
from launcher.config.compose import compose
from launcher.config.make_plan import make_plans
from suite import failures, tables
from suite.mass import Account, mass_defect, read_accounts


def test_failures_are_spread_over_the_steps_and_the_last_can_still_be_mended() -> None:
    planned = elastic_kills.plan(8, 20, seed=1)
    shares = [failure.at_s for failure in planned]
    assert len(planned) == 20
    assert shares == sorted(shares)
    assert shares[0] > 0.02
    assert 0.8 < shares[-1] < 0.86
    assert Counter(failure.how for failure in planned) == {"kill": 10, "stop": 10}


def test_a_storm_waits_for_its_step_and_while_too_many_are_missing() -> None:
    victims = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    reports = {rank: {"status": "training", "pid": victim.pid} for rank, victim in enumerate(victims)}
    storm = Storm([failures.Failure(0.5, 1, "stop"), failures.Failure(0.6, 1, "kill")], 100, 3, away=1)
    try:
        storm.look(reports, 49)
        assert storm.died == {}
        storm.look({**reports, 2: {"status": "starting", "pid": victims[2].pid}}, 60)
        assert storm.died == {}  # one is missing already
        storm.look(reports, 60)
        storm.look(reports, 60)
        assert storm.died == {victims[1].pid: "stop"}  # the second waits until rank 1 has been replaced
        replaced = subprocess.Popen(["sleep", "60"])
        victims.append(replaced)
        storm.look({**reports, 1: {"status": "training", "pid": replaced.pid}}, 61)
        assert storm.died == {victims[1].pid: "stop", replaced.pid: "kill"}
        assert replaced.wait() == -9
    finally:
        for victim in victims:
            victim.kill()
            victim.wait()


def survivors() -> list[Account]:
    """Ranks 0 and 1 after rank 2 died: 0 gave it 0.5, 1 took 0.25 of it; 0 gave 1 another 0.3, and took 0.1."""
    return [
        Account(0, 1, 50, began=1.0, weight=0.3, peers={(2, 1): (0.5, 0.0), (1, 1): (0.3, 0.1)}),
        Account(1, 1, 50, began=1.0, weight=1.45, peers={(2, 1): (0.0, 0.25), (0, 1): (0.1, 0.3)}),
    ]


def test_mass_of_survivors_is_accounted_for_by_what_went_to_and_came_from_the_dead() -> None:
    assert mass_defect(survivors()) == pytest.approx(0.0, abs=1e-12)
    gone = Account(2, 1, 20, began=1.0, weight=0.9, peers={})
    assert mass_defect([*survivors(), gone]) == pytest.approx(0.0, abs=1e-12)
    assert mass_defect([]) is None


@pytest.mark.parametrize("wrong", [{"weight": 0.4}, {"peers": {(2, 1): (0.5, 0.0), (1, 1): (0.4, 0.2)}}])
def test_mass_that_does_not_come_out_is_found(wrong: dict[str, object]) -> None:
    first, second = survivors()
    assert mass_defect([replace(first, **wrong), second]) == pytest.approx(0.1)  # type: ignore[arg-type]


def test_accounts_are_read_with_the_life_of_their_process(tmp_path: Path) -> None:
    told = {"member": [0, 2], "step": 9, "began": 0.5, "weight": 0.75, "peers": [[1, 2, 0.5, 0.75]]}
    (tmp_path / "ledger-0-77.json").write_text(json.dumps(told))
    assert read_accounts(tmp_path) == [Account(0, 2, 9, 0.5, 0.75, {(1, 2): (0.5, 0.75)})]


def test_what_files_say_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "it" / "logs" / "attempt-1").mkdir(parents=True)
    for name, ends in {
        "0-10": [(1.0, 1), (2.0, 2), (6.0, 3), (7.0, 4)],
        "1-11": [(1.0, 1), (2.0, 2)],
        "1-12": [(6.5, 3), (7.0, 4)],
    }.items():
        (tmp_path / f"pulse-{name}.jsonl").write_text("".join(f"[{at}, {step}]\n" for at, step in ends))
    storm = Storm([], 4, 2, away=1)
    storm.died[11] = "kill"
    found = elastic_kills.look_back(tmp_path, tmp_path / "runs" / "it", storm)
    assert found == {
        "failures": 1,
        "killed": 1,
        "not_inflicted": 0,
        "joined": 1,
        "restarts": 0,
        "longest_pause_s": 4.0,
        "step_s": 1.0,
        "mass_defect": None,
    }
    row = {"workload": "digits", "seed": 0, "disturbed": True, "accuracy": 0.96, **found}
    rows = elastic_kills.rows_of([{**row, "disturbed": False, "accuracy": 0.97}, row])
    assert tables.elastic_kills(rows).splitlines()[2] == (
        "| digits | 0 | 1 + 0 | 1 | 0 | 96.00 | 97.00 | -1.00 | 4.0 | 1.00 | - |"
    )


@pytest.mark.parametrize("workload", elastic_kills.WORKLOADS)
def test_words_of_a_run(workload: str, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "train" / name / "1.png")
    options = elastic_kills.options_parser().parse_args(["--images", str(tmp_path), "--steps", "70"])
    words = elastic_kills.line(workload, 2, options, tmp_path)
    assert {"cluster.elastic=true", "cluster.workers_per_node=8", "training.max_steps=70", "seed=2"} <= set(words)
    known = [word for word in words if not word.startswith(("plugins=", "callbacks=", "cluster.elastic="))]
    assert make_plans(compose(known))[0].experiment.training.max_steps == 70
