"""Handwritten digits with DistributedDataParallel: torchrun --nproc-per-node 4 docs/examples/from_ddp_before.py"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

dist.init_process_group("gloo")
images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
data = TensorDataset(images.float() / 16, labels)
sampler = DistributedSampler(data)
loader = DataLoader(data, batch_size=32, sampler=sampler)

model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
model = DistributedDataParallel(model)

for epoch in range(4):
    sampler.set_epoch(epoch)
    for inputs, targets in loader:
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

with torch.no_grad():
    found = (model(data.tensors[0]).argmax(1) == labels).float().mean().item()
if dist.get_rank() == 0:
    print(f"accuracy {found:.3f}")
    torch.save(model.module.state_dict(), "model.pt")
