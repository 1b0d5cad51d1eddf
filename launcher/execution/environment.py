"""The environment variables that started processes inherit, set for as long as it takes to start them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_PREFIXES_OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "PMI_", "PMIX_")
_SITE_VARIABLES = {"SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS"}
"""Variables that tell how to reach SLURM, and as which user."""


@contextlib.contextmanager
def set_variables(**values: str | None) -> Iterator[None]:
    """Set environment variables inside the ``with`` block; None removes one."""
    before = {name: os.environ.get(name) for name in values}
    _apply(values)
    try:
        yield
    finally:
        _apply(before)


@contextlib.contextmanager
def hide_allocation() -> Iterator[None]:
    """Hide the SLURM job that this process runs in: a job submitted from it would inherit its limits."""
    inside = "SLURM_JOB_ID" in os.environ
    ours = [name for name in os.environ if name.startswith(_PREFIXES_OF_A_JOB) and name not in _SITE_VARIABLES]
    with set_variables(**{name: None for name in ours if inside}):
        yield


def _apply(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
