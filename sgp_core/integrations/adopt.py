"""The end of a training: every worker's model becomes the average."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn

from sgp_core.gossip import Gossip


def adopt_average(model: nn.Module, gossip: Gossip) -> None:
    """Let every worker's model, buffers included, be the average from now on, and close ``gossip``. Collective."""
    gossip.finish()
    with gossip.averaged(), torch.no_grad():
        average = [each.detach().clone() for each in chain(model.parameters(), model.buffers())]
    gossip.close()
    with torch.no_grad():
        for own, mean in zip(chain(model.parameters(), model.buffers()), average, strict=True):
            own.copy_(mean)
