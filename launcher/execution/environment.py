"""The environment that started processes inherit, for as long as it takes to start them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "PMI_", "PMIX_")
_OF_A_SITE = {"SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS"}
"""How to reach SLURM, and as whom."""


@contextlib.contextmanager
def changed(**values: str | None) -> Iterator[None]:
    """Set variables (None: remove them) for processes started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    _apply(values)
    try:
        yield
    finally:
        _apply(before)


@contextlib.contextmanager
def outside_allocation() -> Iterator[None]:
    """Hide the SLURM job this process itself runs in, whose limits would otherwise be those of jobs it submits."""
    inside = "SLURM_JOB_ID" in os.environ
    ours = [name for name in os.environ if name.startswith(_OF_A_JOB) and name not in _OF_A_SITE]
    with changed(**{name: None for name in ours if inside}):
        yield


def _apply(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
