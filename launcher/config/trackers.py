"""The choices of ``tracker``, of which a run may have several: ``tracker=[wandb,tensorboard]``.

Hydra merges the files of a list into one section. So an option that several trackers have, such as
``tracker.project``, is set for all of them at once, and has the same default in each.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from launcher.config.choice import Choice, NoOptions
from sgp_core.bounds import between
from sgp_core.errors import ConfigurationError
from sgp_core.training.config import NOTHING

_PROJECT = "stochastic-gradient-push"
_PASSWORD = re.compile(r"//[^/\s]*@|(?i:token|key|secret|password)=")


class WandbMode(StrEnum):
    """How W&B records a run."""

    online = "online"
    offline = "offline"
    disabled = "disabled"


@dataclass(frozen=True)
class TrackerOptions(Choice):
    """Options of every tracker."""

    package: ClassVar[str | None] = None
    """What has to be installed besides; it is also the name of the extra that installs it. None: nothing."""
    finish_timeout_s: float = field(default=15.0, metadata=between(1, 60))


@dataclass(frozen=True)
class WandbOptions(TrackerOptions):
    """Mirror metrics to Weights & Biases."""

    name: ClassVar[str] = "wandb"
    mode: WandbMode | None = None
    project: str = _PROJECT
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    per_rank: bool = False
    artifact: bool = False


@dataclass(frozen=True)
class TensorBoardOptions(TrackerOptions):
    """Mirror metrics to an event file for TensorBoard."""

    name: ClassVar[str] = "tensorboard"
    package: ClassVar[str | None] = "tensorboard"


@dataclass(frozen=True)
class MlflowOptions(TrackerOptions):
    """Mirror metrics to MLflow."""

    name: ClassVar[str] = "mlflow"
    package: ClassVar[str | None] = "mlflow"
    uri: str | None = None
    project: str = _PROJECT
    notes: str | None = None

    def __post_init__(self) -> None:
        if self.uri is not None and _PASSWORD.search(self.uri):
            raise ConfigurationError(
                "tracker.uri would be recorded with its password; leave it out, and set MLFLOW_TRACKING_USERNAME and"
                " MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            )


def check_names(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a list of trackers that are not several different ones.

    Raises:
        ConfigurationError: a name stands twice, is that of no tracker, or means that there is none.
    """
    written = f"tracker=[{','.join(names)}]"
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{written}: each tracker can be named once")
    if NOTHING in names:
        raise ConfigurationError(f"{written}: '{NOTHING}' stands alone, as in tracker={NOTHING}")
    for name in names:
        if name not in known:  # a settings file of a user's: which tracker it is for, its options do not tell
            raise ConfigurationError(f"{written}: a list is of {', '.join(n for n in known if n != NOTHING)}")


def check_installed(trackers: Sequence[Choice]) -> None:
    """Refuse trackers whose packages are not installed.

    Raises:
        ConfigurationError: with the command that installs what is missing.
    """
    for tracker in trackers:
        package = getattr(tracker, "package", None)
        if package is not None and importlib.util.find_spec(package) is None:
            raise ConfigurationError(
                f"tracker={tracker.name} needs {package}: pip install 'stochastic-gradient-push[{package}]'"
            )


def spec_of_trackers(trackers: Sequence[Choice]) -> dict[str, Any] | list[dict[str, Any]]:
    """Return what ``spec.json`` has of the trackers: the one there is, or a list of several."""
    if len(trackers) > 1:
        return [tracker.to_dict() for tracker in trackers]
    return (trackers[0] if trackers else NoOptions()).to_dict()


def trackers_in_spec(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the trackers that a ``spec.json`` has, each with its name and options; none of a damaged one."""
    found = spec.get("tracker")
    listed = found if isinstance(found, list) else [found]
    return [one for one in listed if isinstance(one, Mapping) and one.get("name") not in (None, NOTHING)]


def tracker_in_spec(spec: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return the options of one tracker, with its name; None if the run does not have it."""
    return next((one for one in trackers_in_spec(spec) if one["name"] == name), None)
