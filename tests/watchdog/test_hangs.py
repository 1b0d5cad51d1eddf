"""A worker that stalls or is stopped at a random place, over all transports and algorithms: who, where, and in time.

``SGP_HANG_CASES=20`` runs as many as are to be shown, ``SGP_HANG_SEED`` others.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.workers import run_workers
from tests.workers.hangs import PATIENCE_S, PHASES, WORKERS, findings, make_case, struck_at, train

CASES = int(os.environ.get("SGP_HANG_CASES", 2))
SEED = int(os.environ.get("SGP_HANG_SEED", 0))


@pytest.mark.parametrize("number", range(CASES))
def test_the_missing_worker_and_what_it_did_are_named(number: int, tmp_path: Path) -> None:
    case = make_case(number, SEED)
    run_workers(WORKERS, train, case, tmp_path, killed=range(WORKERS))
    found_by = findings(tmp_path)
    assert {*range(WORKERS)} - {case.rank} <= found_by.keys()
    late = case.at == "end"  # data are loaded for the next step
    for found in found_by.values():
        assert (found.peers, found.phase) == ((case.rank,), PHASES[case.at]), (case, found)
        if case.at in ("evaluation", "checkpoint"):
            assert found.step == -(-case.step // 5) * 5, (case, found)
        else:
            assert found.step == case.step + late, (case, found)
    soonest = min(found.time for found in found_by.values()) - struck_at(tmp_path)
    print(case.phrase, case.algorithm, case.transport, next(iter(found_by.values())).text, f"{soonest:.1f} s")
    for rank in range(WORKERS):
        stacks = (tmp_path / f"stacks-rank-{rank}.txt").read_text()
        assert "most recent call first" in stacks, (case, rank)
    assert soonest < 100 * PATIENCE_S  # the machine may be busy: only a hang takes so long
