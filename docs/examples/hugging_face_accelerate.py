"""A small GPT-2 in a loop of your own, with accelerate. It saves to a folder, and goes on from what is there."""

import gzip
import sys
from importlib.resources import files
from pathlib import Path

import torch
from accelerate.utils import DataLoaderConfiguration, set_seed
from transformers import GPT2Config, GPT2LMHeadModel

from sgp_core.integrations.accelerate import GossipAccelerator

folder, steps = Path(sys.argv[1]), int(sys.argv[2])
set_seed(0)
accelerator = GossipAccelerator(
    cpu=not torch.cuda.is_available(),
    dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),  # an order that a resumed run finds again
    gossip={"algorithm": "sgp", "topology": "one_peer_exponential"},
)
text = gzip.decompress((files("sgp_core.tasks.text") / "verses" / "train.en.gz").read_bytes())
pieces = torch.frombuffer(bytearray(text), dtype=torch.uint8).long().unfold(0, 64, 64)
loader = torch.utils.data.DataLoader(pieces[100:], batch_size=8, shuffle=True, generator=torch.Generator())
model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_embd=48, n_layer=2, bos_token_id=None, eos_token_id=None))
model, optimizer, loader = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=3e-3), loader)
if folder.exists():
    accelerator.load_state(folder)  # each worker's own model, optimizer and PushSum weight
while (step := accelerator.gossip.step) < steps:
    loader.set_epoch(step // len(loader))
    for piece in accelerator.skip_first_batches(loader, step % len(loader)):
        accelerator.backward(model(piece, labels=piece).loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()  # gossip happens here
        optimizer.zero_grad()
        if accelerator.gossip.step == steps:
            break
accelerator.save_state(folder)
with accelerator.averaged(), torch.no_grad():
    held_out = pieces[:100].to(accelerator.device)
    accelerator.print(f"{steps} steps: loss of the average {model(held_out, labels=held_out).loss:.4f}")
