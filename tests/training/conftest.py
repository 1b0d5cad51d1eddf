"""What tests of training share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.training import tiny


@pytest.fixture(autouse=True)
def tiny_choices() -> Iterator[None]:
    """The tiny data set and model are registered while a test runs, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tiny.known():
        yield
    torch.set_num_threads(threads)
