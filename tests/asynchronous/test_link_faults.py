"""Faults of links: each message's fate follows from the seed, its link and its number; frequencies are as asked."""

from __future__ import annotations

from collections import Counter

import pytest

import sgp_core
from sgp_core.asynchronous.link_faults import FaultyLink, LinkFaults
from sgp_core.errors import ConfigurationError

MESSAGES = 4000


def carry(faults: LinkFaults, messages: int = MESSAGES, *, receiver: int = 1) -> list[tuple[int, int]]:
    """Send a message a step over the link of worker 0; return the step and the number of each that arrives."""
    link: FaultyLink[int] = FaultyLink(faults, 0, receiver)
    arrived = []
    for step in range(messages):
        arrived += [(step, number) for number in link.advance(step) + link.send(step, step)]
    return arrived + [(messages, number) for number in link.flush()]


def test_without_faults_every_message_leaves_at_once():
    assert carry(LinkFaults()) == [(step, step) for step in range(MESSAGES)]


def test_messages_are_lost_doubled_and_late_as_often_as_asked():
    lost = carry(LinkFaults(drop=0.2))
    assert len(lost) == pytest.approx(0.8 * MESSAGES, rel=0.05)
    doubled = Counter(number for _, number in carry(LinkFaults(duplicate=0.1)))
    assert sum(count == 2 for count in doubled.values()) == pytest.approx(0.1 * MESSAGES, rel=0.2)
    ages = Counter(step - number for step, number in carry(LinkFaults(delay=0.5, delay_steps=10))[:-10])
    assert set(ages) == set(range(11))
    assert ages[0] == pytest.approx(MESSAGES / 2, rel=0.05)
    assert min(ages.values()) == pytest.approx(MESSAGES / 20, rel=0.25)


def test_a_message_is_overtaken_by_the_next_and_by_no_other():
    numbers = [number for _, number in carry(LinkFaults(reorder=0.3, delay_steps=50))]
    assert sorted(numbers) == list(range(MESSAGES))
    late = [place for place, number in enumerate(numbers[:-50]) if number < place]
    assert len(late) == pytest.approx(0.3 * MESSAGES, rel=0.1)


def test_what_no_message_overtakes_leaves_at_last():
    link: FaultyLink[str] = FaultyLink(LinkFaults(reorder=1.0, delay_steps=4), 0, 1)
    assert link.send(7, "only") == []
    assert link.late == ["only"]
    assert link.advance(10) == []
    assert link.advance(11) == ["only"]
    assert link.flush() == []


def test_fates_repeat_and_differ_by_link_and_seed():
    faults = LinkFaults(drop=0.3, duplicate=0.2, delay=0.3, delay_steps=5, reorder=0.1, seed=4)
    again = LinkFaults(**vars(faults))
    assert carry(faults, 300) == carry(again, 300)
    assert carry(faults, 300) != carry(faults, 300, receiver=2)
    assert carry(faults, 300) != carry(LinkFaults(**{**vars(faults), "seed": 5}), 300)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"drop": 1.5}, "faults of links: drop must be a probability from 0 to 1, not 1.5"),
        ({"delay": float("nan")}, "faults of links: delay must be a probability from 0 to 1, not nan"),
        ({"delay_steps": 0}, "faults of links: delay_steps must be at least 1, not 0"),
    ],
)
def test_what_is_no_probability_is_refused(options, said):
    with pytest.raises(ConfigurationError) as refusal:
        LinkFaults(**options)
    assert str(refusal.value) == said


@pytest.mark.parametrize(
    ("name", "why"), [("sgp", "wait for a lost one for ever"), ("adpsgd", "changes two models together")]
)
def test_algorithms_that_cannot_do_with_lost_messages_are_refused(name, why):
    with pytest.raises(ConfigurationError, match=f"algorithm '{name}' .*{why}.* algorithm 'asgp'"):
        LinkFaults(drop=0.1).check(sgp_core.build_algorithm(name))
    LinkFaults(drop=0.1).check(sgp_core.build_algorithm("asgp"))
