"""What a worker does to bring messages in flight home, to save itself, and to go on from what it has saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sgp_core.distributed.waits import Waits
from sgp_core.runtime.gossip_checkpoint import GossipCheckpoint
from sgp_core.runtime.gossip_state import GossipState
from sgp_core.runtime.worker_facts import WorkerFacts


class WorkerSaving(WorkerFacts):
    """The methods of ``Gossip`` after which the state of a worker is complete: nothing is in flight."""

    _waits: Waits
    _state: GossipState
    _checkpoint: GossipCheckpoint

    def finish(self) -> None:
        """Wait for messages in flight and add them; models sent ahead may then change. Every worker must call.

        Workers of an asynchronous algorithm meet here: call it once the last step is done, before any of them ends.
        """
        with self._recalling("finish()"):
            self._state.finish()

    def state_dict(self) -> dict[str, Any]:
        """Return what a bit-exact resume of this worker needs beside ``optimizer.state_dict()`` and the buffers.

        Messages in flight are part of it, so every worker must call at the same step; call ``finish`` first to have
        none. Workers of an asynchronous algorithm meet here, each at its own step, and add what is in flight: a resume
        is then not bit-exact, but conserves both sums. Tensors are copies. Replicas differ by design: save one per
        rank.
        """
        self._hooks.check_between("state_dict()")
        with self._waits.inside_drain("state_dict()"):
            return self._state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`; every worker loads its own, all workers of a node at once.

        With an asynchronous algorithm all workers meet.

        Raises:
            ConfigurationError: another rank saved the state, or it belongs to another number of workers, algorithm,
                topology, pace, codec or model; the message says which.
        """
        with self._recalling("load_state_dict()"):
            self._state.load_state_dict(state)
            self._waits.steps = self._state.step

    def save(self, folder: str | Path, extra: Mapping[str, Any] | None = None) -> None:
        """Save all workers to a folder: models, buffers, frozen parameters, optimizers, what the rule remembers and
        what is in flight. Every worker must call, at the same step.

        A folder that holds a save keeps it until the new one is whole. Rank 0 writes ``manifest.json``, with a checksum
        of each file; the folder may be each host's own.

        Args:
            extra: more to save, of this worker, such as an epoch, a scheduler's state or random numbers: numbers,
                strings, tensors, lists and dicts.

        Raises:
            CheckpointError: on all workers, if one could not write.
        """
        self._hooks.check_between("save()")
        with self._waits.inside("save()"):
            self._checkpoint.save(folder, extra)

    def snapshot(self, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what :meth:`save` would write of this worker, for frameworks that write it later. Collective.

        Optimizer states, buffers and frozen parameters are no copies.
        """
        self._hooks.check_between("snapshot()")
        with self._waits.inside("snapshot()"):
            return self._checkpoint.snapshot(extra or {})

    def load(self, folder: str | Path, *, reshape: bool = False) -> dict[str, Any]:
        """Continue from :meth:`save`, bit for bit on the CPU; return ``extra``. Every worker must call.

        Args:
            reshape: accept a save of another number of workers, algorithm, topology, pace or codec. All workers then
                start at the saved step from the saved average ``sum_i x_i / sum_i w_i``, with weight 1; what was in
                flight is part of it. Buffers and optimizer states are averaged, or the optimizer starts anew where it
                steps on shards. What the rule remembered (outer momentum, corrections) is dropped. ``extra`` is rank
                0's. A save that fits as it is is loaded as it is.

        Raises:
            ConfigurationError: what was saved does not fit; nothing is loaded on any worker.
            CheckpointError: no complete save is there, or it is damaged; likewise.
        """
        with self._waits.inside("load()"):
            extra = self._checkpoint.load(folder, reshape=reshape)
            self._waits.steps = self._state.step
        self._hooks.checks.note_sent(travels=False)
        return extra

    @contextmanager
    def _recalling(self, name: str) -> Iterator[None]:
        """Give up, inside the block, what all workers have sent ahead: after it, the model may change."""
        if self.network.model_travels:
            with self._waits.inside(name):  # one that went on alone would send what no other waits for
                pass
        with self._waits.inside_drain(name):
            yield
        self._hooks.checks.note_sent(travels=False)
