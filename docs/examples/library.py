"""Stochastic Gradient Push in your own loop. Run it alone, or: torchrun --nproc-per-node=4 docs/examples/library.py"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset, random_split

import sgp_core

if dist.is_torchelastic_launched():  # started by torchrun; without it, a world of one
    dist.init_process_group("gloo")
rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
data = TensorDataset(images.float() / 16, labels)
training, validation = random_split(data, [0.8, 0.2], torch.Generator().manual_seed(0))
sampler = DistributedSampler(training, world_size, rank)  # the same number of batches on every worker
loader = DataLoader(training, batch_size=32, sampler=sampler)

model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
topology = sgp_core.build_topology("one_peer_exponential", world_size=world_size)
algorithm = sgp_core.build_algorithm("sgp")
gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology)

for epoch in range(10):
    sampler.set_epoch(epoch)
    for inputs, targets in loader:
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()  # gossip happens here
        optimizer.zero_grad()

distance = gossip.consensus_distance()
with gossip.averaged(), torch.no_grad():  # the network-wide average; each worker's own model comes back afterwards
    inputs, targets = validation[:]
    accuracy = (model(inputs).argmax(1) == targets).float().mean().item()
if rank == 0:
    print(f"{world_size} workers, {gossip.step} steps: accuracy {accuracy:.3f}, consensus distance {distance:.1e}")
