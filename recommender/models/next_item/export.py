"""Exports a causal transformer as a standalone program: by torch.export, or by AOTInductor as machine code.

The program takes users' items, oldest first, and gives the scores of all items. It needs nothing of this package.
`student.pt2.json` beside it names the items, row 1 first, and the most events that are read.

    program = torch.export.load("student.pt2").module()
    scores_UV = program(items_UL, lengths_U)

Shapes: U users · L last items, at most the network's length · V items, rows 1 … V · T tokens · D width.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recommender.engine.compiler import require_compiler
from recommender.errors import BundleError, SettingsError
from recommender.models.next_item.causal import CausalEncoder, CausalRanker
from recommender.models.next_item.packing import Group
from recommender.models.next_item.ranker import ItemRanker
from recommender.sequences import Sequences
from recommender.storage.manifest import write_text

TOLERANCE = 2e-5
"""Largest difference between the program's scores and the ranker's, as a share of the largest score's magnitude. Some
hundred times the rounding error of one float32 operation, for sums in another order."""
MOST_USERS = 1 << 16
"""Most users that the program takes at once. torch.export wants a bound, and memory ends earlier."""


class Program(nn.Module):
    """The exported program.

    It takes int64 [U, L] items, 0 after a user's last one, and int64 [U] how many there are, and gives float32 [U, V +
    1]. Row 0 is -inf. A user without items gets the most popular ones.
    """

    popularity_V: Tensor

    def __init__(self, model: CausalEncoder[Any], popularity_V: NDArray[np.float32]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("popularity_V", torch.from_numpy(np.log1p(popularity_V)))

    def forward(self, items_UL: Tensor, lengths_U: Tensor) -> Tensor:
        """Scores of all items, [U, V + 1]."""
        users, length = items_UL.shape
        table_VD = self.model.table()
        token_UL = torch.arange(users * length, device=items_UL.device).view(users, length)
        places_T = torch.arange(length, device=items_UL.device).repeat(users)
        group = Group(token_UL, token_UL.reshape(-1))
        states_TD = self.model(items_UL.reshape(-1), places_T, (group,), table_VD)
        last_U = torch.arange(users, device=items_UL.device) * length + (lengths_U - 1).clamp(min=0)
        scores_UV = states_TD.index_select(0, last_U) @ table_VD.T
        scores_UV = torch.where(lengths_U[:, None] > 0, scores_UV, self.popularity_V)
        padding_V = torch.arange(scores_UV.shape[1], device=items_UL.device) == 0
        return scores_UV.masked_fill(padding_V, -torch.inf)


def inputs_of(sequences: Sequences, length: int) -> tuple[Tensor, Tensor]:
    """The program's inputs for these users, [U, L] and [U]. L is the longest history, from 2 to `length`."""
    longest = max(min(length, int(sequences.lengths_U.max(initial=0))), 2)
    items_UL, lengths_U = sequences.last_LU(longest)
    return torch.from_numpy(items_UL.astype(np.int64)), torch.from_numpy(lengths_U)


def require_exportable(kind: type[ItemRanker[Any]], *, compiled: bool) -> None:
    """Check that rankers of this kind can be exported on this machine.

    Raises:
        SettingsError: the kind is not a single causal transformer, or there is no compiler.
    """
    if not issubclass(kind, CausalRanker):
        raise SettingsError(
            f"{kind.name} cannot be exported: only sasrec and student can, which are a single causal transformer each"
        )
    if compiled:
        require_compiler("a compiled program")


def export(ranker: ItemRanker[Any], sequences: Sequences, path: Path, *, compiled: bool = False) -> float:
    """Write the program of `ranker` to `path` (.pt2) and its items' names beside it (.pt2.json), and check its scores.

    Args:
        ranker: a causal transformer.
        sequences: histories on which the program's scores are compared with the ranker's.
        path: the file to write.
        compiled: whether AOTInductor makes machine code for this kind of CPU, to be loaded by
            `torch._inductor.aoti_load_package`.

    Returns:
        The largest difference of a score, as a share of the largest magnitude.

    Raises:
        SettingsError: as `require_exportable`.
        BundleError: the program's scores differ by more than `TOLERANCE`; nothing is left at `path`.
    """
    require_exportable(type(ranker), compiled=compiled)
    assert isinstance(ranker, CausalRanker)
    program = Program(ranker.model, ranker.popularity_V).eval()
    given = inputs_of(sequences, ranker.model.length)
    twice = tuple(torch.cat([tensor, tensor]) for tensor in given)  # torch.export takes a size of 1 for a constant
    users = torch.export.Dim("users", min=1, max=MOST_USERS)
    length = torch.export.Dim("length", min=2, max=ranker.model.length) if ranker.model.length > 2 else None
    with torch.inference_mode(False), torch.no_grad():
        exported = torch.export.export(program, twice, dynamic_shapes=({0: users, 1: length}, {0: users}))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.pt2")
    if compiled:
        with warnings.catch_warnings():  # torch's own modules use what torch deprecates
            warnings.simplefilter("ignore")
            torch._inductor.aoti_compile_and_package(exported, package_path=str(part))
        scores_UV = torch._inductor.aoti_load_package(str(part))(*given)
    else:
        torch.export.save(exported, part)
        scores_UV = torch.export.load(part).module()(*given)
    off = difference(scores_UV.numpy(), ranker.score(sequences))
    if off > TOLERANCE:
        part.unlink()
        raise BundleError(
            f"{path}: scores of the exported program differ from the ranker's by {off:.1e} of the largest, more than "
            f"{TOLERANCE:.0e}. Nothing was written."
        )
    facts = {"items": list(sequences.items.ids), "length": ranker.model.length, "largest_difference": off}
    write_text(path.with_name(f"{path.name}.json"), json.dumps(facts))
    part.replace(path)
    return off


def difference(ours_UV: NDArray[np.float32], theirs_UV: NDArray[np.float32]) -> float:
    """Largest difference of two scores as a share of the largest magnitude, row 0 left out."""
    return float(np.abs(ours_UV[:, 1:] - theirs_UV[:, 1:]).max() / np.abs(theirs_UV[:, 1:]).max())
