"""What an algorithm is: one rule per stage of a training step, written once, executed by every runtime.

A rule is written from the point of view of one worker. ``worker`` offers that worker's tensors and its ``network``;
under the simulator the very same tensors carry a leading axis of virtual workers, and the rule does not notice.
Names are the papers': numerator ``x``, PushSum weight ``w``, de-biased ``z = x / w``.

This module and the rules import without torch: the launcher checks rules against topologies before any worker exists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError
from sgp_core.registry import NOT_AN_OPTION, Registry

if TYPE_CHECKING:
    from sgp_core.pacing import Pace
    from sgp_core.topology import Topology

ALGORITHMS: Registry[Algorithm] = Registry("algorithm", "sgp_core.algorithms")
OUTERS: Registry[Outer] = Registry("outer", "sgp_core.algorithms")


class OneSided(str, Enum):
    """How asynchronous workers reach each other."""

    mailbox = "mailbox"
    """Shares are left in the receiver's mailbox, and added when it next looks: ``push`` and ``collect``."""
    pairs = "pairs"
    """Models are open to peers, and one worker of a pair averages both: ``meet_partner``."""


@dataclass(frozen=True)
class Traits:
    """What runtimes and checks must know of a rule, beside its stages. One frozen value per rule.

    Attributes:
        gossips: the rule mixes along the topology's edges.
        sends_weight: the rule is PushSum, and may run on graphs that are only column-stochastic.
        reads_gradients: ``on_gradients`` does something, so runtimes collect gradients into ``worker.grads``.
        one_sided: how workers communicate that never wait for each other; None: workers step together.
        retransmits: with mailboxes: shares are sent again until they are acknowledged; None: where links have faults.
        own_momentum: the rule has a momentum in place of the optimizer's, which must be plain SGD then.
        one_exact_round: what the rule remembers presumes one exact round of gossip after every step: no pace and no
            compression.
        one_symmetric_graph: the rule is defined, and stable, only where mixing weights are symmetric and the same at
            every step.
        conserves_sum: communication never changes the sum of the numerators; if not, no outer may move the models.
        steps_in_flight: how many steps a message may be under way when the next is sent; 0: every step ends with none.
        sends_ahead: models leave when a step ends, from their own memory, and are combined in the next.
    """

    gossips: bool = True
    sends_weight: bool = False
    reads_gradients: bool = False
    one_sided: OneSided | None = None
    retransmits: bool | None = None
    own_momentum: bool = False
    one_exact_round: bool = False
    one_symmetric_graph: bool = False
    conserves_sum: bool = True
    steps_in_flight: int = 0
    sends_ahead: bool = False

    @property
    def asynchronous(self) -> bool:
        """Whether each worker steps at its own pace."""
        return self.one_sided is not None


@dataclass(frozen=True)
class Algorithm(ABC):  # noqa: B024 - every stage has a sensible default, to do nothing
    """A decentralised training rule. Fields are its options; all run-time state lives in the ``worker``.

    Stable extension point.
    """

    traits: ClassVar[Traits] = Traits()
    """Of the rule; an instance whose options or base change them has a value of its own."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in vars(cls).keys() & {trait.name for trait in fields(Traits)}:
            raise TypeError(f"{cls.__name__}.{name} is a trait; declare traits = Traits({name}=...)")

    def check(self, topology: Topology) -> None:
        """Refuse a topology the rule is not defined for.

        Raises:
            ConfigurationError: with the reason and what would be right.
        """
        if self.traits.one_symmetric_graph and not topology.is_symmetric_and_fixed:
            raise ConfigurationError(
                f"algorithm '{ALGORITHMS.name_of(type(self))}' needs symmetric mixing weights that never change, and"
                " this topology's are not; use ring, torus, hypercube, complete, star or spanning_tree, with metropolis"
                " weights if irregular"
            )

    def check_pace(self, pace: Pace) -> None:
        """Refuse a pace the rule is not defined for.

        Raises:
            ConfigurationError: rounds are to be left out or added, but the rule has none, or messages in flight.
        """
        from sgp_core.pacing.every import Every

        if not self.traits.gossips and pace != Every():
            raise pace.refuse("this algorithm has a rhythm of its own; choose one that gossips, such as sgp")
        if self.traits.steps_in_flight and not (isinstance(pace, Every) and pace.steps == 1):
            raise pace.refuse(
                "messages that are added later leave after every step; use overlap_steps=0, or overlap_steps=1 with"
                " order=adapt_while_communicate"
            )
        if self.traits.one_exact_round and pace != Every():
            raise pace.refuse("this algorithm is defined with one round of gossip after every step; use pace=every")

    def check_optimizer(self, options: Mapping[str, Any]) -> None:
        """Refuse an optimizer whose step is not what the rule takes it for.

        Args:
            options: of the optimizer, or of one of its parameter groups.

        Raises:
            ConfigurationError: it has a momentum, and the rule has one of its own.
        """
        if self.traits.own_momentum and (options.get("momentum") or options.get("betas") or "beta1" in options):
            raise ConfigurationError(
                "this algorithm has a momentum of its own, beta, so the optimizer must have none; use"
                " optimizer=sgd optimizer.momentum=0 optimizer.nesterov=false"
            )

    def leaves_one(self, topology: Topology) -> bool:
        """Whether PushSum weights may leave 1: the graph is not doubly stochastic, or messages are in flight."""
        if not self.traits.sends_weight or topology.world_size == 1:
            return False
        return self.traits.asynchronous or self.traits.steps_in_flight > 0 or not topology.is_doubly_stochastic

    def on_gradients(self, worker: Worker) -> None:
        """Backward is complete; gradients may be changed before they are clipped or used."""

    def before_step(self, worker: Worker) -> None:
        """The optimizer is about to step. ``worker`` may be a part of the model, like in :meth:`after_step`."""

    def after_step(self, worker: Worker) -> None:
        """The optimizer has stepped, and ``worker.params`` holds its result: messages may leave, none is waited for.

        Where steps are taken inside backward this comes once for each part of the model, as soon as it has stepped.
        """

    def receive(self, worker: Worker) -> None:
        """The step ends, for the whole model: what others have sent is waited for and used."""

    def send_ahead(self, worker: Worker) -> None:
        """The step is over, ``worker.step`` is the next. Until that, nothing changes the model: it may be sent."""


def declare(algorithm: Algorithm, traits: Traits, **changes: Any) -> None:
    """Give an instance ``traits``, with changes, of its own. For ``__post_init__``, where options decide on them."""
    object.__setattr__(algorithm, "traits", replace(traits, **changes))


@dataclass(frozen=True)
class Outer(Algorithm):
    """An algorithm wrapped around any other: every ``tau`` base steps, :meth:`outer_step` moves on.

    Stable extension point.

    Its traits are those of the base.
    """

    base: Algorithm = field(metadata=NOT_AN_OPTION)
    tau: int = 12

    def __post_init__(self) -> None:
        if self.base.traits.asynchronous:
            raise ConfigurationError(
                f"outer '{OUTERS.name_of(type(self))}' averages all workers every tau steps, but those of algorithm"
                f" '{ALGORITHMS.name_of(type(self.base))}' never wait for each other; use outer 'none', or algorithm"
                " 'osgp'"
            )
        if not self.base.traits.conserves_sum:
            raise ConfigurationError(
                f"outer '{OUTERS.name_of(type(self))}' moves models, but what algorithm"
                f" '{ALGORITHMS.name_of(type(self.base))}' has under way is of models before that; use outer 'none'"
            )
        if self.tau < 1:
            raise ConfigurationError(
                f"outer '{OUTERS.name_of(type(self))}': tau must be at least 1 step, not {self.tau}"
            )
        declare(self, self.base.traits)

    def check(self, topology: Topology) -> None:
        """Refuse what the base refuses."""
        self.base.check(topology)

    def on_gradients(self, worker: Worker) -> None:
        """Leave gradients to the base."""
        self.base.on_gradients(worker)

    def before_step(self, worker: Worker) -> None:
        """Remember where the block starts, ``x_{t,0}``; then the base."""
        worker.memory("anchor", like=worker.params)
        self.base.before_step(worker)

    def after_step(self, worker: Worker) -> None:
        """Leave it to the base."""
        self.base.after_step(worker)

    def receive(self, worker: Worker) -> None:
        """What the base does; then, at the end of a block of ``tau`` steps, the outer one."""
        self.base.receive(worker)
        if (worker.step + 1) % self.tau == 0:
            self.outer_step(worker)
            worker.memory("anchor").copy_(worker.params)
            worker.averaged = False  # it has moved on

    def send_ahead(self, worker: Worker) -> None:
        """Leave it to the base."""
        self.base.send_ahead(worker)

    @abstractmethod
    def outer_step(self, worker: Worker) -> None:
        """Move from the end of the block, ``worker.params``, given its start, ``worker.memory("anchor")``."""


def average_exactly(worker: Worker) -> None:
    """Set every worker to the average of the numerators, ``sum_j w_j z_j / n``, and every weight to 1.

    PushSum weights, those of messages in flight included, sum to n, so this conserves both masses. Asked twice at the
    same step (an outer over local SGD whose periods meet), it communicates once.
    """
    if worker.averaged:
        return
    if worker.biased:
        worker.params.mul_(worker.weight)
    average_numerators(worker)


def average_numerators(worker: Worker) -> None:
    """Do so where ``worker.params`` holds the numerator already."""
    if worker.biased:
        worker.weight = worker.network.drain(worker.params, worker.weight) * 0.0 + 1.0
    worker.network.mean(worker.params)
    worker.averaged = True
