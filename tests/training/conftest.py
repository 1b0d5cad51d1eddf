"""What tests of training share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.support.workers import _CONTEXT
from tests.training import tiny

# The first optimizer of a process imports torch._dynamo, which takes longer than all of these runs.
_CONTEXT.set_forkserver_preload(["torch", "torch._dynamo", "sgp_core.gossip", "sgp_core.training.loop"])


@pytest.fixture(autouse=True)
def tiny_choices() -> Iterator[None]:
    """The tiny data set and model are registered while a test runs, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tiny.known():
        yield
    torch.set_num_threads(threads)
