"""Row `replay` of the quality benchmark: RePlay's SasRec with full cross-entropy, stopped by validation.

RePlay's own Python runs it with -P. The argument is JSON with `train` and `asked` (CSV of user, item 1 … V, pos),
`validation` (.npy, each user's held-out item, 0 for none), `scores` (the .npy to write: float32 [users of `asked`,
V + 1]), `items`, `seed` and `hyperparameters`. It prints the validation curve as JSON.
"""

import copy
import json
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.sequential import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms

USERS = 256
"""Users scored at a time, as memory takes them. Chosen by hand."""


def histories(path):
    """Each user's items, minus one because RePlay counts from 0."""
    events = pd.read_csv(path).sort_values(["user", "pos"])
    return (events["item"] - 1).groupby(events["user"]).agg(list)


@torch.inference_mode()
def scores_of(model, asked, length, items):
    """Blocks of float32 [users, V + 1]. Column 0 is -inf."""
    model.eval()
    for first in range(0, len(asked), USERS):
        some = [one[-length:] for one in asked[first : first + USERS]]
        ids = torch.full((len(some), length), items)
        for row, one in enumerate(some):
            ids[row, length - len(one) :] = torch.tensor(one)
        logits = model.forward_inference({"item_id": ids}, ids != items)["logits"].float()
        yield torch.cat([torch.full((len(some), 1), -torch.inf), logits[:, :items]], dim=1).numpy()
    model.train()


def ndcg(model, asked, wanted, length, items):
    """NDCG@10 of the held-out items among the unseen ones. Ties count against the model."""
    total, first = 0.0, 0
    for block in scores_of(model, asked, length, items):
        for row, scores in enumerate(block):
            target = wanted[first + row]
            better = scores >= scores[target]
            better[[0, target]] = False
            better[np.array(asked[first + row]) + 1] = False
            rank = better.sum() + 1
            total += 1 / np.log2(1 + rank) if rank <= 10 else 0.0  # NDCG@10
        first += len(block)
    return total / len(asked)


class Judge(lightning.Callback):
    """Judges the model by validation NDCG@10 every few epochs, keeps the best weights, and stops without a gain."""

    def __init__(self, asked, wanted, hyperparameters, items):
        self.asked, self.wanted, self.hyperparameters, self.items = asked, wanted, hyperparameters, items
        self.curve, self.best = [], None

    def on_train_epoch_end(self, trainer, module):
        """Judge the model where it is time."""
        if (trainer.current_epoch + 1) % self.hyperparameters["judge_every"]:
            return
        self.curve.append(ndcg(module.model, self.asked, self.wanted, self.hyperparameters["length"], self.items))
        print(f"epoch {trainer.current_epoch + 1}: {self.curve[-1]:.4f}", file=sys.stderr, flush=True)
        best = int(np.argmax(self.curve))
        if best == len(self.curve) - 1:
            self.best = copy.deepcopy(module.model.state_dict())
        trainer.should_stop = len(self.curve) - 1 - best >= self.hyperparameters["patience"]


def main():
    """Train, then write the scores of all users."""
    request = json.loads(sys.argv[1])
    hyperparameters, items = request["hyperparameters"], request["items"]
    torch.set_num_threads(1)
    torch.manual_seed(request["seed"])
    warnings.simplefilter("ignore")
    train = histories(request["train"])
    wanted = np.load(request["validation"])
    judged = np.array([user for user in train.index if wanted[user] > 0])
    judged = np.random.default_rng(request["seed"]).permutation(judged)[: hyperparameters["judged_users"]]
    source = TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")
    item_id = TensorFeatureInfo(
        "item_id",
        is_seq=True,
        feature_type=FeatureType.CATEGORICAL,
        embedding_dim=hyperparameters["width"],
        padding_value=items,
        cardinality=items,
        feature_hint=FeatureHint.ITEM_ID,
        feature_sources=[source],
    )
    schema = TensorSchema([item_id])
    model = SasRec.from_params(
        schema=schema,
        embedding_dim=hyperparameters["width"],
        num_heads=hyperparameters["heads"],
        num_blocks=hyperparameters["blocks"],
        max_sequence_length=hyperparameters["length"],
        dropout=hyperparameters["dropout"],
    )
    longer = train[train.map(len) > 1].map(lambda one: one[-(hyperparameters["length"] + 1) :])
    judge = Judge([train[user] for user in judged], wanted[judged], hyperparameters, items)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "train.parquet")
        pd.DataFrame({"item_id": longer}).to_parquet(path, index=False)
        data = ParquetModule(
            batch_size=hyperparameters["batch_size"],
            metadata={"train": {"item_id": {"shape": hyperparameters["length"] + 1, "padding": items}}},
            transforms={"train": make_default_sasrec_transforms(schema)["train"]},
            train_path=path,
        )
        trainer = lightning.Trainer(
            max_epochs=hyperparameters["epochs"],
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            callbacks=[judge],
        )
        module = LightningModule(model, optimizer_factory=OptimizerFactory(learning_rate=hyperparameters["rate"]))
        trainer.fit(module, datamodule=data)
    if judge.best is not None:
        module.model.load_state_dict(judge.best)
    asked = histories(request["asked"]).tolist()
    out = np.lib.format.open_memmap(request["scores"], mode="w+", dtype=np.float32, shape=(len(asked), items + 1))
    first = 0
    for block in scores_of(module.model, asked, hyperparameters["length"], items):
        out[first : first + len(block)] = block
        first += len(block)
    out.flush()
    curve = [round(one, 5) for one in judge.curve]
    print(json.dumps({"curve": curve, "versions": {"replay-rec": version("replay-rec"), "torch": torch.__version__}}))


if __name__ == "__main__":
    main()
