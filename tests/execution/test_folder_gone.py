"""A run folder that is removed or renamed under a live run: noticed, and never are two runs in one folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from tests.support.launched import Launched

ENDLESS = ("training.epochs=100000", "evaluation.every_epochs=0", "checkpoint.every_epochs=0", "log_every=2")


@pytest.mark.parametrize("what", ["removed", "replaced"])
def test_the_run_ends_and_writes_nothing_to_what_is_in_its_place(
    launch: Callable[..., Launched],
    what: str,
) -> None:
    launched = launch("cluster.workers_per_node=2", "tracker=none", *ENDLESS)
    run = launched.until_training(2)
    if what == "removed":
        shutil.rmtree(run.rename(run.with_name("gone")))
    else:
        run.rename(run.with_name("moved"))
        run.mkdir()
    said = launched.finish()
    assert said.code == 1
    assert f"the folder was removed, renamed or replaced while a run wrote to it: {run}" in said.err
    assert "Traceback" not in said.err
    assert launched.left() == []
    assert [path for path in run.rglob("*") if path.is_file()] == []
