"""Exports the averaged model as a plain state dict, which loads without this project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sgp_core.atomic_files import write_json
from sgp_core.errors import ConfigurationError
from sgp_core.tasks.kinds import TASKS, TaskKind
from sgp_core.tensors.files import write_tensors
from sgp_core.tensors.flat_storage import CUDA_ALIGNMENT_BYTES, FlatStorage
from sgp_core.training.checkpoint import CheckpointError, CheckpointStore, Manifest
from sgp_core.training.config import Experiment, choice, registry

if TYPE_CHECKING:
    from sgp_core.tasks.base import Task
    from sgp_core.training.assembly import TrainingParts


def export_model(model: nn.Module, path: Path, description: dict[str, Any]) -> None:
    """Write ``model.state_dict()`` to ``path`` (safetensors) and ``description`` beside it as JSON, each atomically.

    Tensors are written contiguous and each on its own: tied parameters appear under every one of their names, so
    ``other.load_state_dict(safetensors.torch.load_file(path))`` works for any equal module.
    """
    export_state(model.state_dict(), path, description)


def export_state(state: Mapping[str, Tensor], path: Path, description: dict[str, Any]) -> None:
    """Write a state dict as :func:`export_model` does.

    Raises:
        ConfigurationError: a tensor holds nan.
    """
    for name, tensor in state.items():
        if tensor.is_floating_point() and bool(torch.isnan(tensor).any()):
            raise ConfigurationError(f"{name} of the model holds nan, so it is not written to {path}")
    write_tensors(path, state)
    write_json(path.with_suffix(".json"), description, durable=True)


def describe(
    experiment: Experiment,
    kind: TaskKind,
    task: Task,
    step: int,
    scores: Mapping[str, Any],
    tests: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the facts that are needed to rebuild an exported model, and its scores."""
    chosen = experiment.to_dict()
    return {
        "kind": kind.name,
        "model": chosen["model"],
        "dataset": chosen["dataset"].get("name"),
        **task.describe(),
        "step": step,
        "scores": {
            name: value for name, value in scores.items() if any(metric.name in name for metric in kind.metrics)
        },
        **({"test": dict(tests)} if tests else {}),
    }


def export_run(
    directory: Path,
    experiment: Experiment,
    parts: TrainingParts,
    step: int,
    scores: Mapping[str, Any],
    tests: Mapping[str, Any],
) -> None:
    """Write the model that a worker holds, and what it needs, into a run's folder."""
    description = describe(experiment, parts.chosen.kind, parts.task, step, scores, tests)
    export_model(parts.model, directory / "model.safetensors", description)
    parts.task.export(directory)


def export_checkpoint(
    directory: Path, experiment: Experiment, manifests: Sequence[Manifest], path: Path, scores: Mapping[str, Any]
) -> None:
    """Write the averaged model of a checkpoint in ``directory``, as training itself does at its end.

    No worker is started. The data set is opened, since a model's shape follows from it.

    Args:
        manifests: of the checkpoint; of several, the newest first, the mean of their averaged models is written.
        scores: of that model, by the validation set.

    Raises:
        ConfigurationError: the checkpoint is damaged or another experiment's, or the data set is not there.
    """
    store = CheckpointStore(directory, experiment.world_size, experiment.fingerprint())
    for manifest in manifests:
        store.check(manifest)
    name, options = choice(experiment.dataset)
    dataset = registry("dataset").build(name, **options)
    task: Task = dataset.load()
    model = _build_untrained(experiment, task)
    try:
        state = mean_of_checkpoints(store, manifests, model, experiment.node_size)
    except CheckpointError as error:
        others = [str(other.step) for other in store.manifests() if other not in manifests]
        instead = f"; other checkpoints: step {', '.join(others)}" if others else ""
        raise ConfigurationError(f"{error}{instead}") from error
    description = describe(experiment, TASKS.get(dataset.task)(), task, manifests[0].step, scores)
    if len(manifests) > 1:
        description["averaged_steps"] = [manifest.step for manifest in manifests]
    export_state(state, path, description)
    task.export(path.parent)


@torch.no_grad()
def mean_of_checkpoints(
    store: CheckpointStore, manifests: Sequence[Manifest], model: nn.Module, node_size: int = 1
) -> dict[str, Tensor]:
    """Return the mean over checkpoints of the averages that :func:`averaged_state` forms, as a state dict.

    Every checkpoint counts the same (Vaswani et al. 2017, section 6.1, who take the last 5 or 20). What is not floating
    point, such as a count of batches, is that of the newest. Besides ``model`` one sum of its size and one worker's
    file are in memory, however many checkpoints there are.

    Args:
        manifests: one or more, the newest first.
        model: as for :func:`averaged_state`, whose errors are raised.
    """
    mean: dict[str, Tensor] = {}
    for manifest in manifests:
        state = averaged_state(store, manifest, model, node_size)
        if len(manifests) == 1:
            return state
        for name, tensor in state.items():
            if name not in mean:
                mean[name] = tensor.clone()
            elif tensor.is_floating_point():
                mean[name] += tensor
    return {name: sum_ / len(manifests) if sum_.is_floating_point() else sum_ for name, sum_ in mean.items()}


@torch.no_grad()
def averaged_state(
    store: CheckpointStore, manifest: Manifest, model: nn.Module, node_size: int = 1
) -> dict[str, Tensor]:
    """Return the state dict of the network-wide average that a checkpoint holds, as ``gossip.averaged()`` forms it.

    Numerators ``w_i z_i`` and buffers are summed over the workers and divided by their number, without processes: one
    worker's file is in memory at a time, or one model that the workers of a node have a shard of each.

    Args:
        model: built as for training; it lends names and layout, and holds the average afterwards.
        node_size: workers of a node.

    Raises:
        CheckpointError: a file is missing or damaged.
        ConfigurationError: the checkpoint is of another model.
    """
    storage = FlatStorage(parameter for parameter in model.parameters() if parameter.requires_grad)
    storage.flat.zero_()
    buffers = dict(model.named_buffers())
    summed = {name: torch.zeros_like(buffer, dtype=torch.float64) for name, buffer in buffers.items()}
    shards: list[list[Tensor]] = []
    for rank, shard in enumerate(_shards(store, manifest, node_size)):
        worker = shard["gossip"]
        shards.append(worker["parameters"])
        if len(shards) == node_size:
            whole = [torch.cat(parts) for parts in zip(*shards, strict=True)] if node_size > 1 else shards[0]
            shards.clear()
            pieces = _fit_pieces(whole, storage, node_size, gaps=worker["device"] == "cuda")
            if pieces is None:
                raise ConfigurationError(f"{store.step_folder(manifest.step)} is a checkpoint of another model")
            for total, z in zip(storage.flat.tensors, pieces, strict=True):
                total.add_(z.mul_(worker["push_sum_weight"]))
        if shard["buffers"].keys() != buffers.keys():
            raise ConfigurationError(f"{store.step_folder(manifest.step)} is a checkpoint of another model")
        for name, buffer in shard["buffers"].items():
            summed[name] += buffer
            if rank == 0:
                buffers[name].copy_(buffer)
    for total in storage.flat.tensors:
        total.div_(manifest.world_size // node_size)
    for name, buffer in buffers.items():
        if buffer.dtype != torch.bool:  # flags have no mean: those of rank 0 stay
            mean = summed[name].div_(manifest.world_size)
            buffer.copy_(mean if buffer.is_floating_point() else mean.round())
    return model.state_dict()


def _shards(store: CheckpointStore, manifest: Manifest, node_size: int) -> Iterator[dict[str, Any]]:
    """Yield what each worker saved, by rank; virtual workers have saved it all together."""
    if len(manifest.shards) == manifest.world_size > 1:
        yield from (store.read_shard(manifest, rank) for rank in range(manifest.world_size))
        return
    state = store.read_shard(manifest, 0)
    gossip = state["gossip"]
    if "worker_buffers" not in gossip:
        yield state
        return
    for rank in range(manifest.world_size):
        row, place = divmod(rank, node_size)
        yield {
            "gossip": {
                "parameters": [gossip["parameters"][0][row].chunk(node_size)[place]],
                "push_sum_weight": float(gossip["push_sum_weight"][row]),
                "device": gossip["device"],
            },
            "buffers": {name: stack[rank] for name, stack in gossip["worker_buffers"].items()},
        }


def _build_untrained(experiment: Experiment, task: Task) -> nn.Module:
    """Return the model as every worker built it: same names, same layout, same frozen parameters."""
    name, options = choice(experiment.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        model = task.build(registry("model").build(name, **options))
    return model.to(memory_format=torch.channels_last) if experiment.training.channels_last else model


def _fit_pieces(saved: list[Tensor], storage: FlatStorage, parts: int, *, gaps: bool) -> list[Tensor] | None:
    """Return saved pieces in the layout of ``storage``, None if they are of another model.

    Workers on CUDA leave gaps between parameters, and those of a node zeros at the end; a model on the CPU that is
    alone has neither.
    """
    mine = storage.flat.tensors
    if [piece.dtype for piece in saved] != [piece.dtype for piece in mine]:
        return None
    pieces = []
    for piece, like in zip(saved, mine, strict=True):
        sizes = [parameter.numel() for parameter in storage.parameters if parameter.dtype == like.dtype]
        packed = _pack(piece, sizes, max(1, CUDA_ALIGNMENT_BYTES // piece.element_size()) if gaps else 1, parts)
        if packed is None:
            return None
        pieces.append(packed)
    return pieces


def _pack(piece: Tensor, sizes: list[int], align: int, parts: int) -> Tensor | None:
    found, end = [], 0
    for size in sizes:
        begin = -(-end // align) * align
        end = begin + size
        found.append(piece[begin:end])
    cut = parts * align if parts > 1 else 1
    return torch.cat(found) if piece.numel() == -(-end // cut) * cut else None
