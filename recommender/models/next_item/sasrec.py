"""SASRec: self-attention over a user's last items (Kang & McAuley, ICDM 2018), trained with the full softmax.

Binary cross entropy with sampled negatives, as published, is overconfident (Petrov & Macdonald, RecSys 2023); the exact softmax over
all items is what makes it strong (Klenitskiy & Vasilev, RecSys 2023).

Shapes: U users · V items, rows 1 … V · D width.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from recommender.engine.hyperparameters import Range, Space
from recommender.models.next_item import neural
from recommender.models.next_item.causal import CausalEncoder
from recommender.models.next_item.neural import TRAINING, Network, NeuralRanker, check
from recommender.sequences import Sequences
from recommender.sequences.ranks import USERS_A_BATCH

DEFAULTS: dict[str, Any] = {
    **TRAINING,
    "epochs": 40,
    "rate": 0.001,
    "judge_every": 2,
    "judged_users": 4000,
    "width": 64,
    "blocks": 2,
    "heads": 2,
    "length": 200,
    "dropout": 0.3,
    "tokens": 2048,
    "smoothing": 0.0,
    "torch_compile": False,
}
"""length: last items that are read · tokens: targets of a batch · smoothing: of labels · torch_compile: as
`CausalEncoder.compiled` says · the others: `neural.TRAINING`."""
SEARCHED: Space = {
    **neural.SEARCHED,
    "width": (32, 64, 128),
    "blocks": Range(1, 3),
    "tokens": Range(512, 8192, log=True),
}


class SASRec(NeuralRanker):
    """A causal transformer's log-odds."""

    name: ClassVar[str] = "sasrec"
    network: ClassVar[type[Network]] = CausalEncoder
    model: CausalEncoder

    @torch.inference_mode()
    def item_vectors(self) -> NDArray[np.float32]:
        return np.asarray(self.model.table().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32]:
        """float32 [U, D]; zeros for a user without events."""
        check(sequences, self._size, self.name)
        table_VD = self.model.table()
        out_UD = np.zeros((sequences.num_users, table_VD.shape[1]), dtype=np.float32)
        users = np.flatnonzero(sequences.lengths_U > 0)
        for first in range(0, len(users), USERS_A_BATCH):
            some = users[first : first + USERS_A_BATCH]
            out_UD[some] = self.model.encode(sequences.take(some), table_VD).numpy()
        return out_UD
