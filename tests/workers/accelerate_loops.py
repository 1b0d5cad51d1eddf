"""What real workers do in tests/integrations/test_accelerate.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sgp_core.errors import ConfigurationError
from tests.workers.hugging_face import set_environment, weights_of

STAR = {"algorithm": "sgp", "topology": {"name": "star", "weights": "uniform"}}
LOSS = nn.functional.mse_loss


def build_model(seed: int = 0) -> nn.Module:
    """Return a model whose BatchNorm sees other examples on every worker."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.ReLU(), nn.Linear(6, 1)).double()


def build_loader(count: int) -> DataLoader[Any]:
    """Return a loader that leaves the random numbers of models alone."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    data = TensorDataset(rows, rows.sum(1, keepdim=True).sin())
    return DataLoader(data, batch_size=3, shuffle=True, generator=torch.Generator())


def set_up(accelerator: Any, count: int = 72, model: nn.Module | None = None) -> tuple[Any, ...]:
    """Return model, optimizer, loader and schedule, prepared."""
    model = build_model() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.5)
    prepared: tuple[Any, ...] = accelerator.prepare(model, optimizer, build_loader(count), schedule)
    return prepared


def loop(accelerator: Any, parts: tuple[Any, ...], batches: range) -> list[float]:
    """Train on these batches of an epoch; return the norms of gradients."""
    model, optimizer, loader, schedule = parts
    norms = []
    loader.set_epoch(0)
    for number, (inputs, targets) in enumerate(accelerator.skip_first_batches(loader, batches.start), batches.start):
        if number == batches.stop:
            break
        with accelerator.accumulate(model):
            accelerator.backward(LOSS(model(inputs), targets))
            if accelerator.sync_gradients:
                norms.append(accelerator.clip_grad_norm_(model.parameters(), 0.5).item())
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return norms


def seedable() -> Any:
    """Return what lets accelerate shuffle alike whenever it is asked."""
    from accelerate.utils import DataLoaderConfiguration

    return DataLoaderConfiguration(use_seedable_sampler=True, data_seed=3)


def act_as_ddp_does() -> dict[str, Any]:
    """Train with what accelerate wraps in DistributedDataParallel, and with allreduce in its place."""
    from accelerate import Accelerator

    from sgp_core.integrations.accelerate import GossipAccelerator

    found: dict[str, Any] = {}
    options: dict[str, Any] = {"gradient_accumulation_steps": 2, "cpu": True, "dataloader_config": seedable()}
    for accelerator in (Accelerator(**options), GossipAccelerator(gossip="allreduce", **options)):
        parts = set_up(accelerator)
        norms = loop(accelerator, parts, range(6))
        found[type(accelerator).__name__] = {
            "norms": norms,
            "weights": weights_of(accelerator.unwrap_model(parts[0])),
            "wrapped": type(parts[0]).__name__,
            "rate": parts[3].get_last_lr(),
        }
    return found


def stop_and_resume(folder: str) -> dict[str, Any]:
    """Save in the middle of an epoch, go on, and begin anew from what was saved."""
    from accelerate.utils import ProjectConfiguration

    from sgp_core.integrations.accelerate import GossipAccelerator

    def build() -> Any:
        project = ProjectConfiguration(project_dir=folder, automatic_checkpoint_naming=True)
        return GossipAccelerator(cpu=True, dataloader_config=seedable(), gossip=STAR, project_config=project)

    accelerator = build()
    parts = set_up(accelerator)
    loop(accelerator, parts, range(3))
    own, random = weights_of(parts[0]), torch.get_rng_state()
    average = dict(accelerator.get_state_dict(parts[0]))
    with accelerator.averaged(), accelerator.averaged():
        seen = weights_of(parts[0])
    back = weights_of(parts[0])
    torch.set_rng_state(random)
    accelerator.save_state()
    loop(accelerator, parts, range(3, 6))
    whole, gossip = weights_of(parts[0]), accelerator.gossip

    accelerator = build()
    parts = set_up(accelerator, model=build_model(seed=7))
    accelerator.load_state()
    loop(accelerator, parts, range(3, 6))
    resumed = weights_of(parts[0])
    accelerator.finish_gossip()
    with pytest.raises(ConfigurationError, match=r"give prepare\(\) the model and the optimizer"):
        accelerator.backward(torch.zeros(1))
    return {
        "own": own,
        "average": average,
        "inside": seen,
        "back": back,
        "whole": whole,
        "resumed": resumed,
        "finished": weights_of(parts[0]),
        "weight": gossip.push_sum_weight,
        "step": gossip.step,
        "files": sorted(path.name for path in Path(folder, "checkpoints", "checkpoint_0").iterdir()),
    }


def join() -> dict[str, Any]:
    """Let workers run out of batches at different times."""
    from sgp_core.integrations.accelerate import GossipAccelerator

    accelerator = GossipAccelerator(cpu=True, gossip={"algorithm": "sgp", "topology": "ring"})
    parts = set_up(accelerator, count=3 * 10)  # ten batches for four workers
    with accelerator.join_uneven_inputs([parts[0]], even_batches=False):
        own = len(loop(accelerator, parts, range(99)))
    even = parts[2].batch_sampler.even_batches
    return {"own": own, "steps": accelerator.gossip.step, "even": even, "weight": accelerator.gossip.push_sum_weight}


def train_two(folder: str) -> dict[str, Any]:
    """Let two models gossip, each by itself, and a third rest that no optimizer steps over."""
    from sgp_core.integrations.accelerate import GossipAccelerator

    def build() -> tuple[Any, ...]:
        accelerator = GossipAccelerator(cpu=True, gossip={"algorithm": "dpsgd", "topology": "ring"})
        models = [build_model(seed) for seed in range(3)]
        optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models[:2]]
        return accelerator, *accelerator.prepare(*models, *optimizers)

    accelerator, one, two, third, *optimizers = build()
    torch.manual_seed(dist.get_rank())
    inputs = torch.randn(5, 4, dtype=torch.float64)
    for _ in range(2):
        for model, optimizer in zip((one, two), optimizers, strict=True):
            accelerator.backward(LOSS(model(inputs), third.eval()(inputs).detach()))
            optimizer.step()
            optimizer.zero_grad()
    accelerator.save_state(folder)
    kept = [weights_of(model) for model in (one, two)]
    accelerator.free_memory()
    accelerator, one, two, third, *optimizers = build()
    accelerator.load_state(folder)
    return {"kept": kept, "loaded": [weights_of(model) for model in (one, two)], "third": weights_of(third)}


def compile_the_model() -> dict[str, Any]:
    """Train a compiled model, and one that is not."""
    from accelerate.test_utils.testing import AccelerateTestCase

    from sgp_core.integrations.accelerate import GossipAccelerator

    found: dict[str, Any] = {}
    for backend in ("no", "eager"):
        AccelerateTestCase().tearDown()  # accelerate allows one compiler in a process
        choices: dict[str, Any] = {"gradient_accumulation_steps": 2, "gossip": {"algorithm": "allreduce"}}
        accelerator = GossipAccelerator(cpu=True, dynamo_backend=backend, dataloader_config=seedable(), **choices)
        parts = set_up(accelerator)
        loop(accelerator, parts, range(4))
        keys = list(accelerator.get_state_dict(parts[0]))
        found[backend] = {"kind": type(parts[0]).__name__, "weights": weights_of(accelerator.unwrap_model(parts[0]))}
        found[backend]["keys"] = keys
    return found


def be_refused() -> list[str]:
    """Do what cannot work; return what is said."""
    from accelerate import Accelerator

    from sgp_core.integrations.accelerate import GossipAccelerator

    said = []
    accelerator = GossipAccelerator(cpu=True, gossip="sgp")
    model = accelerator.prepare(build_model())
    with pytest.raises(ConfigurationError) as refused:
        accelerator.backward(model(torch.zeros(2, 4, dtype=torch.float64)).sum())
    said.append(str(refused.value))
    backward = {"algorithm": "sgp", "topology": "ring", "step_in_backward": True, "max_norm": 1.0}
    accelerator = GossipAccelerator(cpu=True, gossip=backward)
    model, *_ = set_up(accelerator)
    assert accelerator.clip_grad_norm_(model.parameters(), 1.0).isnan()
    with pytest.raises(ConfigurationError) as refused:
        accelerator.clip_grad_norm_(model.parameters(), 2.0)
    said.append(str(refused.value))
    with accelerator.averaged(), pytest.raises(ConfigurationError) as refused:
        accelerator.save_state("nowhere")
    said.append(str(refused.value))
    accelerator = GossipAccelerator(cpu=True, gossip="sgp")
    wrapped, optimizer = Accelerator(cpu=True).prepare(model := build_model(), torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(ConfigurationError) as refused:
        accelerator.prepare(wrapped, optimizer)
    said.append(str(refused.value))
    return said


def use_accelerators(folder: str) -> dict[str, Any]:
    """Do all of it, one after the other, in the same workers."""
    set_environment()
    return {
        "ddp": act_as_ddp_does(),
        "resume": stop_and_resume(f"{folder}/project"),
        "join": join(),
        "two": train_two(f"{folder}/two"),
        "said": be_refused(),
        "compiled": compile_the_model(),
    }


def close_to(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest difference of two state dicts."""
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)
