"""Model FLOP utilisation: the useful operations per second, as a share of what the devices can do at most."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sgp_core.tasks.model_size import count_step_flops
from sgp_core.training.config import Precision, TrainingConfig

if TYPE_CHECKING:
    from sgp_core.training.assembly import TrainingParts

_TERA = 1e12
_PEAKS: tuple[tuple[str, dict[Precision, float]], ...] = (
    ("A100", {Precision.fp32: 19.5, Precision.bf16: 312}),
    ("H100 PCIe", {Precision.fp32: 51.2, Precision.bf16: 756.5}),
    ("H100 NVL", {Precision.fp32: 60, Precision.bf16: 835.5}),
    ("H100", {Precision.fp32: 66.9, Precision.bf16: 989.4}),
    ("H200 NVL", {Precision.fp32: 60, Precision.bf16: 835.5}),
    ("G?H200", {Precision.fp32: 66.9, Precision.bf16: 989.4}),
    ("B200", {Precision.bf16: 2250}),
    ("V100", {Precision.fp32: 15.7}),
    ("L4", {Precision.fp32: 30.3, Precision.bf16: 121}),
    ("L40S", {Precision.fp32: 91.6, Precision.bf16: 362}),
    ("A10", {Precision.fp32: 31.2, Precision.bf16: 125}),
)
"""Words in the name of a GPU, and its 10^12 operations per second with dense matrices, from the makers' data sheets."""


@dataclass(frozen=True)
class Utilisation:
    """What is needed to tell utilisation from speed.

    Attributes:
        flops_per_example: operations of forward and backward that the model needs; what is computed twice, as with
            activation checkpointing, counts once.
        peak: operations per second of one device.
    """

    flops_per_example: float
    peak: float

    def __call__(self, examples_per_s: float | None, devices: int) -> float | None:
        """Return the utilisation, 0 to 1, of ``devices`` that train on so many examples a second in all."""
        return None if examples_per_s is None else examples_per_s * self.flops_per_example / (devices * self.peak)


def utilisation_of(parts: TrainingParts, training: TrainingConfig, peak_tflops: float | None) -> Utilisation | None:
    """Return how to tell the utilisation of a run; None where the peak of its devices or its operations are unknown.

    A task counts the operations of an example; for tasks that do not, and have one target for each, torch does.

    Args:
        peak_tflops: 10^12 operations per second of one device; None: known for some GPUs.
    """
    if peak_tflops is None:
        peak_tflops = find_peak(next(parts.model.parameters()).device, training.precision)
    if peak_tflops is None:
        return None
    counted = parts.task.flops_per_example(parts.model)
    if counted is None and parts.chosen.kind.unit is None:
        counted = count_step_flops(parts.chosen.model, parts.chosen.dataset, 1)
    return None if counted is None else Utilisation(counted, peak_tflops * _TERA)


def find_peak(device: torch.device, precision: Precision) -> float | None:
    """Return the 10^12 operations per second that a device can do in an arithmetic; None where it is unknown."""
    if device.type != "cuda" or (precision is Precision.fp32 and torch.get_float32_matmul_precision() != "highest"):
        return None
    return peak_of_name(torch.cuda.get_device_name(device), precision)


def peak_of_name(name: str, precision: Precision) -> float | None:
    """Return the 10^12 operations per second of the GPU that CUDA calls ``name``."""
    for words, peaks in _PEAKS:
        if re.search(rf"\b{words}\b", name):
            return peaks.get(precision)
    return None
