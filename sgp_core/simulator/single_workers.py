"""Virtual workers that step one at a time, and the messages between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgp_core.algorithms.base import Algorithm, OneSided
from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.asynchronous.retransmission import retransmits
from sgp_core.runtime.events import Event
from sgp_core.runtime.optimizers import check_element_wise
from sgp_core.runtime.worker_state import WorkerState
from sgp_core.simulator.lossy_network import LossyNetwork
from sgp_core.simulator.trajectory import OptimizerFactory
from sgp_core.simulator.virtual_network import VirtualNetwork
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology

Rate = Callable[[int], float]


class SingleWorkers:
    """Virtual workers, each with an optimizer and a rule of its own, and the messages between them.

    Args:
        algorithm: an asynchronous one.
        topology: who sends to whom.
        rows: the models, ``[1, d]`` each, changed in place.
        steppers: an optimizer over each.
        faults: what happens to messages; None: nothing.
        check: looks at a worker's model after its optimizer's step, before anything of it reaches others.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        topology: Topology,
        rows: Sequence[Tensor],
        steppers: Sequence[torch.optim.Optimizer],
        faults: LinkFaults | None = None,
        check: Callable[[int], None] | None = None,
    ) -> None:
        self._check = check
        self._algorithm = algorithm
        self.pairs = algorithm.traits.one_sided is OneSided.pairs
        self.rows = list(rows)
        self.steppers = list(steppers)
        self.networks: list[VirtualNetwork] = []
        again = retransmits(algorithm.traits, faults)
        for rank, row in enumerate(self.rows):
            arguments = topology, rank, FlatVector([row.data]), self.networks
            self.networks.append(
                LossyNetwork(*arguments, faults, retransmits=again) if faults else VirtualNetwork(*arguments)
            )
        biased = algorithm.leaves_one(topology)
        self.workers = [
            WorkerState(network.params, stepper, network, biased=biased)
            for network, stepper in zip(self.networks, self.steppers, strict=True)
        ]

    @property
    def z(self) -> Tensor:
        """All models, ``[n, d]``."""
        return torch.cat([row.detach() for row in self.rows])

    @property
    def w(self) -> Tensor:
        """All weights, ``[n]``."""
        return torch.tensor([float(worker.weight) for worker in self.workers], dtype=torch.float64)

    def in_flight(self) -> tuple[Tensor, Tensor]:
        """Return the sums of numerators and weights that are in no worker's model."""
        x, w = torch.zeros_like(self.rows[0].detach()), torch.zeros((), dtype=torch.float64)
        for network in self.networks:
            if self.pairs:
                x += network.model.tensors[0] - network.params.tensors[0]
            for share in network.under_way():
                x += share.x.tensors[0]
                w += share.weight
        return x.squeeze(0), w

    @torch.no_grad()
    def step(self, rank: int, script: Event | None = None) -> None:
        """Let one worker take its next step, with the gradients that its optimizer has, up to what it receives."""
        worker = self.workers[rank]
        self.networks[rank].script = script
        self._algorithm.before_step(worker)
        self.steppers[rank].step()
        if self._check is not None:
            self._check(rank)
        self._algorithm.after_step(worker)

    @torch.no_grad()
    def receive(self, rank: int) -> None:
        """Let one worker end its step."""
        self._algorithm.receive(self.workers[rank])
        self.workers[rank].step += 1

    @torch.no_grad()
    def meet(self, rank: int, script: Event | None = None) -> None:
        """Let one worker add what was in flight to it at a meeting of all."""
        worker, network = self.workers[rank], self.networks[rank]
        network.script = script
        if self.pairs:
            network.look()
            return
        worker.params.mul_(worker.weight)
        worker.weight = network.collect(worker.params, worker.step, worker.weight, None)
        worker.params.div_(worker.weight)

    def numerators(self) -> Tensor:
        """Return the sum of all numerators, what is in flight included, ``[d]``."""
        x, _ = self.in_flight()
        for row, worker in zip(self.rows, self.workers, strict=True):
            x = x + row.detach()[0] * float(worker.weight)
        return x

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on to the bit."""
        return {
            "workers": [worker.state_dict() for worker in self.workers],
            "networks": [network.state_dict() for network in self.networks],
            "steppers": [stepper.state_dict() for stepper in self.steppers],
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        for worker, saved in zip(self.workers, state["workers"], strict=True):
            worker.load_state_dict(saved)
        for network, saved in zip(self.networks, state["networks"], strict=True):
            network.load_state_dict(saved)
        for stepper, saved in zip(self.steppers, state["steppers"], strict=True):
            stepper.load_state_dict(saved)


class GradientWorkers(SingleWorkers):
    """Such workers whose gradients are a function.

    Args:
        initial: the models, ``[n, d]``.
        gradient: returns gradients ``[n, d]`` at ``[n, d]`` and a step; None: they are given.
        optimizer: makes each worker's optimizer; None: plain SGD, lr 0.1.
        lr: the learning rate at each of a worker's own steps; None: that of the optimizer.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        topology: Topology,
        initial: Tensor,
        gradient: Callable[[Tensor, int], Tensor] | None,
        optimizer: OptimizerFactory | None,
        lr: Rate | None,
        faults: LinkFaults | None = None,
    ) -> None:
        self._gradient = gradient
        self._lr = lr
        rows = [row.clone().unsqueeze(0).requires_grad_() for row in initial]
        steppers = [optimizer([row]) if optimizer else torch.optim.SGD([row], lr=0.1) for row in rows]
        check_element_wise(steppers[0])
        super().__init__(algorithm, topology, rows, steppers, faults)

    def gradient(self, step: int) -> Tensor:
        """Return the gradients of step ``step`` at the models as they are, ``[n, d]``."""
        assert self._gradient is not None
        return self._gradient(self.z, step)

    def step_with(self, rank: int, gradient: Tensor, script: Event | None = None) -> None:
        """Let one worker take its next step with a gradient, ``[d]``."""
        if self._lr is not None:
            for group in self.steppers[rank].param_groups:
                group["lr"] = self._lr(self.workers[rank].step)
        self.rows[rank].grad = gradient.clone().unsqueeze(0)
        self.step(rank, script)
