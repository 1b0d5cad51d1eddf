"""What a plan is computed from: the experiment, its model's size, the network and the computation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.config.compose import compose
from launcher.config.make_plan import make_plan
from launcher.config.run_plan import RunPlan
from sgp_core.clock import COMPUTATIONS, NETWORKS, ComputationModel, NetworkModel
from sgp_core.errors import ConfigurationError, did_you_mean

CALIBRATION = Path("calibration.json")
"""What ``sgp calibrate`` writes, and what a plan reads if nothing else is named."""
USUAL_NETWORK = "ethernet_10g"
USUAL_TFLOPS = 10.0
"""What a device computes a second where nothing is known of it."""


def compose_plan(words: Sequence[str]) -> RunPlan:
    """Return the checked plan of one run, whose data need not be there.

    Raises:
        ConfigurationError: the words are wrong, or ask for a sweep.
    """
    points = compose(words)
    if len(points) != 1:
        raise ConfigurationError("a plan is of one experiment; name one value for each setting")
    return make_plan(points[0], needs_data=False)


def experiment_words(words: Sequence[str]) -> list[str]:
    """Return words of ``sgp-train``: a first one without ``=`` is the name of an experiment."""
    first, *others = words
    if "=" in first:
        return list(words)
    return [*([] if first == "default" else [f"experiment={first}"]), *others]


def read_network(named: str) -> tuple[NetworkModel, str]:
    """Return the network of a name, or of a file that ``sgp calibrate`` or a user has written, and what it is called.

    Raises:
        ConfigurationError: there is neither, or the file is not what it should be.
    """
    if named in NETWORKS.names():
        return NetworkModel.from_options({"name": named}), named
    content = read_settings(named, "--network", NETWORKS.names())
    return NetworkModel.from_options(content.get("network", content)), named


def read_computation(named: str) -> tuple[ComputationModel, str]:
    """Return the computation that a file describes, or that a run has recorded with ``debug=timeline``.

    Raises:
        ConfigurationError: the file or the run's records are not there or not what they should be.
    """
    if Path(named).is_dir():
        return ComputationModel.from_options({"name": "trace", "path": named}), f"recorded in {named}"
    content = read_settings(named, "--computation", [])
    chosen = content.get("computation", content)
    if not isinstance(chosen, Mapping) or chosen.get("name") not in COMPUTATIONS.names():
        raise ConfigurationError(f"{named} has no computation; sgp calibrate writes one")
    return ComputationModel.from_options(chosen), f"of {named}"


def read_settings(named: str, option: str, names: Sequence[str]) -> dict[str, Any]:
    """Return the content of a JSON or YAML file.

    Raises:
        ConfigurationError: there is no such file, or it holds no settings.
    """
    path = Path(named).expanduser()
    if not path.is_file():
        known = (
            f"; known: {', '.join(names)}" if names and not did_you_mean(named, names) else did_you_mean(named, names)
        )
        raise ConfigurationError(f"{option} {named}: no such file{' or network' if names else ''}{known}")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except Exception as error:  # YAML's own errors are many
        raise ConfigurationError(f"{option} {named}: it cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{option} {named}: it holds no settings")
    return content


def of_hosts(network: NetworkModel, plan: RunPlan) -> NetworkModel:
    """Return the network with as many workers on a host as the cluster has on a node, unless it says how many."""
    cluster = plan.cluster
    if cluster.nodes == 1 or network.workers_per_host != 1:
        return network
    return dataclasses.replace(network, workers_per_host=cluster.workers_per_node)


def _yaml(text: str) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.create(text))
