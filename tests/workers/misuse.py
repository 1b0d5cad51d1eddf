"""What real workers do in test_misuse.py: what DistributedDataParallel forgives, and Gossip cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sgp_core import Gossip
from sgp_core.errors import ConfigurationError


def attach(model: nn.Module, **options: Any) -> Gossip:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Gossip(model, optimizer, **{"algorithm": "sgp", "topology": "ring", **options})


def step(model: nn.Module, gossip: Gossip) -> None:
    model(torch.ones(1, 3)).sum().backward()
    gossip.optimizer.step()  # type: ignore[union-attr]


def wrapped() -> None:
    attach(DistributedDataParallel(nn.Linear(3, 2)))


def wrapped_inside() -> None:
    attach(nn.Sequential(nn.Linear(3, 3), DistributedDataParallel(nn.Linear(3, 2))))


def wrapped_later() -> None:
    model = nn.Linear(3, 2)
    gossip = attach(model)
    step(DistributedDataParallel(model), gossip)


def other_rules() -> None:
    attach(nn.Linear(3, 2), algorithm="sgp" if dist.get_rank() else "dpsgd")


def other_graphs() -> None:
    attach(nn.Linear(3, 2), topology="ring" if dist.get_rank() else "complete")


def other_codecs() -> None:
    attach(nn.Linear(3, 2), compression="int8" if dist.get_rank() == 1 else None)


CASES: tuple[Callable[[], None], ...] = (
    wrapped,
    wrapped_inside,
    wrapped_later,
    other_rules,
    other_graphs,
    other_codecs,
)


def everything() -> dict[str, str]:
    """Return what each case says, and how a Gossip describes itself."""
    said = {}
    for case in CASES:
        try:
            case()
        except ConfigurationError as error:
            said[case.__name__] = str(error)
        dist.barrier()
    rank = dist.get_rank()
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    try:
        attach(nn.Linear(3, 2), process_group=groups[0])
    except ConfigurationError as error:
        said["outside"] = str(error)
    model = nn.Linear(3, 2)  # nodes may average gradients inside, and gossip with others of their place
    local = dist.new_group([0, 1]), dist.new_group([2, 3])
    across = dist.new_group([0, 2]), dist.new_group([1, 3])
    node = DistributedDataParallel(model, process_group=local[rank // 2])
    gossip = attach(model, process_group=across[rank % 2], transport="p2p", compression="int8", pace=1)
    step(node, gossip)
    said["repr"] = repr(gossip)
    gossip.close()
    return said


def scaled() -> list[str]:
    """Return the warnings of a loop with a plain scaler."""
    import warnings

    model = nn.Linear(3, 2)
    gossip = attach(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            scaler.scale(model(torch.ones(1, 3)).sum()).backward()
            scaler.step(gossip.optimizer)  # type: ignore[arg-type]
            scaler.update()
    gossip.close()
    return [str(warning.message) for warning in caught if "GradScaler" in str(warning.message)]


def in_one_group() -> tuple[dict[str, str], list[str]]:
    return everything(), scaled()
