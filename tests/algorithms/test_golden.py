"""No algorithm changes unnoticed."""

from __future__ import annotations

import json

import pytest
import torch

from tests.algorithms.golden import FOLDER, names, trajectory


@pytest.mark.parametrize("name", names())
def test_the_trajectory_is_the_remembered_one(name):
    remembered = json.loads((FOLDER / f"{name}.json").read_text())
    now = trajectory(name)
    for key in ("z", "w"):
        torch.testing.assert_close(
            torch.tensor(now[key], dtype=torch.float64),
            torch.tensor(remembered[key], dtype=torch.float64),
            rtol=0,
            atol=1e-13,
        )
