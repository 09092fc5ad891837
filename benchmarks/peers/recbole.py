"""Row `recbole` of the training benchmark: RecBole's SASRec with full cross-entropy.

RecBole's own Python runs it with -P. The argument is a Request as JSON; the last line printed is the result as JSON.
RecBole makes one training example of every prefix of a user's events, so an example of up to `length` positions has
one target: that is how it trains, and what is counted. The clock runs from the end of the last warm-up batch to the
end of a batch, over everything in RecBole's own epoch loop.
"""

import json
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from time import process_time

import pandas as pd
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

NAME = "measured"


class Clock:
    """Passes the training batches on, and ends the process once enough targets are trained after the warm-up."""

    def __init__(self, batches, request, classes):
        self.batches, self.request, self.classes, self.shuffle = batches, request, classes, False

    def __iter__(self):
        trained, done = 0, 0
        while True:
            for batch in self.batches:
                if trained == self.request["warm_up"]:
                    began = process_time()
                yield batch
                trained += 1
                done += len(batch) if trained > self.request["warm_up"] else 0
                if done >= self.request["targets"]:
                    seconds = process_time() - began
                    steps = trained - self.request["warm_up"]
                    result = {"targets": done, "cpu_seconds": seconds, "steps": steps, "classes": self.classes}
                    versions = {"recbole": version("recbole"), "torch": torch.__version__}
                    print(json.dumps({**result, "versions": versions}))
                    sys.exit(0)


def main():
    """Train until the clock ends the process."""
    request = json.loads(sys.argv[1])
    shape = request["shape"]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    events = pd.read_csv(request["events"]).sort_values(["user", "pos"])
    last = events.groupby("user").tail(1)
    # RecBole holds each user's last two events out, but all given events are training data: add two more.
    more = [last.assign(pos=last["pos"] + extra) for extra in (1, 2)]
    events = pd.concat([events, *more]).sort_values(["user", "pos"])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / NAME).mkdir()
        columns = {"user": "user_id:token", "item": "item_id:token", "pos": "timestamp:float"}
        events.rename(columns=columns).to_csv(Path(folder) / NAME / f"{NAME}.inter", sep="\t", index=False)
        sys.argv = sys.argv[:1]
        config = Config(
            model="SASRec",
            dataset=NAME,
            config_dict={
                "data_path": folder,
                "checkpoint_dir": folder,
                "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
                "MAX_ITEM_LIST_LENGTH": shape["length"],
                "n_layers": shape["blocks"],
                "n_heads": shape["heads"],
                "hidden_size": shape["dimension"],
                "inner_size": shape["dimension"],
                "hidden_act": "relu",
                "hidden_dropout_prob": shape["dropout"],
                "attn_dropout_prob": shape["dropout"],
                "learning_rate": shape["learning_rate"],
                "loss_type": "CE",
                "train_neg_sample_args": None,
                "train_batch_size": request["batch_size"],
                "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
                "seed": request["seed"],
                "use_gpu": False,
                "show_progress": False,
                "state": "WARNING",
            },
        )
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        train, _, _ = data_preparation(config, dataset)
        torch.set_num_threads(1)
        model = SASRec(config, train.dataset)
        clock = Clock(train, request, model.n_items)
        Trainer(config, model)._train_epoch(clock, 0)


if __name__ == "__main__":
    main()
