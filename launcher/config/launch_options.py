"""Settings of a whole command, which are no part of any run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from launcher.config.choice import option_fields
from launcher.config.coerce import coerce_launcher_choice, coerce_settings
from launcher.config.compose import Point
from launcher.config.schema import SearchOptions
from sgp_core.errors import ConfigurationError
from sgp_core.registry import NOT_AN_OPTION


class Rerun(StrEnum):
    """Which runs are started again that have been started before."""

    failed = "failed"
    all = "all"


@dataclass(frozen=True)
class LaunchOptions:
    """Settings of a whole command, which are no part of any run."""

    dry_run: bool = False
    snapshot: bool = False
    rerun: Rerun | None = None
    search: SearchOptions | None = field(default=None, metadata=NOT_AN_OPTION)


def launch_options(points: Sequence[Point]) -> LaunchOptions:
    """Return the settings that hold for the whole command.

    Raises:
        ConfigurationError: a value of the wrong type, or a sweep over such a setting.
    """
    known = command_settings()
    chosen = [{key: point.settings[key] for key in known if key in point.settings} for point in points]
    for key in known:
        if len({str(given.get(key)) for given in chosen}) > 1:
            raise ConfigurationError(f"{key} holds for the whole command and cannot be swept over")
    search = coerce_launcher_choice("search", chosen[0].pop("search", None))
    options = coerce_settings("", chosen[0], LaunchOptions)
    return dataclasses.replace(options, search=search if isinstance(search, SearchOptions) else None)


def command_settings() -> set[str]:
    """Return the names of the settings that belong to the command, not to a run."""
    return {*option_fields(LaunchOptions), "search"}
