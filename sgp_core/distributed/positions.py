"""Where workers wait, whether that can end, and a sentence that says so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

STEP = "optimizer.step()"
"""The place in which a worker waits for its peers of a step."""
BACKWARD = "backward()"
"""The place in which gradients are averaged, before a step."""


@dataclass(frozen=True)
class Position:
    """Where a worker is.

    Attributes:
        place: what it waits in, such as ``averaged()``; empty outside of all of them, in the user's own code.
        collective: whether all workers have to come to this place before any of them leaves it.
        needs: how many steps its peers must have begun before it can leave a place that is not collective.
        steps: how many steps it has completed.
        passed: how often it has left each collective place.
        moving: whether it has been elsewhere a moment ago.
        ended: why it will never wait anywhere again; empty if it may.
    """

    place: str = ""
    collective: bool = False
    needs: int = 0
    steps: int = 0
    passed: Mapping[str, int] = field(default_factory=dict)
    moving: bool = False
    ended: str = ""

    def to_json(self) -> str:
        """Return this position as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Position:
        """Return the position that :meth:`to_json` made the text of."""
        return cls(**json.loads(text))

    def misses(self, other: Position) -> bool:
        """Whether ``other`` is where it can never do what this worker waits for."""
        if not self.collective:
            return other._begun < self.needs and (bool(other.ended) or other._holds(self))
        if other.passed.get(self.place, 0) > self.passed.get(self.place, 0):
            return False
        if other.collective:
            return other.place != self.place and other._holds(self)
        return bool(other.ended) or (other.place in (STEP, BACKWARD) and other.needs > other.steps >= self.steps)

    def _holds(self, other: Position) -> bool:
        """Whether this worker waits in a collective that ``other`` has not been to."""
        return self.collective and self.passed.get(self.place, 0) >= other.passed.get(self.place, 0)

    @property
    def _begun(self) -> int:
        return self.steps + (self.place in (STEP, BACKWARD))

    @property
    def _text(self) -> tuple[str, str]:
        """The verb, in the singular, and what follows it."""
        after = f" after {self.steps} {'step' if self.steps == 1 else 'steps'}"
        if self.ended:
            return "has", f"{self.ended}{after}"
        if self.moving:
            return "goes", "on"
        if not self.place:
            return "is", f"in code of its own{after}"
        if self.place == STEP and self.needs:
            return "waits", f"in step {self.steps}"
        return "waits", f"in {self.place}" + (f" of step {self.steps}" if self.place == BACKWARD else after)


Positions = Mapping[int, Position | None]
"""By rank; None for a worker that has built no Gossip yet."""


def is_deadlock(positions: Positions) -> bool:
    """Whether every worker waits or has ended, and one of them waits for what another can never do."""
    known = [position for position in positions.values() if position is not None]
    if len(known) < len(positions) or any(position.moving for position in known):
        return False
    waiting = [position for position in known if not position.ended]
    if not all(position.place for position in waiting):
        return False
    return any(mine.misses(theirs) for mine in waiting for theirs in known if theirs is not mine)


_PLURALS = {"waits": "wait", "is": "are", "has": "have", "goes": "go"}


def describe(positions: Positions) -> str:
    """Return who is where: ``rank 0 waits in averaged() after 5 steps, rank 1 in step 5``."""
    groups: dict[tuple[str, str], list[int]] = {}
    for rank, position in sorted(positions.items()):
        groups.setdefault(("has", "not built its Gossip") if position is None else position._text, []).append(rank)
    parts, before = [], ""
    for (verb, rest), ranks in sorted(groups.items(), key=lambda group: group[0][0] != "waits"):
        said = _PLURALS[verb] if len(ranks) > 1 else verb
        if len(ranks) > 1:
            rest = rest.replace(" its ", " their ")
        parts.append(
            f"{name_ranks(ranks)} {rest}" if verb == before == "waits" else f"{name_ranks(ranks)} {said} {rest}"
        )
        before = verb
    return ", ".join(parts)


def advise(positions: Positions) -> str:
    """Return what would be right."""
    known = [position for position in positions.values() if position is not None]
    collectives = sorted({position.place for position in known if position.collective})
    uneven = "the same number of steps; for uneven batches there is gossip.join()"
    if not collectives:
        return f"all workers must take {uneven}"
    if len(collectives) > 1:
        return f"all workers must call {' and '.join(collectives)} in the same order"
    advice = f"all workers must call {collectives[0]}"
    if any(position.ended for position in known):
        return f"{advice} before any of them ends"
    return f"{advice}, after {uneven}" if len({position._begun for position in known}) > 1 else advice


def name_ranks(ranks: Iterable[int]) -> str:
    """Return ``rank 3``, ``ranks 0 and 1``, ``ranks 0 to 6``, or the first of them and how many others there are."""
    ranks = list(ranks)
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if len(ranks) > 2 and ranks == list(range(ranks[0], ranks[-1] + 1)):
        return f"ranks {ranks[0]} to {ranks[-1]}"
    if len(ranks) > 6:
        return f"ranks {', '.join(map(str, ranks[:5]))} and {len(ranks) - 5} others"
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"
