"""Differences between rankers of the quality benchmark, with intervals over users and over seeds.

A row keeps each user's rank as one letter, so that two rows can be compared user by user later.

Shapes: U users · S seeds.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp, ttest_ind

from benchmarks.peer_quality import PEERS
from recommender.evaluation.leave_one_out import Ranks
from recommender.evaluation.means import paired_difference
from recommender.sequences.ranks import ndcg

SEEDLESS = ("rules", "content_rules", "item_popularity", "user_cf", "item_cf", "content")
"""Rankers that draw nothing: every seed gives the same fit."""
AGAINST = ("rules", "sasrec", *PEERS)
"""Rankers that `fusion` is compared with."""
LETTERS, BEYOND = " 123456789A.", 11
"""A user's rank as one letter: 1 … 9, A for 10, and a dot from 11 on, where NDCG@10 is 0."""
Row = dict[str, Any]


def letters_of(ranks: Ranks) -> str:
    """Each user's rank as a letter, for the field `tops` of a row."""
    return "".join(LETTERS[min(rank, BEYOND)] for rank in ranks.ranks.tolist())


def key_of(row: Row) -> tuple[str, str, str, int, str]:
    """The key that identifies a row: set, training data, ranker, seed, hyperparameters."""
    return row["set"], row["train_on"], row["ranker"], row["seed"], json.dumps(row["config"], sort_keys=True)


def compared(rows: list[Row]) -> list[Row]:
    """`fusion` minus each of `AGAINST`, on each set and for each way of training that has both."""
    out = []
    for data, train_on, config in sorted({_group(row) for row in rows if row["ranker"] == "fusion"}):
        ours = [row for row in rows if row["ranker"] == "fusion" and _group(row) == (data, train_on, config)]
        for other in AGAINST:
            theirs = [row for row in rows if row["ranker"] == other and _group(row) == (data, train_on, "{}")]
            if theirs:
                facts = {"set": data, "train_on": train_on, "config": ours[0]["config"], "against": other}
                out.append({**facts, **difference(ours, theirs)})
    return out


def difference(ours: list[Row], theirs: list[Row]) -> Row:
    """Mean difference of NDCG@10 between the seeds of two rankers.

    Returns:
        `mean` and `interval95` over users, each user's NDCG averaged over the seeds. `interval95_seeds`: over seeds
        (None where a ranker that draws has only one). `seeds`: how many each side has. `commits`: those that the rows
        were measured at.
    """
    ours_SU, theirs_SU = _ndcg_SU(ours), _ndcg_SU(theirs)
    known = len(theirs) > 1 or theirs[0]["ranker"] in SEEDLESS
    return {
        **paired_difference(ours_SU.mean(axis=0), theirs_SU.mean(axis=0)),
        "interval95_seeds": over_seeds(ours_SU.mean(axis=1), theirs_SU.mean(axis=1)) if known else None,
        "seeds": [len(ours), len(theirs)],
        "commits": sorted({str(row["commit"]) for row in (*ours, *theirs)}),
    }


def over_seeds(ours_S: NDArray[np.float64], theirs_S: NDArray[np.float64]) -> list[float] | None:
    """95 % interval of the difference of two means over seeds (Welch, Biometrika 1947).

    One value of theirs is taken as a constant. One value of ours tells nothing about its spread: None.
    """
    if len(ours_S) < 2:
        return None
    if len(theirs_S) > 1:
        found = ttest_ind(ours_S, theirs_S, equal_var=False)
    else:
        found = ttest_1samp(ours_S - theirs_S[0], 0.0)
    return [float(edge) for edge in found.confidence_interval(0.95)]


def _group(row: Row) -> tuple[str, str, str]:
    data, train_on, _, _, config = key_of(row)
    return data, train_on, config


def _ndcg_SU(rows: list[Row]) -> NDArray[np.float64]:
    return ndcg(np.array([[LETTERS.index(letter) for letter in row["tops"]] for row in rows], dtype=np.int64))
