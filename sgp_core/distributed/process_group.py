"""Process groups: their time-outs, their subgroups, and small objects gathered from all their members."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

_UNUSED_TAG = 1


def group_timeout(group: dist.ProcessGroup | None, device: torch.device | str = "cpu") -> timedelta:
    """Return how long the members of a group wait for each other.

    Args:
        group: the process group, None for the default one.
        device: selects the group's backend.
    """
    timeout: timedelta = _or_default(group)._get_backend(torch.device(device)).options._timeout
    return timeout


def make_subgroup(ranks: list[int], parent: dist.ProcessGroup | None, device: torch.device) -> dist.ProcessGroup:
    """Make a process group of some members of ``parent``, with the same time-out. Collective over these members only.

    Args:
        ranks: their global ranks.
        parent: None for the default group.
        device: where the tensors are that it is to carry.
    """
    timeout = group_timeout(parent, device)  # the default of a new group is half an hour
    group = dist.new_group(ranks, timeout=timeout, use_local_synchronization=True)
    assert isinstance(group, dist.ProcessGroup)
    return group


def gather_objects(value: Any, group: dist.ProcessGroup | None) -> list[Any]:
    """Return the ``value`` of every member, by rank. Collective; without torch.distributed, a world of one."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(values, value, group)
    return values


def broadcast_object(value: Any, group: dist.ProcessGroup | None) -> Any:
    """Return rank 0's ``value`` (anything picklable). Collective; without torch.distributed, a world of one."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, group=group, group_src=0)
    return box[0]


def break_connections(group: dist.ProcessGroup | None) -> None:
    """Let all that waits for messages of a group fail, here and on other workers. The group is of no use any more."""
    group = _or_default(group)
    for device in group._device_types:
        backend = group._get_backend(device)
        with suppress(RuntimeError):
            if isinstance(backend, dist.ProcessGroupGloo):
                disconnect_gloo(backend, (group.rank() + 1) % group.size())
            else:
                backend.abort()


def disconnect_gloo(backend: dist.ProcessGroupGloo, peer: int) -> None:
    """Close the connections of a gloo group, by a wait that runs out. Peers notice."""
    with suppress(RuntimeError):
        work = backend.recv([torch.zeros(1)], peer, _UNUSED_TAG)  # type: ignore[attr-defined]
        work.wait(timedelta(milliseconds=1))


def _or_default(group: dist.ProcessGroup | None) -> dist.ProcessGroup:
    return dist.distributed_c10d._get_default_group() if group is None else group
