"""The step benchmark compares all contenders, and its tables and files are whole. No test looks at timings."""

from __future__ import annotations

from pathlib import Path

import pytest

import step_overhead
from sgp_core.algorithms import ALGORITHMS
from suite import turns
from suite.contenders import COMPUTE_ONLY, DDP, FLOOR, MEMORY, Entry, all_contenders, left_out
from suite.workers import in_workers
from tests.benchmarks.running import run_small, table_rows


def test_quick_run_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about, rows = run_small(step_overhead, "--quick", tmp_path, monkeypatch)
    said = capsys.readouterr().out
    names = [row["name"] for row in rows]
    assert names == list(all_contenders())
    assert [cells[0] for cells in table_rows(said)] == names
    assert {COMPUTE_ONLY, FLOOR, DDP, f"{DDP}, bf16 hook", "PeriodicModelAverager"} <= set(names)
    assert about["left_out"] == left_out()
    assert ("Decent-DP" in names) != ("Decent-DP is left out: not installed" in said)
    for row in rows:
        assert row["step_ms"] > 0
        assert row["cpu_ms"] > 0
        assert len(row["rounds"]["seconds"]) == len(row["rounds"]["cpu_seconds"]) == 2
        assert (row["communication_ms"] is None) == (row["name"] == COMPUTE_ONLY)
    size = 4 * rows[0]["parameters"]
    sent = {row["name"]: row["bytes_per_step"] for row in rows}
    first = next(name for name in names if name.startswith("sgp"))
    assert sent[COMPUTE_ONLY] == sent[MEMORY] == 0
    assert sent[FLOOR] == sent[DDP] == sent[first] == size  # n = 2: a ring AllReduce sends as much as one message
    assert sent[f"{DDP}, bf16 hook"] == size / 2


@pytest.mark.parametrize("name", sorted({"sgp", "osgp", "dpsgd", "allreduce", "local_sgd"} & set(ALGORITHMS.names())))
def test_algorithm_takes_part(name: str) -> None:
    assert any(contender.split(",")[0] == name for contender in all_contenders())


def test_ratios_are_taken_round_by_round() -> None:
    def series(*seconds: float) -> dict[str, object]:
        return {"seconds": seconds, "cpu_seconds": seconds, "bytes_per_step": 8.0, "memory_bytes": 40.0 * seconds[0]}

    found = {
        COMPUTE_ONLY: series(1, 10, 1),
        FLOOR: series(2, 12, 3),
        MEMORY: series(3, 11, 2),
        DDP: series(5, 18, 9),
        "sgp": series(4, 13, 3),
    }
    row = step_overhead.rows_of(8, "some", 10, found)[-1]  # type: ignore[arg-type]
    assert row["step_ms"] == 4000
    assert row["communication_ms"] == 3000  # of 3, 3, 2
    assert row["communication_vs_floor"] == 1.5  # of 3/1, 3/2, 2/2
    assert row["communication_vs_average"] == 2  # of 3/2, 3/1, 2/1
    assert row["communication_vs_ddp"] == 0.375  # of 3/4, 3/8, 2/8
    assert row["extra_memory"] == 3.0  # 160 less 40 bytes, in vectors of 10 floats


def test_everybody_is_in_a_batch_with_the_references() -> None:
    entries = {name: Entry(object, vectors=2.0) for name in "abcdefg"}  # type: ignore[arg-type]
    batches = turns.in_batches(entries, ["a", "b"], one_vector=1.0, room=9.5)
    assert [list(batch) for batch in batches] == [["a", "b", "c", "d"], ["a", "b", "e", "f"], ["a", "b", "g"]]
    assert len(turns.in_batches(entries, ["a", "b"], one_vector=1.0, room=100.0)) == 1
    assert len(turns.in_batches(entries, ["a", "b"], one_vector=1.0, room=0.0)) == 5


def two_steps_of_floor_and_sgp() -> list[float]:
    """In each of the workers: start differently, take steps without a gradient; return how far the two are apart."""
    import torch
    import torch.distributed as dist

    chosen = all_contenders()
    names = [FLOOR, next(name for name in chosen if name.startswith("sgp"))]
    models = [torch.nn.Linear(3, 2) for _ in names]
    contenders = [chosen[name].build(model) for name, model in zip(names, models, strict=True)]
    for model in models:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(float(dist.get_rank()))
    for _ in range(2):
        for contender in contenders:
            contender.step(lambda model: 0.0 * model(torch.ones(1, 3)).sum())
    return [float(parameter.detach().flatten()[0]) for model in models for parameter in model.parameters()]


def test_floor_is_the_same_exchange_as_gossip() -> None:
    assert in_workers(4, two_steps_of_floor_and_sgp) == [1.5, 1.5, 1.5, 1.5]


def one_fails() -> None:
    import torch.distributed as dist

    if dist.get_rank() == 1:
        raise ArithmeticError("nothing adds up")
    dist.barrier()


def test_failure_of_a_worker_is_told() -> None:
    with pytest.raises(RuntimeError, match="nothing adds up"):
        in_workers(2, one_fails)
