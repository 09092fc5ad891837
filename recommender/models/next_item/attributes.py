"""Items' attributes in a network: which item has which, and what their embeddings add to an item's own vector.

Shapes: V items, row 0 is padding · P pairs of item and attribute · D width.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recommender.models.next_item.network import N, Network, Size
from recommender.sequences import Sequences


class AttributeMeans(Network[N]):
    """A network whose item vectors are an embedding of the item plus the mean of its attributes' embeddings."""

    attributes: nn.Embedding | None
    """None: attributes are not read, and nothing of them is stored."""
    attribute_offsets: Tensor
    attributes_P: Tensor

    def hold_attributes(self, size: Size) -> None:
        """Register the buffers that `observe` fills."""
        self.register_buffer("attribute_offsets", torch.zeros(size.items + 2, dtype=torch.int64))
        self.register_buffer("attributes_P", torch.zeros(size.pairs, dtype=torch.int64))

    def observe(self, sequences: Sequences) -> None:
        """Take the items' attributes from the training sequences."""
        if self.attributes is None:
            return
        rows_P, attributes_P = sequences.items.attribute_rows()
        counts = np.bincount(rows_P, minlength=len(self.attribute_offsets) - 1)
        self.attributes_P.copy_(torch.from_numpy(attributes_P.astype(np.int64)))
        self.attribute_offsets[1:].copy_(torch.from_numpy(np.cumsum(counts)))

    def with_attributes(self, own_VD: Tensor) -> Tensor:
        """The items' own vectors plus the means of their attributes': [V + 1, D]."""
        if self.attributes is None or not self.attributes.num_embeddings:
            return own_VD
        return own_VD + functional.embedding_bag(
            self.attributes_P, self.attributes.weight, self.attribute_offsets, mode="mean", include_last_offset=True
        )
