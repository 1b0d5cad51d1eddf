"""Phrases that stand for faults."""

from __future__ import annotations

import pytest

from sgp_core import LinkFaults
from sgp_core.errors import ConfigurationError
from sgp_core.faults import FAULTS, parse_fault, parse_faults
from sgp_core.faults.links import link_faults

PHRASES = (
    "kill rank=3 step=100",
    "stop rank=1 step=20 for=2.5",
    "stall rank=random step=random at=backward seed=3 seconds=7.0",
    "nan rank=1 step=20 tensor=gradient",
    "kill every=30",
    "drop p=0.05",
    "delay p=0.2 steps=5",
)


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_fault_says_its_own_phrase(phrase: str) -> None:
    fault = parse_fault(phrase)
    assert parse_fault(fault.phrase) == fault
    assert set(fault.phrase.split()) == set(phrase.split())


@pytest.mark.parametrize(
    ("phrase", "says"),
    [
        ("kil rank=3", "unknown verb 'kil'; did you mean 'kill'?"),
        ("explode", "unknown verb 'explode'; known: clock_jump, corrupt_checkpoint, "),
        ("kill rnk=3", "kill has no key 'rnk'; known: rank, step, every, at, seed"),
        ("kill rank", "kill has no key 'rank'; known: "),
        ("kill rank=one", "rank=one: expected a whole number or random"),
        ("kill rank=-1", "rank must be at least 0, not -1"),
        ("kill step=0", "step must be at least 1, not 0"),
        ("kill step=3 every=5", "step must be left out beside every, not 3"),
        ("stall rank=1", "stall needs seconds"),
        ("nan tensor=weight", "tensor=weight: expected loss or gradient or parameter"),
        ("drop p=2", "drop must be a probability from 0 to 1, not 2.0"),
        ("", "a fault is a verb and its options, as in kill rank=1 step=20; verbs: "),
    ],
)
def test_a_wrong_phrase_is_refused_in_a_sentence(phrase: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_fault(phrase)
    assert str(caught.value).startswith(f"faults: '{phrase}': ")
    assert says in str(caught.value)


def test_every_verb_is_documented() -> None:
    assert all((FAULTS.get(verb).__doc__ or "").endswith((".", "    ")) for verb in FAULTS.names())


def test_faults_of_messages_are_those_of_links() -> None:
    faults = parse_faults(["drop p=0.1", "delay p=0.2 steps=4", "kill step=3"])
    assert link_faults(faults) == LinkFaults(drop=0.1, delay=0.2, delay_steps=4)
    assert link_faults(faults[2:]) is None
