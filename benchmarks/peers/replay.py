"""Row `replay` of the training benchmark: RePlay's SasRec with its full cross-entropy, CE.

RePlay's own Python runs it with -P. The argument is a Request as JSON; the last line printed is the result as JSON. The
clock runs from the end of the last warm-up batch to the end of a batch, over everything that RePlay does in between:
Parquet loader, transforms, Lightning's loop, optimiser. The option "buckets" wraps the encoder in RePlay's own
LengthBucketedQueryEncoder.
"""

import json
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from time import process_time

import lightning
import pandas as pd
import torch
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.sequential import SasRec
from replay.nn.sequential.length_bucket import LengthBucketedQueryEncoder
from replay.nn.transform.template import make_default_sasrec_transforms

MEASURED = 0
"""Exit code of a process that ends itself because it has measured enough."""
BUCKET = 16
"""Rows of a length bucket. Chosen by hand."""


class Clock(lightning.Callback):
    """Counts the targets of every batch after the warm-up, and ends the process once there are enough."""

    def __init__(self, request, classes):
        self.request, self.classes, self.batches, self.targets, self.began = request, classes, 0, 0, 0.0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        """Count this batch."""
        self.batches += 1
        if self.batches > self.request["warm_up"]:
            # A position is a target where its input is real too: the first real input of a user has none before it.
            real = batch["target_padding_mask"][..., 0] & batch["padding_mask"]
            self.targets += int(real.sum())
        elif self.batches == self.request["warm_up"]:
            self.began = process_time()
        if self.targets >= self.request["targets"]:
            seconds = process_time() - self.began
            steps = self.batches - self.request["warm_up"]
            result = {"targets": self.targets, "cpu_seconds": seconds, "steps": steps, "classes": self.classes}
            print(json.dumps({**result, "versions": {"replay-rec": version("replay-rec"), "torch": torch.__version__}}))
            sys.exit(MEASURED)


def main():
    """Train until the clock ends the process."""
    request = json.loads(sys.argv[1])
    shape = request["shape"]
    torch.set_num_threads(1)
    torch.manual_seed(request["seed"])
    warnings.simplefilter("ignore")
    events = pd.read_csv(request["events"]).sort_values(["user", "pos"])
    codes, names = pd.factorize(events["item"], sort=True)
    sequences = events.assign(item_id=codes).groupby("user")["item_id"].agg(list)
    # The loader takes a list's first events, so keep only the last ones.
    sequences = sequences[sequences.map(len) > 1].map(lambda items: items[-(shape["length"] + 1) :])
    schema = TensorSchema(
        [
            TensorFeatureInfo(
                "item_id",
                is_seq=True,
                feature_type=FeatureType.CATEGORICAL,
                embedding_dim=shape["dimension"],
                padding_value=len(names),
                cardinality=len(names),
                feature_hint=FeatureHint.ITEM_ID,
                feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
            )
        ]
    )
    model = SasRec.from_params(
        schema=schema,
        embedding_dim=shape["dimension"],
        num_heads=shape["heads"],
        num_blocks=shape["blocks"],
        max_sequence_length=shape["length"],
        dropout=shape["dropout"],
    )
    if request["option"] == "buckets":
        model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, bucket_size=BUCKET)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "train.parquet")
        pd.DataFrame({"item_id": sequences}).to_parquet(path, index=False)
        data = ParquetModule(
            batch_size=request["batch_size"],
            metadata={"train": {"item_id": {"shape": shape["length"] + 1, "padding": len(names)}}},
            transforms={"train": make_default_sasrec_transforms(schema)["train"]},
            train_path=path,
        )
        trainer = lightning.Trainer(
            max_epochs=1000,  # more than any measurement takes
            accelerator="cpu",
            devices=1,
            precision="bf16-mixed" if request["precision"] == "bf16" else "32-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            callbacks=[Clock(request, len(names))],
        )
        optimizer = OptimizerFactory(learning_rate=shape["learning_rate"])
        trainer.fit(LightningModule(model, optimizer_factory=optimizer), datamodule=data)


if __name__ == "__main__":
    main()
