"""Who is missing, by what all workers have told of themselves. No processes, no clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sgp_core.distributed.positions import name_ranks


@dataclass(frozen=True)
class WorkerSign:
    """The last that is known of a worker.

    Attributes:
        silent_s: seconds for which it has not said that it runs.
        still_s: seconds for which it has done the same.
        limit_s: how long it may, as long as it says that it runs.
        step: the step that it is in, from 1.
        phase: what it does, or waits in.
        waits: whether it waits for others.
    """

    silent_s: float
    still_s: float
    limit_s: float
    step: int
    phase: str
    waits: bool


@dataclass(frozen=True)
class Hang:
    """Why nothing goes on.

    Attributes:
        text: a sentence.
        peers: the ranks that are missing.
        step: the step that they are in, from 1.
        phase: what they were doing.
    """

    text: str
    peers: tuple[int, ...]
    step: int
    phase: str


def find_hang(signs: Mapping[int, WorkerSign], silent_after_s: float, patience_s: float) -> Hang | None:
    """Return who does not go on, and what others wait for; None as long as a worker that others need goes on.

    A worker is missing if it has done the same for longer than it may, and does not wait for others, or if it has said
    nothing for longer than any may. If all wait, those that do not run are, else those in the earliest step.

    Args:
        signs: of the workers that have not ended, by rank.
        silent_after_s: a worker that has said nothing for so long does not run, at least for a while: whoever holds the
            interpreter's lock, or gets no processor, says nothing either.
        patience_s: how long it may say nothing, whatever it does.
    """
    dead = [rank for rank, sign in signs.items() if sign.silent_s >= patience_s]
    still = {rank: sign for rank, sign in signs.items() if sign.still_s >= sign.limit_s or rank in dead}
    missing = [rank for rank, sign in still.items() if not sign.waits or rank in dead]
    if not missing:
        if len(still) < len(signs) or len(still) < 2:
            return None
        earliest = min(sign.step for sign in still.values())
        silent = [rank for rank, sign in still.items() if sign.silent_s >= silent_after_s]
        missing = silent or [rank for rank, sign in still.items() if sign.step == earliest]
    first = signs[missing[0]]
    return Hang(_describe(signs, missing, silent_after_s), tuple(missing), first.step, first.phase)


def _describe(signs: Mapping[int, WorkerSign], missing: Sequence[int], silent_after_s: float) -> str:
    first = signs[missing[0]]
    verb = "has" if len(missing) == 1 else "have"
    where = f"step {first.step}, in {first.phase}"
    if all(signs[rank].silent_s >= silent_after_s for rank in missing):
        was = "it was" if len(missing) == 1 else "they were"
        text = f"{name_ranks(missing)} {verb} not answered for {first.silent_s:.0f} s: stopped, or the host is gone;"
        text += f" {was} in {where}"
    else:
        text = f"{name_ranks(missing)} {verb} not gone on for {first.still_s:.0f} s: in {where}"
    waiting: dict[str, list[int]] = {}
    for rank, sign in sorted(signs.items()):
        if sign.waits and rank not in missing:
            waiting.setdefault(f"in {sign.phase} of step {sign.step}", []).append(rank)
    others = [f"{name_ranks(ranks)} {_wait(ranks)} {place}" for place, ranks in waiting.items()]
    return "; ".join([text, *others])


def _wait(ranks: Sequence[int]) -> str:
    return "waits" if len(ranks) == 1 else "wait"
