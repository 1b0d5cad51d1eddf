"""The command line of every candidate starts that candidate, whatever a preset has chosen."""

from __future__ import annotations

import pytest

from launcher.planning.candidates import COMPARED, candidates, complete
from launcher.planning.command import command_line
from launcher.planning.question import compose_plan, experiment_words


@pytest.mark.parametrize("line", ["wmt16_local_adam_slowmo", "default pace.steps=3"])
def test_every_candidate_can_be_started(line: str) -> None:
    words = experiment_words(line.split())
    plan = compose_plan(words)
    seen = set()
    for candidate in candidates(plan.experiment, plan.cluster.step_in_backward):
        program, *command = command_line(plan, words, candidate)
        assert program == "sgp-train"
        if candidate.words in seen or any("asgp" in word or "adpsgd" in word for word in candidate.words):
            continue  # some presets gossip by node, which these refuse
        seen.add(candidate.words)
        if candidate.step_in_backward and plan.experiment.node_size > 1:
            continue
        started = compose_plan(command)
        for group in COMPARED:
            mine, theirs = (getattr(one, group) for one in (started.experiment, candidate.experiment))
            assert complete(group, mine) == complete(group, theirs), (command, group)
        assert started.cluster.step_in_backward == candidate.step_in_backward
    assert len(seen) > 20
