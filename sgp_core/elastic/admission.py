"""How a member gives its state to one that joins: model, PushSum weight, optimizers, and what the user adds."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import torch

from sgp_core.elastic.group import ElasticGroup
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.gossip_checkpoint import GossipCheckpoint

Extra = Callable[[], Mapping[str, Any]]


class Admission:
    """Gives and takes states.

    Args:
        group: the members.
        checkpoint: makes and loads the state of this worker.
    """

    def __init__(self, group: ElasticGroup, checkpoint: GossipCheckpoint) -> None:
        self._group = group
        self._checkpoint = checkpoint

    def give(self, step: int, extra: Extra | None) -> None:
        """Send this worker's state to the members that begin with ``step``, if it is this one's turn to."""
        joiners = self._group.joiners(step)
        if not joiners:
            return
        saved = self._checkpoint.snapshot(extra() if extra else {})
        file = io.BytesIO()
        torch.save({**saved, "collectives": self._group.agreement.count}, file)
        for joiner in joiners:
            self._group.give_state(joiner, step, file.getvalue())

    def take(self) -> dict[str, Any]:
        """Join, and load the state of a living member; return what its user added.

        Raises:
            ConfigurationError: the state is another model's.
            PeerLost: the member that was to give it is gone.
        """
        self._group.join()
        step, data = self._group.wait_for_state()
        saved = torch.load(io.BytesIO(data), weights_only=True)
        saved["gossip"]["identity"]["rank"] = self._group.rank
        try:
            extra = self._checkpoint.restore(saved)
        except ValueError as error:
            raise ConfigurationError(f"this worker cannot be like the others: {error}") from error
        self._group.step = step
        self._group.agreement.count = saved["collectives"]
        return extra
