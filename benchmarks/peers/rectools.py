"""Row `rectools` of the training benchmark: SASRecModel of RecTools with its softmax loss.

RecTools' own Python runs it with -P. The argument is a Request as JSON; the last line printed is the result as JSON.
The clock runs from the end of the last warm-up batch to the end of a batch, over everything that RecTools does in
between: loader, collation, Lightning's loop, optimiser.
"""

import json
import sys
import warnings
from importlib.metadata import version
from time import process_time

import pandas as pd
import pytorch_lightning as lightning
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

MEASURED = 0
"""Exit code of a process that ends itself because it has measured enough."""


class Clock(lightning.Callback):
    """Counts the targets of every batch after the warm-up, and ends the process once there are enough."""

    def __init__(self, request):
        self.request, self.batches, self.targets, self.began = request, 0, 0, 0.0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        """Count this batch."""
        self.batches += 1
        if self.batches > self.request["warm_up"]:
            self.targets += int(((batch["y"] > 0) & (batch["yw"] > 0)).sum())
        elif self.batches == self.request["warm_up"]:
            self.began = process_time()
        if self.targets >= self.request["targets"]:
            seconds = process_time() - self.began
            steps = self.batches - self.request["warm_up"]
            # The table has a row for each item and one for padding.
            classes = module.torch_model.item_model.get_all_embeddings().shape[0]
            result = {"targets": self.targets, "cpu_seconds": seconds, "steps": steps, "classes": classes}
            print(json.dumps({**result, "versions": {"rectools": version("rectools"), "torch": torch.__version__}}))
            sys.exit(MEASURED)


def main():
    """Train until the clock ends the process."""
    request = json.loads(sys.argv[1])
    shape = request["shape"]
    torch.set_num_threads(1)
    torch.manual_seed(request["seed"])
    warnings.simplefilter("ignore")
    events = pd.read_csv(request["events"])
    interactions = pd.DataFrame(
        {
            Columns.User: events["user"],
            Columns.Item: events["item"],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(events["pos"], unit="s"),
        }
    )

    def trainer():
        # More epochs than any measurement takes.
        return lightning.Trainer(
            max_epochs=1000,
            accelerator="cpu",
            devices=1,
            precision="bf16-mixed" if request["precision"] == "bf16" else "32-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Clock(request)],
        )

    model = SASRecModel(
        n_blocks=shape["blocks"],
        n_heads=shape["heads"],
        n_factors=shape["dimension"],
        session_max_len=shape["length"],
        dropout_rate=shape["dropout"],
        loss="softmax",
        lr=shape["learning_rate"],
        batch_size=request["batch_size"],
        dataloader_num_workers=0,
        get_trainer_func=trainer,
    )
    model.fit(Dataset.construct(interactions))


if __name__ == "__main__":
    main()
