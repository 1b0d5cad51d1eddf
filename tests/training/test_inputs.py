"""What a run has read is kept beside its checkpoints, and compared with what is there when it goes on."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest

from sgp_core.errors import ConfigurationError
from sgp_core.topology import build_topology
from sgp_core.training.inputs import describe_changed_inputs, explaining_refusal, inputs_of, keep_inputs, kept_inputs

DATA = {"training examples": 8, "content": "a"}


def test_a_change_is_said_once_and_every_state_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep_inputs(tmp_path, inputs_of(DATA, "graph"), 0)
    keep_inputs(tmp_path, inputs_of(DATA, "graph"), 5)
    assert not caplog.records
    fewer = inputs_of({"training examples": 7, "content": "b"}, "graph")
    assert describe_changed_inputs(tmp_path, fewer) == [
        "the data set is not what the run used until now: 7 training examples, not 8"
    ]
    keep_inputs(tmp_path, fewer, 6)
    keep_inputs(tmp_path, fewer, 7)
    [record] = caplog.records
    assert record.getMessage().endswith("7 training examples, not 8; it goes on from step 6 with what is there now")
    assert kept_inputs(tmp_path) == fewer


@pytest.mark.parametrize("content", ["", "[]", '{"inputs": 3}', '{"inputs": [3]}', '{"inputs": [{"data": 3}]}'])
def test_a_damaged_record_says_nothing(content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "inputs.json").write_text(content)
    keep_inputs(tmp_path, inputs_of(DATA, None), 3)
    assert not caplog.records


def test_a_refused_graph_is_explained(tmp_path: Path) -> None:
    refusal = ConfigurationError("another algorithm")
    keep_inputs(tmp_path, inputs_of(DATA, "graph"), 0)
    with pytest.raises(ConfigurationError) as found, explaining_refusal(tmp_path, inputs_of({}, "graph")):
        raise refusal
    assert found.value is refusal
    with pytest.raises(ConfigurationError) as found, explaining_refusal(tmp_path, inputs_of({}, "other")):
        raise refusal
    said = str(found.value)
    assert (
        said == "the graph in topology.path is not what the run used until now: other content; put it back, or "
        "begin anew"
    )


def test_a_run_that_begins_anew_has_no_former_inputs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep_inputs(tmp_path, inputs_of(DATA, "graph"), 0)
    keep_inputs(tmp_path, inputs_of({"content": "b"}, None), 0)
    assert kept_inputs(tmp_path) == inputs_of({"content": "b"}, None)
    assert not caplog.records


def test_only_graphs_that_are_read_have_a_content(tmp_path: Path) -> None:
    assert build_topology("ring", 4).content() is None
    graph = nx.cycle_graph(4)
    content = build_topology(graph).content()
    nx.write_edgelist(graph, tmp_path / "one.txt", data=False)
    nx.write_graphml(graph, tmp_path / "two.graphml")
    assert build_topology("custom", 4, path=str(tmp_path / "one.txt"), directed=False).content() == content
    assert build_topology("custom", 4, path=str(tmp_path / "two.graphml")).content() == content
    assert build_topology("custom", 4, path=str(tmp_path / "one.txt"), weights="metropolis", directed=False).content()
    phases = [{"start": 0, "name": "ring"}, {"start": 5, "name": "custom", "path": str(tmp_path / "two.graphml")}]
    assert build_topology("schedule", 4, phases=phases, unit="step").content() == content
    graph.add_edge(0, 2)
    assert build_topology(graph).content() != content
