"""All measurements, one after another, in under a minute."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict
from typing import Any

import torch

from sgp_core.calibration.computing import measure_computation
from sgp_core.calibration.exchanges import Places, measure_exchanges, measure_lone_pair
from sgp_core.calibration.fit import as_mbit, as_ms, fit_line, network_options
from sgp_core.calibration.pairs import measure_pairs
from sgp_core.calibration.slow_links import links_that_differ
from sgp_core.training.config import Experiment
from sgp_core.training.peers import Peers

_LONE_BYTES = 1 << 22
_OF_EXCHANGES, _OF_PAIRS, _OF_STEPS = 0.4, 0.2, 0.3
"""Shares of the time."""


def calibrate(
    experiment: Experiment, device: torch.device, per_host: int, transport: str = "auto", seconds: float = 40.0
) -> dict[str, Any]:
    """Measure exchanges among the workers and the computation of ``experiment``. Collective: all workers call it.

    Args:
        experiment: what computes; its algorithm does not matter.
        device: of this worker.
        per_host: workers of each host, consecutive ranks.
        transport: as in :class:`sgp_core.Gossip`.
        seconds: how long it may take, about.

    Returns:
        Plain data: ``network`` and ``computation``, options that the virtual clock reads, and ``measured``.

    Raises:
        ConfigurationError: the experiment cannot be assembled.
    """
    began, peers = time.perf_counter(), Peers(device)
    places = Places(peers.world_size, per_host)
    of_exchanges = _OF_EXCHANGES + (_OF_PAIRS if places.hosts == 1 else 0.0)
    timings = measure_exchanges(peers, device, places, transport, of_exchanges * seconds)
    reaches = measure_pairs(peers, device, places, _OF_PAIRS * seconds) if places.hosts > 1 else []
    lone = None
    if places.per_host > 1:
        lone = _LONE_BYTES, measure_lone_pair(peers, device, _LONE_BYTES)
    rates = [fit_line(timings[kind]).rate for kind in ("across", "inside") if timings.get(kind)]
    steps = measure_computation(experiment, peers, device, rates[0] if rates else None, _OF_STEPS * seconds)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy_speed = 1.0 if steps.busy is None else steps.together / steps.busy
    fitted = network_options(timings, peers.world_size, per_host, cores, lone, busy_speed)
    return {
        "network": links_that_differ(reaches, fitted),
        "computation": {"name": "constant", "step_ms": float(f"{steps.together * 1e3:.4g}")},
        "measured": {
            "workers": peers.world_size,
            "workers_per_host": per_host,
            "transport": transport,
            "device": device.type,
            "exchanges": {kind: [list(pair) for pair in pairs] for kind, pairs in timings.items()},
            "hosts": _names_of_hosts(places),
            "pairs": [[one.sender, one.receiver, as_mbit(one.rate), as_ms(one.delay)] for one in reaches],
            "lone_pair": None if lone is None else list(lone),
            "computation_s": asdict(steps),
            "took_s": round(time.perf_counter() - began, 2),
        },
    }


def _names_of_hosts(places: Places) -> list[str]:
    import torch.distributed as dist

    mine = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    names = [mine] * places.workers
    if places.workers > 1:
        dist.all_gather_object(names, mine)
    return names[:: places.per_host]
