"""Packed batches: sequences of any length end to end. Only attention needs padding, within groups of similar length.

Shapes: T tokens of a batch · B sequences of a group · L length of its longest · D width · U users.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recommender.datasets.time_units import SECOND_US
from recommender.sequences import Sequences

STRETCH, SLACK = 1.25, 2
"""A group's longest sequence has at most STRETCH x the length of its shortest + SLACK. Chosen by hand: closer groups
waste less padding but are more and smaller."""
GAPS = 32
"""Classes of time between two events: 0 seconds, then one for each doubling. The last one begins at 2 ** 30 seconds, 34
years."""


@dataclass(frozen=True, eq=False)
class Group:
    """Sequences of similar length."""

    tokens_BL: Tensor
    """Token at each place. After a sequence's end its last one is repeated, which causal attention never shows to
    others."""
    real: Tensor
    """Places of [B x L] that are tokens, in the tokens' order."""
    first: int = 0
    """The group's first token in the batch. Its tokens lie together from there on."""
    gaps_BLL: Tensor | None = None
    """Class of the time from each place back to each other (`gap_classes`), int64. None where times are not read."""

    def to(self, device: torch.device) -> "Group":
        """A copy on the device."""
        gaps_BLL = None if self.gaps_BLL is None else self.gaps_BLL.to(device)
        return Group(self.tokens_BL.to(device), self.real.to(device), self.first, gaps_BLL)


@dataclass(frozen=True, eq=False)
class Packed:
    """Sequences end to end, the shorter ones first."""

    events_T: NDArray[np.int64]
    """Each token's row in the sequences' events."""
    places_T: Tensor
    """Place of each token within its window, from 0."""
    groups: tuple[Group, ...]
    last: Tensor
    """Last token of each sequence, in the order in which `pack` was given them."""

    def to(self, device: torch.device) -> "Packed":
        """The same on the device."""
        if device.type == "cpu":
            return self
        groups = tuple(group.to(device) for group in self.groups)
        return Packed(self.events_T, self.places_T.to(device), groups, self.last.to(device))


def pack(starts: NDArray[np.int64], lengths: NDArray[np.int64], times_T: NDArray[np.int64] | None = None) -> Packed:
    """Pack the windows [start, start + length) of events, every length at least 1.

    `times_T`: times of all events in microseconds, where they are read.
    """
    order = np.argsort(lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    first = np.cumsum(lengths) - lengths
    places_T = np.arange(int(lengths.sum())) - np.repeat(first, lengths)
    groups, begin = [], 0
    while begin < len(lengths):
        end = int(np.searchsorted(lengths, lengths[begin] * STRETCH + SLACK, side="right"))
        within = np.arange(int(lengths[end - 1]))
        lengths_B1 = lengths[begin:end, None]
        tokens = first[begin:end, None] + np.minimum(within, lengths_B1 - 1)
        real = np.flatnonzero((within < lengths_B1).ravel())
        gaps = (
            None
            if times_T is None
            else gap_classes(times_T[starts[begin:end, None] + np.minimum(within, lengths_B1 - 1)])
        )
        groups.append(Group(torch.from_numpy(tokens), torch.from_numpy(real), int(first[begin]), gaps))
        begin = end
    last = np.empty(len(order), dtype=np.int64)
    last[order] = first + lengths - 1
    return Packed(
        np.repeat(starts, lengths) + places_T, torch.from_numpy(places_T), tuple(groups), torch.from_numpy(last)
    )


def padded(x_TD: Tensor, groups: tuple[Group, ...]) -> Iterator[Tensor]:
    """Each group's tokens at their places: [B, L, D].

    The tokens are split by group first, so that a group's gradient is as large as the group and not as the batch.
    """
    parts = torch.split(x_TD, [len(group.real) for group in groups]) if len(groups) > 1 else (x_TD,)
    for part, group in zip(parts, groups, strict=True):
        yield part.index_select(0, (group.tokens_BL - group.first).reshape(-1)).view(*group.tokens_BL.shape, -1)


def gap_classes(times_BL: NDArray[np.int64]) -> Tensor:
    """Class of the time from each place (row) back to each other: int64 [B, L, L].

    0 is the same second (times are cut to whole ones), then there is one class for each doubling. The future is class
    0; causal attention masks it.
    """
    seconds_BL = torch.from_numpy(times_BL // SECOND_US)
    gaps_BLL = (seconds_BL[:, :, None] - seconds_BL[:, None, :]).clamp_(min=0).float()
    return torch.frexp(gaps_BLL)[1].clamp_(max=GAPS - 1).long()


def windows(sequences: Sequences, length: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut every user's events into windows of at most `length` + 1, so that every event but the first is a target.

    Where a cut falls is drawn at each call. A window reaches back over the cut, so that its first targets have a
    history too.

    Returns:
        The windows' starts and lengths; lengths are at least 2.
    """
    starts, lengths = sequences.offsets[:-1], sequences.lengths_U
    short = (lengths <= length + 1) & (lengths >= 2)
    all_starts, all_lengths = [starts[short]], [lengths[short]]
    for start, num in zip(starts[lengths > length + 1].tolist(), lengths[lengths > length + 1].tolist(), strict=True):
        phase = int(rng.integers(2, length + 1))
        ends = np.array([*range(phase, num, length), num], dtype=np.int64)
        begins = np.maximum(ends - length - 1, 0)
        all_starts.append(start + begins)
        all_lengths.append(ends - begins)
    return np.concatenate(all_starts), np.concatenate(all_lengths)


def last_windows(sequences: Sequences, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of each user's last `length` events. The length is 0 where there are none."""
    lengths = np.minimum(sequences.lengths_U, length)
    return sequences.offsets[1:] - lengths, lengths


def batches_by_tokens(lengths: NDArray[np.int64], tokens: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Shuffled windows in batches of about `tokens` targets each."""
    order = rng.permutation(len(lengths))
    targets = np.cumsum(lengths[order] - 1)
    num = max(int(np.ceil(targets[-1] / tokens)), 1) if len(order) else 0
    cuts = np.searchsorted(targets, np.arange(1, num) * (targets[-1] / num)) if num else []
    return [batch for batch in np.split(order, cuts) if len(batch)]
