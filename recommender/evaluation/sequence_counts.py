"""Counts of a set of sequences, including those that make its figures mean less than they seem to.

Shapes: U users · T events.
"""

import numpy as np

from recommender.sequences import LeaveOneOut, Sequences


def sequence_counts(sequences: Sequences) -> dict[str, int]:
    """Counts of users, items and events, and of what is known of the items.

    Three of them warn about the figures of a leave-one-out test:

    - `targets_seen_before`: users whose test item is one that they had before. It competes with unseen items only,
      so it is easy to rank.
    - `targets_tied_in_time`: users whose last two events have the same time, so which is the test is arbitrary.
    - `items_without_events`: items that only the attributes name. They compete as well.
    """
    split = LeaveOneOut.of(sequences)
    last_U = sequences.offsets[1:][split.test_U > 0] - 1
    times_T = sequences.times_T
    return {
        "users": sequences.num_users,
        "users_judged": int((split.test_U > 0).sum()),
        "targets_seen_before": _targets_seen_before(split),
        "targets_tied_in_time": 0 if times_T is None else int((times_T[last_U] == times_T[last_U - 1]).sum()),
        "items": sequences.items.num,
        "items_without_events": sequences.items.num - len(np.unique(sequences.items_T)),
        "events": len(sequences.items_T),
        "attributes": sequences.items.num_attributes,
        "items_with_text": sum(map(bool, sequences.items.texts or ())),
    }


def _targets_seen_before(split: LeaveOneOut) -> int:
    histories = split.train_and_validation
    again_T = histories.items_T == split.test_U[histories.rows_T()]
    return len(np.unique(histories.rows_T()[again_T]))
