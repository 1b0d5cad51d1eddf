"""The second half of that run, with gossip: torchrun --nproc-per-node 4 docs/examples/from_fairscale_after.py"""

import os

import torch
import torch.distributed as dist
from torch import nn

from sgp_core.integrations.fairscale import attach, to_gossip

device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
examples = torch.Generator().manual_seed(dist.get_rank())
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
gossip = attach(
    model,
    optimizer,
    nprocs_per_node=1,
    slowmo_base_algorithm="sgp",
    slowmo_frequency=12,
    slowmo_momentum=0.5,
    imitate=True,  # in what fairscale does otherwise than published, too
)
to_gossip(gossip, model, optimizer, torch.load(f"fairscale-{dist.get_rank()}.pt", weights_only=True))

for step in range(60):
    inputs = torch.randn(16, 8, generator=examples).to(device)
    if step < gossip.step:
        continue  # the examples that fairscale has had
    nn.functional.mse_loss(model(inputs), inputs.sin().sum(1, keepdim=True)).backward()
    optimizer.step()
    optimizer.zero_grad()
found = [parameter.detach().cpu() for parameter in model.parameters()]
