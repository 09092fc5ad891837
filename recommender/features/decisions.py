"""Lists the decisions that features are computed for.

A decision is a user at a moment. Features read events only through `as_of`, which reads what was known strictly before
a moment, so that no feature can look ahead.
"""

import pyarrow as pa
import pyarrow.compute as pc

from recommender.errors import ContractError, PeriodError
from recommender.features.source import Source

TIME = pa.timestamp("us", tz="UTC")
NOT_EMPTY = ("users", "items", "campaigns")
"""Tables without which there is nothing to recommend, or nobody to recommend it to."""


def expect_some(source: Source) -> None:
    """Check that there is something to decide.

    Raises:
        PeriodError: no user of the table `users` was targeted before `as_of`.
        ContractError: a table that features need is empty; names it.
    """
    for name in NOT_EMPTY:
        if not source.table(name).limit(1).count().to_pyarrow().as_py():
            raise ContractError(name, "the table is empty; check the source's mapping")
    targets = source.targets
    if not targets.filter(targets.targeted_at < source.as_of).limit(1).count().to_pyarrow().as_py():
        raise PeriodError(
            f"targets: no user of the table `users` was targeted before {source.as_of.isoformat()}; move `as_of` "
            "later, or check the user_ids of both tables"
        )


def decisions(source: Source) -> pa.Table:
    """List all decisions as (decision, user_id, decided_at), numbered in the order of user and time.

    A decision is each targeted user at each time of being targeted before `as_of`, and every user at `as_of`. Who is
    targeted and not in the table `users` has none.
    """
    targets = source.targets.select("user_id", "targeted_at").to_pyarrow()
    targets = targets.filter(pc.less(targets["targeted_at"], pa.scalar(source.as_of, TIME)))
    users = source.table("users").select("user_id").to_pyarrow()
    now = pa.array([source.as_of] * users.num_rows, TIME)
    everyone = pa.table({"user_id": users["user_id"], "decided_at": now})
    both = pa.concat_tables([targets.rename_columns(["user_id", "decided_at"]).cast(everyone.schema), everyone])
    distinct = (
        both.group_by(["user_id", "decided_at"])
        .aggregate([])
        .sort_by([("user_id", "ascending"), ("decided_at", "ascending")])
    )
    numbers = pa.array(range(distinct.num_rows), pa.int32())
    return distinct.append_column("decision", numbers).select(["decision", "user_id", "decided_at"])


def without(decided: pa.Table, taken: pa.Table | None) -> pa.Table:
    """The decisions but those of `taken` (user_id and event_timestamp), numbered again."""
    if taken is None:
        return decided
    left = decided.join(
        taken.select(["user_id", "event_timestamp"]),
        ["user_id", "decided_at"],
        ["user_id", "event_timestamp"],
        join_type="left anti",
    ).sort_by([("user_id", "ascending"), ("decided_at", "ascending")])
    numbers = pa.array(range(left.num_rows), pa.int32())
    return left.drop_columns(["decision"]).add_column(0, "decision", numbers)
