"""Losses and gradients of all virtual workers: batched where that can be, else worker after worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from sgp_core.tasks.base import Batch
from sgp_core.training.virtual.models import VirtualModels

Criterion = Callable[[Tensor, Tensor], Tensor]
_CHUNK_BYTES = 2**25
"""Parameters that are computed with at a time, 32 MB: what stays near the cores, beside a few copies, is fast."""
_BATCHED_LAYERS = (nn.Linear, nn.Flatten, nn.Identity, nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.LayerNorm)
"""Layers that are faster with all workers at once; convolutions with weights of their own gain nothing."""


class VirtualGradients:
    """Computes into ``models.gradients``.

    Where the model is made of layers for which that is faster, has no buffers and draws no random numbers, and where
    workers have batches of equal shapes, one call computes with the models of many workers (``torch.func.vmap``). All
    else goes worker after worker, through the module itself, each with its own random numbers and buffers.

    Args:
        models: of all workers.
        criterion: the mean loss over targets.
        forward: returns the context of forward passes.
        seed_worker: seeds what a worker draws in the step that comes.
        batched: whether many workers may be computed at once.
    """

    def __init__(
        self,
        models: VirtualModels,
        criterion: Criterion,
        forward: Callable[[], AbstractContextManager[object]],
        seed_worker: Callable[[int], None],
        *,
        batched: bool = True,
    ) -> None:
        self._models = models
        self._criterion = criterion
        self._forward = forward
        self._seed_worker = seed_worker
        self._batched = batched and not models.buffers and _suits(models.model)
        names = {id(parameter): name for name, parameter in models.model.named_parameters()}
        self._names = [names[id(parameter)] for parameter in models.parameters]
        self._chunk = max(1, _CHUNK_BYTES // max(1, models.z[0].nbytes))

    def __call__(self, batches: Sequence[Batch], parts: int, workers: Sequence[int] | None = None) -> Tensor:
        """Set the gradients to those of workers' batches; return their losses, float64, one for each batch.

        Args:
            batches: one for each of ``workers``.
            parts: that a batch is computed in.
            workers: None: all of them.
        """
        if workers is None:
            workers = range(self._models.workers)
            self._models.gradients.zero_()
        else:
            self._clear(workers)
        losses = torch.zeros(len(batches), dtype=torch.float64, device=self._models.z.device)
        if self._batched:
            try:
                self._at_once(batches, parts, workers, losses)
                return losses
            except (RuntimeError, NotImplementedError, ValueError) as error:  # random numbers, branches on values
                logging.getLogger(__name__).warning("virtual workers are computed one after another, since: %s", error)
                self._batched = False
                self._clear(workers)
                losses.zero_()
        self._in_turn(batches, parts, workers, losses)
        return losses

    def _clear(self, workers: Sequence[int]) -> None:
        for worker in workers:
            self._models.gradients[worker // self._models.node_size].zero_()

    # -- worker after worker -------------------------------------------------------------------------------------------
    def _in_turn(self, batches: Sequence[Batch], parts: int, workers: Sequence[int], losses: Tensor) -> None:
        models = self._models
        with models.each(workers) as turns:
            for number, worker in enumerate(turns):
                self._seed_worker(worker)
                batch = batches[number]
                for part in batch.split(min(parts, len(batch))):
                    with self._forward():
                        outputs = models.model(*part.inputs)
                        loss = self._criterion(outputs, part.targets) * (part.count / batch.count)
                    losses[number] += loss.detach()
                    (loss / models.node_size if models.node_size > 1 else loss).backward()

    # -- many at once --------------------------------------------------------------------------------------------------
    def _at_once(self, batches: Sequence[Batch], parts: int, workers: Sequence[int], losses: Tensor) -> None:
        split = [list(batch.split(min(parts, len(batch)))) for batch in batches]
        for number in range(max(map(len, split))):
            shapes: dict[object, list[int]] = {}
            for at, parts_of_one in enumerate(split):
                if number < len(parts_of_one):
                    part = parts_of_one[number]
                    key = (part.targets.shape, *(tensor.shape for tensor in part.inputs))
                    shapes.setdefault(key, []).append(at)
            for alike in shapes.values():
                for chunk in _chunks(alike, self._chunk):
                    self._chunk_at_once(
                        [split[at][number] for at in chunk],
                        [split[at][number].count / batches[at].count for at in chunk],
                        [workers[at] for at in chunk],
                        chunk,
                        losses,
                    )

    def _chunk_at_once(
        self, parts: list[Batch], shares: list[float], workers: list[int], at: list[int], losses: Tensor
    ) -> None:
        from torch.func import functional_call, grad_and_value, vmap  # which workers that are processes do not need

        models = self._models
        inputs = tuple(torch.stack(tensors) for tensors in zip(*(part.inputs for part in parts), strict=True))
        targets = torch.stack([part.targets for part in parts])
        whole = models.node_size == 1 and workers[-1] - workers[0] + 1 == len(workers)
        rows = torch.tensor([worker // models.node_size for worker in workers], device=models.z.device)
        z = models.z[workers[0] : workers[-1] + 1] if whole else models.z[rows]
        parameters = dict(zip(self._names, models.views(z), strict=True))

        def loss_of(parameters: dict[str, Tensor], inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
            outputs = functional_call(models.model, parameters, inputs)
            return self._criterion(outputs, targets)

        with self._forward():
            found, values = vmap(grad_and_value(loss_of), randomness="error")(parameters, inputs, targets)
        share = torch.tensor(shares, dtype=torch.float64, device=z.device)
        losses[torch.tensor(at, device=z.device)] += values.detach().to(torch.float64) * share
        into = models.gradients[workers[0] : workers[-1] + 1] if whole else torch.zeros_like(z)
        scale = (share / models.node_size).to(z.dtype)
        for view, name in zip(models.views(into), self._names, strict=True):
            if all(each == 1.0 for each in shares) and models.node_size == 1:
                view.add_(found[name])
            else:
                view.addcmul_(found[name], scale.view(-1, *[1] * (view.dim() - 1)))
        if not whole:
            models.gradients.index_add_(0, rows, into)


def _suits(model: nn.Module) -> bool:
    """Whether every layer that holds parameters is one that is faster batched."""
    return all(
        isinstance(module, _BATCHED_LAYERS)
        for module in model.modules()
        if any(True for _ in module.parameters(recurse=False))
    )


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def first_not_finite(values: Tensor) -> int | None:
    """Return the first index at which a row of ``values``, ``[n]`` or ``[n, d]``, is not finite."""
    rows: Iterable[bool] = torch.isfinite(values).view(len(values), -1).all(1).tolist()
    return next((index for index, finite in enumerate(rows) if not finite), None)
