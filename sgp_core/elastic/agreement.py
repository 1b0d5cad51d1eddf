"""Small collectives with one result on all members, whoever dies in the middle of them.

All send what they have to say to the *coordinator*, the lowest living rank, which sends all of it to all. If it dies,
they turn to the next; a member that has the result already tells it that, so that no two members get two results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sgp_core.elastic.links import Links
from sgp_core.elastic.wire import Frame, FrameKind, Member, encode
from sgp_core.errors import Expelled

Key = tuple[int, int]
"""A collective: the step it comes before, and its number among those."""
Answers = dict[int, list[float]]
"""What the members have said, by rank."""

_RESULTS_KEPT = 3


class Agreement:
    """The small collectives of one member. Messages arrive in the thread of the links, calls come from another.

    Args:
        links: to the other members.
        participants: returns who takes part before a step.
        check: raises if this member can take part no more.

    Attributes:
        count: how many collectives this member has taken part in since step 0; set it where it joins.
    """

    def __init__(self, links: Links, participants: Callable[[int], list[Member]], check: Callable[[], None]) -> None:
        self._links = links
        self._participants = participants
        self._check = check
        self._next: Key = (-1, 0)
        self.count = 0
        self._said: dict[Key, dict[Member, list[float]]] = {}
        self._results: dict[Key, Answers] = {}

    def gather(self, step: int, values: list[float]) -> Answers:
        """Return the values of all members that are alive, by rank. All must call, as often before each step.

        A member that begins with this very step is alone: the others may have been here before it came.

        Args:
            step: steps completed.

        Raises:
            Expelled: the others regard this member as dead.
        """
        if self._links.me not in self._participants(step):
            return {self._links.me.rank: values}
        number = self._next[1] if self._next[0] == step else 0
        self._next = (step, number + 1)
        self.count += 1
        key = (step, number)
        told: Member | None = None
        while True:
            with self._links.changed:
                self._check()
                if key in self._results:
                    break
                living = [one for one in self._participants(step) if one == self._links.me or self._links.is_alive(one)]
                coordinator = living[0]
                if coordinator == self._links.me:
                    self._said.setdefault(key, {})[self._links.me] = values
                    if all(one in self._said[key] for one in living):
                        answers = {one.rank: self._said[key][one] for one in living}
                        self._settle(key, answers)
                        self._publish(key, answers)
                        break
                elif told != coordinator:
                    self._tell(coordinator, "say", key, values)
                    told = coordinator
                self._links.changed.wait(1.0)
        answers = self._results[key]
        if self._links.me.rank not in answers:
            raise Expelled(f"{self._links.me} was regarded as dead by the others", self._links.me.rank)
        return answers

    def take(self, sender: Member, message: dict[str, Any]) -> None:
        """Take a message of a collective."""
        key: Key = (int(message["key"][0]), int(message["key"][1]))
        with self._links.changed:
            if message["what"] == "result":
                self._settle(key, {int(rank): values for rank, values in message["values"].items()})
            elif key in self._results:
                self._tell(sender, "result", key, _to_json(self._results[key]))
            else:
                self._said.setdefault(key, {})[sender] = message["values"]
            self._links.changed.notify_all()

    def pass_on(self) -> None:
        """A member has died: tell the coordinator of now the latest results, which the former may not have told it."""
        with self._links.changed:
            for key, answers in self._results.items():
                living = [one for one in self._participants(key[0]) if self._links.is_alive(one)]
                if living and living[0] != self._links.me:
                    self._tell(living[0], "result", key, _to_json(answers))

    def _settle(self, key: Key, answers: Answers) -> None:
        """Keep a result. No member is more than one collective ahead of another."""
        self._results.setdefault(key, answers)
        for old in sorted(self._results)[:-_RESULTS_KEPT]:
            del self._results[old]
        for old in [one for one in self._said if one <= key]:
            del self._said[old]

    def _publish(self, key: Key, answers: Answers) -> None:
        for member in self._participants(key[0]):
            if member != self._links.me:
                self._tell(member, "result", key, _to_json(answers))

    def _tell(self, whom: Member, what: str, key: Key, values: Any) -> None:
        self._links.send(
            whom, Frame(FrameKind.control), [memoryview(encode({"what": what, "key": list(key), "values": values}))]
        )


def _to_json(answers: Answers) -> dict[str, list[float]]:
    return {str(rank): values for rank, values in answers.items()}
