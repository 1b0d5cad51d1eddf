"""SlowMo over SGP with fairscale, on GPUs: torchrun --nproc-per-node 4 docs/examples/from_fairscale_before.py"""

import os

import torch
import torch.distributed as dist
from fairscale.experimental.nn.data_parallel import SlowMoDistributedDataParallel
from torch import nn

from sgp_core.integrations.fairscale import read_state  # the one line to add before the run is stopped

device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
examples = torch.Generator().manual_seed(dist.get_rank())
torch.manual_seed(1)  # fairscale does not give all ranks the same model
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).to(device)
wrapped = SlowMoDistributedDataParallel(
    model, nprocs_per_node=1, slowmo_base_algorithm="sgp", slowmo_frequency=12, slowmo_momentum=0.5
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

for step in range(60):
    if step == 30:
        torch.save(read_state(wrapped, optimizer), f"fairscale-{dist.get_rank()}.pt")  # every rank its own
    inputs = torch.randn(16, 8, generator=examples).to(device)
    nn.functional.mse_loss(wrapped(inputs), inputs.sin().sum(1, keepdim=True)).backward()
    optimizer.step()
    wrapped.perform_slowmo(optimizer)
    optimizer.zero_grad()
found = [parameter.detach().cpu() for parameter in model.parameters()]
