"""What a run reads beside its settings, data and a graph of one's own: kept, and compared when it is resumed.

The run id goes by paths, because ids must be known before anything is read, and because moved data are the same data.
What the files hold is kept beside it, in ``inputs.json``. Imports without torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import read_json, write_json
from sgp_core.errors import ConfigurationError
from sgp_core.tasks.content import describe_changes

FILE = "inputs.json"
DATA, GRAPH = "data", "graph"
_LOGGER = logging.getLogger(__name__)

Inputs = Mapping[str, Mapping[str, Any]]
"""Facts by what they are of, :data:`DATA` or :data:`GRAPH`; of what is generated there are none."""


def inputs_of(data: Mapping[str, Any], graph: str | None) -> Inputs:
    """Return the inputs of a run.

    Args:
        data: facts of :meth:`sgp_core.tasks.base.Task.content`.
        graph: of :meth:`sgp_core.topology.Topology.content`.
    """
    return {**({DATA: data} if data else {}), **({GRAPH: {"content": graph}} if graph is not None else {})}


def kept_inputs(directory: Path) -> Inputs:
    """Return the inputs that the run in ``directory`` used last; nothing for one that has not begun, or with 0.1."""
    states = _states(directory)
    return {what: facts for what, facts in states[-1].items() if isinstance(facts, Mapping)} if states else {}


def describe_changed_inputs(directory: Path, inputs: Inputs) -> list[str]:
    """Return a sentence for each input that is not what the run in ``directory`` used last."""
    before, said = kept_inputs(directory), []
    for what, facts in inputs.items():
        if changes := describe_changes(before.get(what, {}), facts):
            thing = "the data set is" if what == DATA else "the graph in topology.path is"
            said.append(f"{thing} not what the run used until now: {changes}")
    return said


@contextmanager
def explaining_refusal(directory: Path, inputs: Inputs) -> Iterator[None]:
    """Say why a state is refused inside the block: where the graph has been edited, say that and what to do."""
    try:
        yield
    except ConfigurationError as refusal:
        graph = {what: facts for what, facts in inputs.items() if what == GRAPH}
        changes = describe_changed_inputs(directory, graph)
        if not changes:
            raise
        raise ConfigurationError(f"{changes[0]}; put it back, or begin anew") from refusal


def keep_inputs(directory: Path, inputs: Inputs, step: int) -> None:
    """Keep the inputs of the steps after ``step``, and log a warning for each that has changed.

    Raises:
        OSError: the file cannot be written.
    """
    if step == 0:  # nothing has been learnt of others, whatever an attempt before used
        directory.mkdir(parents=True, exist_ok=True)
        states, changes = [], []
    else:
        states, changes = _states(directory), describe_changed_inputs(directory, inputs)
    for change in changes:
        _LOGGER.warning("%s; it goes on from step %d with what is there now", change, step)
    if changes or not states:
        states.append({"step": step, **{what: dict(facts) for what, facts in inputs.items()}})
        write_json(directory / FILE, {"inputs": states})


def _states(directory: Path) -> list[dict[str, Any]]:
    """Return what is kept: an entry for the first step, and one for each that began with other inputs."""
    states = (read_json(directory / FILE) or {}).get("inputs")
    return [state for state in states if isinstance(state, dict)] if isinstance(states, list) else []
