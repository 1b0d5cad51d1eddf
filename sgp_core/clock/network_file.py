"""A network from a file, such as ``sgp calibrate`` writes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import read_file
from sgp_core.clock.network import NETWORKS, NetworkChoice, NetworkModel
from sgp_core.errors import ConfigurationError
from sgp_core.registry import NOT_AN_OPTION


@NETWORKS.register("file")
@dataclass(frozen=True)
class NetworkFile(NetworkChoice):
    """The network whose options stand in a JSON file, under ``network`` if there is more in it.

    Args:
        path: of the file.
        content: those options; read from ``path`` if absent.
    """

    path: str | None = None
    content: dict[str, Any] | None = field(default=None, metadata=NOT_AN_OPTION)

    def __post_init__(self) -> None:
        if self.content is None:
            object.__setattr__(self, "content", read_network_file(self.path))
        self.model()

    def model(self) -> NetworkModel:
        """Return the network.

        Raises:
            ConfigurationError: the file has an option that no network has, or a value out of range.
        """
        try:
            return NetworkModel.from_options(self.content or {})
        except ConfigurationError as error:
            raise ConfigurationError(f"network.path={self.path}: {error}") from None


def read_network_file(path: str | None) -> dict[str, Any]:
    """Return the options of the network in a file.

    Raises:
        ConfigurationError: there is no such file, or it is no network.
    """
    if path is None:
        raise ConfigurationError("network.path must be given: a file that sgp calibrate has written")
    try:
        content = json.loads(read_file(Path(path).expanduser()))
    except OSError as error:
        raise ConfigurationError(f"network.path={path} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise ConfigurationError(f"network.path={path} is not JSON; sgp calibrate writes such a file") from None
    options = content.get("network", content) if isinstance(content, dict) else None
    if not isinstance(options, dict):
        raise ConfigurationError(f"network.path={path} holds no network; sgp calibrate writes such a file")
    return options
