"""Virtual workers go through the same loop as processes: same rows, same models, same resume to the bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sgp_core.clock import build_computation, build_network_model
from sgp_core.errors import ConfigurationError
from sgp_core.nonfinite import NotFinite
from sgp_core.tracking.jsonl import JsonlTracker, read_rows
from sgp_core.training.checkpoint import CheckpointStore
from sgp_core.training.config import CheckpointConfig, EvaluationConfig
from sgp_core.training.export import averaged_state
from sgp_core.training.loop import train
from sgp_core.training.virtual.models import VirtualModels
from sgp_core.training.virtual.optimizer import stack_optimizer
from sgp_core.training.virtual.world import VirtualWorld
from tests.training import tiny


def _train(directory: Path, experiment: Any, **overrides: Any) -> list[dict[str, Any]]:
    """Train and return rank 0's rows."""
    tracker = JsonlTracker(directory / "metrics.jsonl")
    options = {"virtual": VirtualWorld(), **overrides}
    try:
        train(experiment, directory=directory, trackers=[tracker], **tiny.settings(**options))
    finally:
        tracker.finish("completed", {})
    return read_rows(directory / "metrics.jsonl")


def _numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timings = ("wall_time_s", "samples_per_s", "step_time_ms", "data_time_ms", "compute_time_ms", "comm_time_ms")
    return [{key: value for key, value in row.items() if key not in timings} for row in rows]


def test_one_virtual_worker_is_one_process(tmp_path):
    chosen = tiny.experiment(1, max_steps=5, accumulation_steps=2, clip_norm=0.5)
    rows = _numbers(_train(tmp_path / "virtual", chosen))
    real = _numbers(_train(tmp_path / "process", chosen, virtual=None))
    assert len(rows) == len(real)
    for mine, theirs in zip(rows, real, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


def test_rows_say_that_fragments_lower_what_is_sent_in_one_step(tmp_path):
    peaks = {}
    for fragments in (1, 4):
        outer = {"name": "diloco", "tau": 4, "fragments": fragments}
        chosen = tiny.experiment(
            4, choices={"algorithm": {"name": "local_sgd", "period": 0}, "outer": outer}, max_steps=8
        )
        rows = _train(tmp_path / str(fragments), chosen, log_every=2)
        peaks[fragments] = [row["peak_step_bytes"] for row in rows if row["split"] == "train"]
        assert rows[-1]["bytes_sent"] == pytest.approx(2 * max(peaks[1]), rel=0.01)
    whole = max(peaks[1])
    assert peaks[1] == [0, whole, 0, whole]
    assert peaks[4] == pytest.approx([whole / 4] * 4, rel=0.03)  # one has up to eight elements more


CASES: dict[str, dict[str, Any]] = {
    "osgp": {"algorithm": {"name": "sgp", "overlap_steps": 2}},
    "ahead": {"algorithm": {"name": "osgp"}, "compression": {"name": "int8"}},
    "asgp": {"algorithm": {"name": "asgp"}, "topology": {"name": "exponential"}},
    "adpsgd": {"algorithm": {"name": "adpsgd"}, "topology": {"name": "bipartite_exponential"}},
    "slowmo": {"outer": {"name": "slowmo", "tau": 3}, "topology": {"name": "star"}},
    "streaming": {
        "algorithm": {"name": "local_sgd", "period": 0},
        "outer": {"name": "diloco", "tau": 6, "fragments": 2, "overlap": 2, "compression": "int4"},
    },
    "muon": {"optimizer": {"name": "muon"}, "model": {"name": "noisy", "hidden": True}, "algorithm": {"name": "asgp"}},
    "adafactor": {
        "optimizer": {"name": "adafactor"},
        "outer": {"name": "slowmo", "tau": 3, "buffers": "average"},
    },
}


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_run_goes_on_to_the_bit(case, tmp_path):
    chosen = tiny.experiment(4, choices=CASES[case], max_steps=7)
    evaluation = EvaluationConfig(model="both")
    whole = _numbers(_train(tmp_path / "whole", chosen, evaluation=evaluation))

    def fail(row: dict[str, Any]) -> None:
        if row["step"] == 5:
            raise KeyError("stop here")

    saving = CheckpointConfig(every_steps=3, asynchronous=False)
    with pytest.raises(KeyError):
        _train(tmp_path / "parts", chosen, evaluation=evaluation, checkpoint=saving, on_progress=fail)
    assert _numbers(_train(tmp_path / "parts", chosen, evaluation=evaluation)) == whole


def test_a_checkpoint_of_virtual_workers_is_none_of_processes(tmp_path):
    chosen = tiny.experiment(2, max_steps=2)
    _train(tmp_path, chosen)
    store = CheckpointStore(tmp_path, 2, chosen.fingerprint())
    with pytest.raises(ConfigurationError, match="virtual workers, in one process"):
        store.check_shards(store.manifests()[0])


@pytest.mark.parametrize("node_size", [1, 2])
def test_the_average_of_a_checkpoint_is_the_model_that_is_exported(node_size, tmp_path):
    chosen = tiny.experiment(4, choices={"node_size": node_size}, max_steps=3)
    _train(tmp_path, chosen)
    store = CheckpointStore(tmp_path, 4)
    model = tiny.NoisyNet().build((2, 5, 5), tiny.CLASSES)
    averaged = averaged_state(store, store.manifests()[0], model, node_size)
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        assert torch.allclose(averaged[name].to(tensor.dtype), tensor, atol=1e-6), name


def test_a_clock_gives_every_row_its_virtual_time(tmp_path):
    computation = build_computation({"name": "slow_worker", "worker": 1, "times": 2.0, "step_ms": 100.0})
    world = VirtualWorld(build_network_model({"name": "ethernet_1g"}), computation)
    sync = _train(tmp_path / "sync", tiny.experiment(4, max_steps=4), virtual=world)
    times = {row["step"]: row["virtual_time_s"] for row in sync}
    assert times[4] == pytest.approx(0.8, rel=0.02), "all wait for the slow worker"
    turns = tiny.experiment(4, choices={"algorithm": {"name": "asgp"}}, max_steps=4)
    assert _train(tmp_path / "turns", turns, virtual=world)[3]["virtual_time_s"] < 0.6, "none does"
    assert "virtual_time_s" not in _train(tmp_path / "none", tiny.experiment(4, max_steps=1))[0]


def test_a_loss_that_is_not_finite_names_its_rank(tmp_path):
    chosen = tiny.experiment(4, choices={"optimizer": {"name": "sgd", "lr": 1e30}}, max_steps=9)
    with pytest.raises(NotFinite, match=r"on rank \d"):
        _train(tmp_path, chosen)


class Forgetful(torch.optim.Optimizer):
    """Scales by the norm of its gradient, counts in a number, and puts new tensors in the place of old ones."""

    element_wise = False

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = {"count": 0, "mean": torch.ones_like(parameter)}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                state["count"] += 1
                state["mean"] = (state["mean"] + parameter.grad / parameter.grad.norm()) / 2
                parameter.sub_(state["mean"], alpha=group["lr"] / state["count"])


def test_an_optimizer_of_whole_tensors_steps_on_each_worker_by_itself():
    torch.manual_seed(0)
    alone = [nn.Linear(3, 2) for _ in range(3)]
    models = VirtualModels(copy.deepcopy(alone[0]), 3)
    for row, model in enumerate(alone):
        for view, parameter in zip(models.views(models.z), _backwards(model), strict=True):
            view[row] = parameter.detach()
    optimizers = [Forgetful(model.parameters()) for model in alone]
    virtual, parameters = stack_optimizer(Forgetful(models.model.parameters()), models)
    for step in range(4):
        for group in [group for each in (virtual, *optimizers) for group in each.param_groups]:
            group["lr"] = 0.1 * (step + 1)
        models.gradients.normal_()
        for row, model in enumerate(alone):
            for view, parameter in zip(models.views(models.gradients), _backwards(model), strict=True):
                parameter.grad = None if step == 2 else view[row].clone()
        for parameter, gradient in parameters:
            parameter.grad = None if step == 2 else gradient
        for each in (virtual, *optimizers):
            each.step()
        if step == 1:
            virtual.load_state_dict(copy.deepcopy(virtual.state_dict()))
    for row, model in enumerate(alone):
        for view, parameter in zip(models.views(models.z), _backwards(model), strict=True):
            assert torch.equal(view[row], parameter)


def _backwards(model: nn.Module) -> list[nn.Parameter]:
    """Return parameters in the order in which a row holds them."""
    order = VirtualModels(copy.deepcopy(model), 1)
    names = {id(parameter): name for name, parameter in order.model.named_parameters()}
    mine = dict(model.named_parameters())
    return [mine[names[id(parameter)]] for parameter in order.parameters]
