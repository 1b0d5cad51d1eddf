"""What users say about gossip in one mapping, as frameworks take it from scripts, JSON and YAML."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import nn

from sgp_core.algorithms import build_algorithm, build_outer
from sgp_core.compression import build_compression
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.gossip import Gossip
from sgp_core.pacing import build_pace
from sgp_core.runtime.choices import algorithm_of
from sgp_core.runtime.optimizers import Optimizers
from sgp_core.topology import build_topology

GossipChoice: TypeAlias = "str | Mapping[str, Any]"
"""The name of an algorithm, or options of ``Gossip`` by name; see :class:`GossipChoices`."""

_NOT_HERE = {"self", "model", "optimizer", "part_mb", "elastic"}
_OWN = {"outer", "reshape"}


class GossipChoices:
    """Options of :class:`sgp_core.Gossip` before there is a model.

    Args:
        choice: the name of an algorithm, or a mapping of what ``Gossip`` takes beside model and optimizer, and of
            ``outer``. Algorithm, outer, topology, pace and compression may each be a name, a mapping of a name and its
            options, such as ``{"name": "slowmo", "tau": 12}``, or what a ``build_...`` function has returned.
            ``reshape``: whether a checkpoint of another number of workers, or of another rule, is accepted, see
            :meth:`sgp_core.Gossip.load`.

    Attributes:
        reshape: as given.

    Raises:
        ConfigurationError: no algorithm is named, an option does not exist, or one that a framework cannot have.
    """

    def __init__(self, choice: GossipChoice) -> None:
        options: Mapping[str, Any] = {"algorithm": choice} if isinstance(choice, str) else choice
        if not isinstance(options, Mapping):
            raise ConfigurationError(
                "gossip must be the name of an algorithm, or a mapping such as"
                f" {{'algorithm': 'sgp', 'topology': 'ring'}}, not {type(choice)}"
            )
        known = {*inspect.signature(Gossip.__init__).parameters, *_OWN} - _NOT_HERE
        for name in options:
            if name == "elastic":
                raise ConfigurationError(
                    "gossip: elastic needs a loop of your own: frameworks wait for every worker in each step"
                )
            if name not in known:
                raise ConfigurationError(f"gossip has no option '{name}'{did_you_mean(str(name), known)}")
        if "algorithm" not in options:
            raise ConfigurationError("gossip names no algorithm; add one, such as {'algorithm': 'sgp'}")
        self.reshape = bool(options.get("reshape", False))
        self._options = {name: value for name, value in options.items() if name != "reshape"}

    @property
    def steps_in_backward(self) -> bool:
        """Whether steps are taken inside backward, where gradients can be clipped by ``max_norm`` alone."""
        return bool(self._options.get("step_in_backward", False))

    @property
    def max_norm(self) -> float | None:
        """The norm that gradients are clipped to inside backward; None: they are not."""
        norm: float | None = self._options.get("max_norm")
        return norm

    def clip_in_backward(self, max_norm: float) -> None:
        """Clip to this norm where steps are taken inside backward and no other norm was chosen; 0: do not."""
        if self.steps_in_backward and max_norm > 0:
            self._options.setdefault("max_norm", max_norm)

    def attach(self, model: nn.Module, optimizer: Optimizers, world_size: int) -> Gossip:
        """Return the ``Gossip`` of a model. Every worker must call.

        Raises:
            ConfigurationError: as :class:`sgp_core.Gossip` does, and if a part does not exist.
        """
        options: dict[str, Any] = dict(self._options)
        outer = options.pop("outer", None)
        algorithm = _built(build_algorithm, "algorithm", options.pop("algorithm"))
        if outer is not None:
            made = {"name": outer} if isinstance(outer, str) else outer
            algorithm = _built(build_outer, "outer", made, base=algorithm_of(algorithm))
        nodes = world_size // max(int(options.get("node_size", 1)), 1)
        topology = _built(build_topology, "topology", options.pop("topology", None), world_size=nodes)
        for name, build in (("pace", build_pace), ("compression", build_compression)):
            if name in options:
                options[name] = _built(build, name, options[name])
        return Gossip(model, optimizer, algorithm=algorithm, topology=topology, **options)


def _built(build: Callable[..., Any], what: str, choice: Any, **more: Any) -> Any:
    """Return what a mapping of a name and its options describes; anything else as it is, for ``Gossip`` to judge."""
    if not isinstance(choice, Mapping):
        return choice
    options = dict(choice)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ConfigurationError(f"gossip: {what} needs a name, such as {{'name': ...}} beside its options")
    return build(name, **more, **options)
