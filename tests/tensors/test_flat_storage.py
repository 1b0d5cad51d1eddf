"""Flat storage: the parts that a model is cut into say themselves where they lie and which comes first and last."""

from __future__ import annotations

from itertools import repeat

import pytest
import torch
from torch import nn

from sgp_core.tensors.flat_storage import FlatStorage
from sgp_core.tensors.flat_vector import FlatVector


@pytest.mark.parametrize(("part_bytes", "parts"), [(1, 4), (40, 2), (10_000, 1)])
def test_the_first_and_the_last_part_of_a_model_are_marked(part_bytes, parts):
    storage = FlatStorage(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).parameters())
    cut = [part for _, part in storage.cut(repeat(part_bytes))]
    assert len(cut) == parts
    assert [part.first for part in cut] == [True, *[False] * (parts - 1)]
    assert [part.last for part in cut] == [*[False] * (parts - 1), True]
    assert all(part.is_part for part in cut)
    assert torch.cat([part.tensors[0] for part in cut]).equal(storage.flat.tensors[0])


def test_the_same_part_of_another_vector_carries_the_same_marks():
    vector, other = (FlatVector([torch.arange(6.0) * sign]) for sign in (1, -1))
    assert (vector.is_part, vector.first, vector.last) == (False, True, True)
    part = other.at(vector.part([(2, 6)], first=False, last=True))
    assert (part.is_part, part.first, part.last) == (True, False, True)
    assert part.tensors[0].tolist() == [-2.0, -3.0, -4.0, -5.0]
    assert other.at(vector) is other
