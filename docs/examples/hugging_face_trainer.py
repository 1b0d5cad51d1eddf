"""A small GPT-2 from scratch on the bytes of a text, with four workers that gossip.

torchrun --nproc-per-node 4 docs/examples/hugging_face_trainer.py --use_cpu --output_dir out --learning_rate 3e-3
"""

import gzip
from importlib.resources import files

import torch
from transformers import GPT2Config, GPT2LMHeadModel, HfArgumentParser, TrainingArguments

from sgp_core.integrations.transformers import GossipTrainer, last_complete_checkpoint


def windows(split: str, length: int = 64) -> list[dict[str, torch.Tensor]]:
    """Return the English verses that this package ships, byte for byte, cut into pieces of equal length."""
    text = gzip.decompress((files("sgp_core.tasks.text") / "verses" / f"{split}.en.gz").read_bytes())
    pieces = torch.frombuffer(bytearray(text), dtype=torch.uint8).long().unfold(0, length, length)
    return [{"input_ids": piece, "labels": piece} for piece in pieces]


(arguments,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
config = GPT2Config(vocab_size=256, n_embd=64, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=None)
trainer = GossipTrainer(
    model=GPT2LMHeadModel(config),
    args=arguments,
    train_dataset=windows("train"),
    eval_dataset=windows("val"),
    gossip={"algorithm": "sgp", "topology": "one_peer_exponential"},
)
trainer.train(resume_from_checkpoint=last_complete_checkpoint(arguments.output_dir))  # goes on where it was stopped
loss = trainer.evaluate()["eval_loss"]  # of the average, which is the model of every worker from here on
if trainer.is_world_process_zero():
    print(f"{trainer.state.global_step} steps: {loss / torch.log(torch.tensor(2)):.3f} bits per byte")
trainer.save_model()
