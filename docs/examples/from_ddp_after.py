"""The same with gossip: torchrun --nproc-per-node 4 docs/examples/from_ddp_after.py"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import sgp_core

dist.init_process_group("gloo")
images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
data = TensorDataset(images.float() / 16, labels)
sampler = DistributedSampler(data)
loader = DataLoader(data, batch_size=32, sampler=sampler)

model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
gossip = sgp_core.Gossip(model, optimizer, algorithm="sgp", topology="one_peer_exponential")

for epoch in range(4):
    sampler.set_epoch(epoch)
    for inputs, targets in loader:
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

with torch.no_grad(), gossip.averaged():  # every rank
    found = (model(data.tensors[0]).argmax(1) == labels).float().mean().item()
weights = gossip.averaged_state_dict()  # every rank
if dist.get_rank() == 0:
    print(f"accuracy {found:.3f}")
    torch.save(weights, "model.pt")
