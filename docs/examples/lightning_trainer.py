"""Four workers gossip, and go on if started again: [torchrun --nproc-per-node 4] lightning_trainer.py EPOCHS"""

import gzip
import sys
from importlib.resources import files

import torch
from lightning.pytorch import LightningModule, Trainer, callbacks
from torch import nn
from torch.utils.data import DataLoader

from sgp_core.integrations.lightning import GossipStrategy


class Verses(LightningModule):
    """Predicts the next byte of 64."""

    def configure_model(self):
        self.embed, self.head = nn.Embedding(256, 64), nn.Linear(64, 256)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, 0.1, batch_first=True), 2)

    def training_step(self, text, _, name="loss"):
        hidden = self.layers(self.embed(text[:, :-1]), nn.Transformer.generate_square_subsequent_mask(64))
        loss = nn.functional.cross_entropy(self.head(hidden).flatten(0, 1), text[:, 1:].flatten())
        self.log(name, loss, sync_dist=True, prog_bar=True)
        return loss

    def validation_step(self, text, _):
        self.training_step(text, _, "val_loss")  # of the average of all workers

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


parts = [files("sgp_core.tasks.text") / f"verses/{part}.en.gz" for part in ("train", "val")]
texts = [torch.tensor(list(gzip.decompress(part.read_bytes()))).unfold(0, 65, 64) for part in parts]
keep = callbacks.ModelCheckpoint("checkpoints", save_last=True)
strategy = GossipStrategy("sgp", topology="one_peer_exponential")
trainer = Trainer(strategy=strategy, accelerator="cpu", devices=4, max_epochs=int(sys.argv[1]), callbacks=keep)
trainer.fit(Verses(), DataLoader(texts[0], 16, shuffle=True), DataLoader(texts[1], 16), ckpt_path="last")
