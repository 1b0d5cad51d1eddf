"""A reader can follow one synchronous step over messages through nine files; docs/architecture.md lists them."""

from __future__ import annotations

from tests.support.workers import run_workers
from tests.workers.step_path import files_of_a_step


def test_a_step_passes_through_nine_files() -> None:
    assert run_workers(2, files_of_a_step)[0] == [
        "algorithms/sgp.py",
        "distributed/exchange.py",
        "distributed/point_to_point.py",
        "runtime/network.py",
        "runtime/optimizer_hooks.py",
        "runtime/worker_network.py",
        "tensors/mixing.py",
        "transports/p2p/buffers.py",
        "transports/p2p/transport.py",
    ]
