"""FSDP2 inside each node, gossip between nodes. torchrun --nproc-per-node=4 docs/examples/nodes.py"""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import sgp_core

if not dist.is_initialized():
    dist.init_process_group("gloo")
node_size = 2
nodes = dist.get_world_size() // node_size
mesh = init_device_mesh("cpu", (nodes, node_size), mesh_dim_names=("gossip", "node"))

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 1))
for layer in model:
    fully_shard(layer, mesh=mesh["node"])  # leave this out, and every worker holds the whole model: the same numbers
fully_shard(model, mesh=mesh["node"])
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
gossip = sgp_core.Gossip(
    model,
    optimizer,
    algorithm=sgp_core.build_algorithm("sgp"),
    topology=sgp_core.build_topology("one_peer_exponential", world_size=nodes),
    node_size=node_size,
)

generator = torch.Generator().manual_seed(dist.get_rank())  # every worker its own examples
for _ in range(200):
    inputs = torch.randn(32, 20, generator=generator)
    nn.functional.mse_loss(model(inputs), inputs[:, :2].sum(1, keepdim=True).tanh()).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()

with gossip.averaged(), torch.no_grad():
    inputs = torch.randn(512, 20, generator=torch.Generator().manual_seed(99))
    loss = nn.functional.mse_loss(model(inputs), inputs[:, :2].sum(1, keepdim=True).tanh())
if dist.get_rank() == 0:
    print(f"{nodes} nodes of {node_size} workers: loss {loss:.3f}, {gossip.bytes_sent} bytes to other nodes")
