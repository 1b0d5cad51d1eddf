"""What a worker of an elastic run does beside its steps: it begins like another, and lets others begin like it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sgp_core.elastic.admission import Admission
from sgp_core.elastic.group import ElasticGroup
from sgp_core.elastic.network import ElasticNetwork
from sgp_core.elastic.wire import Member
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.worker_saving import WorkerSaving


class ElasticWorker(WorkerSaving):
    """The methods of ``Gossip`` that concern workers that come while training goes on."""

    _group: ElasticGroup | None
    _admission: Admission | None = None
    inherited: dict[str, Any] | None = None
    """What the worker whose model this one began with had for it, see :meth:`admit`; None if there is none."""

    @property
    def push_sum_weight(self) -> float:
        """This worker's PushSum weight ``w``; exactly 1 on doubly stochastic graphs as long as no worker has died."""
        ratio = self.network.ratio if isinstance(self.network, ElasticNetwork) else 1.0
        return super().push_sum_weight * ratio

    @property
    def member(self) -> Member | None:
        """Which process of which rank this worker is; None outside of elastic runs."""
        return None if self._group is None else self._group.me

    @property
    def ledger(self) -> dict[Member, list[float]]:
        """What each peer, a process, has been given by this worker and has given it, in PushSum weights; see docs."""
        return self.network.ledger if isinstance(self.network, ElasticNetwork) else {}

    def admit(self, extra: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """Let workers in that come while training goes on (``elastic``): they get this worker's model and optimizer.

        Call it on every worker, once before each step. A worker that comes finds ``extra`` as :attr:`inherited`.

        Args:
            extra: returns what else such a worker needs, such as a scheduler's state: numbers, strings, tensors, lists
                and dicts.
        """
        if self._admission is not None:
            self._admission.give(self.step, extra)

    def save(self, folder: str | Path, extra: Mapping[str, Any] | None = None) -> None:
        """Save all workers to a folder, see :meth:`WorkerSaving.save`.

        Raises:
            ConfigurationError: the run is elastic, so that workers of the folder may be missing.
        """
        self._refuse_folder()
        super().save(folder, extra)

    def load(self, folder: str | Path, *, reshape: bool = False) -> dict[str, Any]:
        """Continue from :meth:`save`, see :meth:`WorkerSaving.load`.

        Raises:
            ConfigurationError: the run is elastic.
        """
        self._refuse_folder()
        return super().load(folder, reshape=reshape)

    def _refuse_folder(self) -> None:
        if self._group is not None:
            raise ConfigurationError(
                "elastic: a folder of all workers would miss those that are dead; save each worker's state_dict()"
            )

    def _take_place(self, group: ElasticGroup | None) -> None:
        """Begin like a living worker, if training has begun without this one."""
        if group is None:
            return
        self._admission = Admission(group, self._checkpoint)
        if not group.founder:
            self.inherited = self._admission.take()
            self._waits.steps = self._state.step
