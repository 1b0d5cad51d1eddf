"""When workers finish their steps if computation and waiting are all that takes time: a max-plus model.

With ``d[k][i]`` the computation of worker ``i`` in step ``k``, and ``t[k][i]`` the moment it has finished ``k``
steps, each way of communicating is one rule for ``t[k + 1]``. Messages themselves take no time, so this is a lower
bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sgp_core

Times = list[list[float]]
Model = Callable[[Sequence[Sequence[float]]], Times]
"""From ``d``, ``[steps][workers]`` in seconds, to ``t``, likewise, at the end of each step."""


def barrier(durations: Sequence[Sequence[float]]) -> Times:
    """All wait for all: AllReduce. ``t[k + 1][i] = max_j (t[k][j] + d[k][j])``."""
    times: Times = []
    now = 0.0
    for step in durations:
        now += max(step)
        times.append([now] * len(step))
    return times


def alone(durations: Sequence[Sequence[float]]) -> Times:
    """No worker waits: ``t[k + 1][i] = t[k][i] + d[k][i]``."""
    times: Times = []
    for step in durations:
        times.append([before + d for before, d in zip(times[-1] if times else [0.0] * len(step), step, strict=True)])
    return times


def gossip(overlap_steps: int = 0) -> Model:
    """One-peer exponential gossip in the order adapt then combine.

    It waits for messages ``overlap_steps`` steps old; 0 for those of this step. A message is exchanged once its sender
    has sent it and its receiver is there to take it (gloo has no mailbox), so worker ``i`` sends at
    ``s[k][i] = max(t[k][i] + d[k][i], s[k - tau][out])``, when the copy it reuses has left, and goes on at
    ``t[k + 1][i] = max(s[k][i], s[k - tau][in])``; with tau = 0, at ``max(s[k][i], s[k][in], s[k][out])``.
    """

    def model(durations: Sequence[Sequence[float]]) -> Times:
        n = len(durations[0])
        topology = sgp_core.build_topology("one_peer_exponential", world_size=n)
        times, sent = [[0.0] * n], list[list[float]]()
        for k, step in enumerate(durations):
            ready = [before + d for before, d in zip(times[-1], step, strict=True)]
            at = k - overlap_steps
            if at >= 0 and overlap_steps:
                outs = topology.edges(at).out_peers
                ready = [max([ready[i], *(sent[at][j] for j in outs[i])]) for i in range(n)]
            sent.append(ready)
            if at >= 0:
                peers = topology.edges(at).in_peers if overlap_steps else _both(topology, at)
                ready = [max([ready[i], *(sent[at][j] for j in peers[i])]) for i in range(n)]
            times.append(ready)
        return times[1:]

    return model


def gossip_ahead(durations: Sequence[Sequence[float]]) -> Times:
    """One-peer exponential gossip in the order adapt while communicate.

    The message of step ``k`` is posted when step ``k - 1`` ends, by its sender and by its receiver, and exchanged once
    both have. Worker ``i`` combines when its computation is over, its in-message is there and its out-message has left:
    ``t[k + 1][i] = max(t[k][i] + d[k][i], t[k][in], t[k][out])``, a whole computation of slack either way.
    """
    n = len(durations[0])
    topology = sgp_core.build_topology("one_peer_exponential", world_size=n)
    times = [[0.0] * n]
    for k, step in enumerate(durations):
        before, peers = times[-1], _both(topology, k)
        times.append([max([before[i] + step[i], *(before[j] for j in peers[i])]) for i in range(n)])
    return times[1:]


def _both(topology: sgp_core.Topology, step: int) -> list[tuple[int, ...]]:
    """Return each worker's in-peers and out-peers at a step."""
    edges = topology.edges(step)
    return [(*ins, *outs) for ins, outs in zip(edges.in_peers, edges.out_peers, strict=True)]
