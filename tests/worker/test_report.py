"""What a worker records of the error that ended it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from launcher.worker.report import describe_error
from sgp_core.errors import ConfigurationError, Deadlock, PeerLost


def test_a_lost_peer_is_recorded_by_its_type_wherever_it_is_in_the_chain() -> None:
    lost = PeerLost("it has ended", rank=2, peers=[0, 1], step=7)
    recorded = {"rank": 2, "peers": [0, 1], "step": 7}
    assert describe_error(lost, 2)["peer_lost"] == recorded
    outer = RuntimeError("the evaluation failed")
    outer.__cause__ = lost
    assert describe_error(outer, 2)["peer_lost"] == recorded


def test_an_error_of_torch_distributed_is_a_lost_peer(tmp_path: Path) -> None:
    store = dist.FileStore(str(tmp_path / "store"), 2)
    with pytest.raises(RuntimeError) as raised:
        dist.init_process_group("gloo", store=store, rank=1, world_size=2, timeout=timedelta(milliseconds=50))
    assert describe_error(raised.value, 3)["peer_lost"] == {"rank": 3, "peers": [], "step": None}


def test_a_deadlock_is_a_cause_although_a_connection_was_given_up_to_end_it() -> None:
    deadlock = Deadlock("rank 0 waits in averaged() after 5 steps, rank 1 in step 5")
    deadlock.__context__ = PeerLost("connection closed by peer", rank=0, peers=[1], step=5)
    deadlock.__suppress_context__ = True  # raised from None
    described = describe_error(deadlock, 0)
    assert described["peer_lost"] is None
    assert described["type"] == "Deadlock"


@pytest.mark.parametrize("error", [ConfigurationError("connection reset by peer"), ValueError("timed out")])
def test_any_other_error_is_the_workers_own(error: Exception) -> None:
    described = describe_error(error, 0)
    assert described["peer_lost"] is None
    assert (described["type"], described["message"]) == (type(error).__name__, str(error))
    assert described["user_mistake"] is isinstance(error, ConfigurationError)
