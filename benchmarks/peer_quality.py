"""Another library's ranker on our data, judged by our protocol.

The peer trains in its own environment and returns scores; the ranks are computed here. `replay` is RePlay's SasRec with
its full cross-entropy, stopped by the same validation items as ours.
"""

import json
import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.environments import answer_of, python_of
from recommender.errors import SettingsError
from recommender.evaluation.leave_one_out import Ranks
from recommender.sequences import LeaveOneOut, Sequences
from recommender.sequences.ranks import USERS_A_BATCH, full_ranks

SCRIPT = Path(__file__).parent / "peers" / "replay_quality.py"
PEERS = ("replay",)
HYPERPARAMETERS: dict[str, Any] = {
    "width": 64,
    "blocks": 2,
    "heads": 2,
    "length": 200,
    "dropout": 0.3,
    "rate": 0.001,
    "batch_size": 32,
    "epochs": 60,
    "judge_every": 2,
    "judged_users": 4000,
    "patience": 5,
}
"""Those of our own `sasrec`, except that `epochs` is only an upper bound: validation stops the training before."""


def run_peer(sequences: Sequences, peer: str, *, seed: int, config: dict[str, Any]) -> tuple[Ranks, dict[str, Any]]:
    """The ranks of the test items, and facts: hyperparameters, CPU-seconds of the peer's process, validation curve.

    Args:
        sequences: The events; validation items stop the peer, test items judge it.
        peer: One of `PEERS`.
        seed: Seed of the peer.
        config: Hyperparameters that differ from `HYPERPARAMETERS`.

    Raises:
        SettingsError: A hyperparameter is unknown.
        RecommenderError: The environment cannot be made, or the peer failed; the message is its last line.
    """
    unknown = sorted(set(config) - set(HYPERPARAMETERS))
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise SettingsError(f"unknown hyperparameter {names} for {peer}; known ones: {', '.join(HYPERPARAMETERS)}")
    split, chosen = LeaveOneOut.of(sequences), {**HYPERPARAMETERS, **config}
    python, before = python_of(peer), _children_seconds()
    with tempfile.TemporaryDirectory() as folder:
        files = {name: str(Path(folder) / name) for name in ("train", "asked", "validation.npy", "scores.npy")}
        asked = np.flatnonzero(split.test_U > 0)
        _write(split.train, np.arange(sequences.num_users), files["train"])
        _write(split.train_and_validation, asked, files["asked"])
        np.save(files["validation.npy"], split.validation_U)
        given = {name.removesuffix(".npy"): path for name, path in files.items()}
        request = {**given, "items": sequences.items.num, "seed": seed, "hyperparameters": chosen}
        facts = answer_of([str(python), "-P", str(SCRIPT.resolve()), json.dumps(request)], Path(folder))
        ranks = _ranks(np.load(files["scores.npy"], mmap_mode="r"), split, asked)
    seconds = round(_children_seconds() - before, 2)
    return Ranks(asked, ranks), {**facts, "hyperparameters": chosen, "fit_cpu_seconds": seconds}


def _ranks(scores_UV: NDArray[np.float32], split: LeaveOneOut, asked: NDArray[np.int64]) -> NDArray[np.int64]:
    ranks = np.zeros(len(asked), dtype=np.int64)
    for first in range(0, len(asked), USERS_A_BATCH):
        some = asked[first : first + USERS_A_BATCH]
        block_UV = np.array(scores_UV[first : first + len(some)])
        histories = split.train_and_validation.take(some)
        ranks[first : first + len(some)] = full_ranks(block_UV, histories, split.test_U[some])
    return ranks


def _write(sequences: Sequences, users: NDArray[np.int64], path: str) -> None:
    """Write a CSV of user, item, pos. `users` are in ascending order."""
    some = sequences.take(users)
    rows_T = some.rows_T()
    pos_T = np.arange(len(rows_T)) - some.offsets[rows_T]
    table = np.stack([users[rows_T], some.items_T, pos_T], axis=1)
    np.savetxt(path, table, fmt="%d", delimiter=",", header="user,item,pos", comments="")


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
