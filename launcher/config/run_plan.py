"""A plan: everything one run needs, as checked plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgp_core.errors import ConfigurationError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RunPlan:
    """One run, ready to start. Everything in it is plain data, so it can be written down and read elsewhere."""

    run_id: str
    """The first hex digits of the hash of what defines the experiment, never of where it runs or logs."""
    name: str
    experiment: dict[str, Any]
    evaluation: dict[str, Any]
    checkpoint: dict[str, Any]
    log_every: int
    tracker: dict[str, Any]
    cluster: dict[str, Any]
    debug: dict[str, Any]
    run_dir: Path
    loader: dict[str, Any] = dataclasses.field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    """What the user wrote for this run."""
    sweep: str | None = None
    """The sweep it was started in."""
    snapshot: str | None = None
    """Folder its code is imported from; None: where it is installed."""

    @property
    def world_size(self) -> int:
        """Number of workers."""
        return int(self.experiment["world_size"])

    def spec(self) -> dict[str, Any]:
        """Return the content of ``spec.json``, less provenance."""
        plan = dataclasses.asdict(self)
        return {
            "schema_version": SCHEMA_VERSION,
            **plan,
            "run_dir": str(self.run_dir),
            "overrides": list(self.overrides),
        }


def plan_of_spec(spec: Mapping[str, Any]) -> RunPlan:
    """Return the plan that ``spec.json`` records.

    Raises:
        ConfigurationError: it is none, or of another version.
    """
    if spec.get("schema_version") != SCHEMA_VERSION:
        raise ConfigurationError(f"spec.json is of version {spec.get('schema_version')}, not {SCHEMA_VERSION}")
    given = {field.name: spec[field.name] for field in dataclasses.fields(RunPlan) if field.name in spec}
    try:
        return RunPlan(**{**given, "run_dir": Path(given["run_dir"]), "overrides": tuple(given["overrides"])})
    except (KeyError, TypeError) as missing:
        raise ConfigurationError(f"spec.json is incomplete: {missing}") from None
