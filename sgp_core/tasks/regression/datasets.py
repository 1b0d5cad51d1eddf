"""The diabetes data of Efron et al. (2004), "Least Angle Regression": 442 patients, inside scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.tasks.datasets import DATASETS, Blueprint, Dataset
from sgp_core.tasks.regression.kind import TASK

if TYPE_CHECKING:
    from sgp_core.tasks.base import Task


@DATASETS.register("diabetes")
@dataclass(frozen=True)
class Diabetes(Dataset):
    """Ten measurements of a patient, and how far the disease has got a year later; all of mean 0 and variance 1."""

    task: ClassVar = TASK
    validation_examples: int = 88
    """Patients to validate on, drawn with a fixed seed; the other ones train."""

    def blueprint(self, batch_size: int) -> Blueprint:
        """Return the number of measurements."""
        return Blueprint({"features": 10}, (("float32", (batch_size, 10)),))

    def load(self) -> Task:
        """Read the data from the installed scikit-learn."""
        import torch
        from sklearn.datasets import load_diabetes

        from sgp_core.tasks.examples import TensorExamples
        from sgp_core.tasks.regression.task import Regression

        inputs, targets = (torch.from_numpy(part).double() for part in load_diabetes(return_X_y=True))
        inputs, targets = ((part - part.mean(0)).div(part.std(0)).float() for part in (inputs, targets))
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
        parts = order[self.validation_examples :], order[: self.validation_examples]
        train, validation = (TensorExamples(inputs[rows], targets[rows]) for rows in parts)
        return Regression(train, validation, inputs.shape[1])
