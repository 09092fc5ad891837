"""Lists the decisions that features are computed for.

A decision is a user at a moment. Features read events only through `as_of`, which reads what was known strictly before
a moment, so that no feature can look ahead.
"""

import pyarrow as pa
import pyarrow.compute as pc

from recommender.errors import ContractError, PeriodError
from recommender.features.source import Source

TIME = pa.timestamp("us", tz="UTC")


def expect_some(source: Source) -> None:
    """Check that there is something to decide.

    Raises:
        PeriodError: no user was targeted before `as_of`.
        ContractError: there are no users.
    """
    targets, users = source.table("targets"), source.table("users")
    if not targets.filter(targets.targeted_at < source.as_of).limit(1).count().to_pyarrow().as_py():
        raise PeriodError(f"targets: no user was targeted before {source.as_of.isoformat()}; move `as_of` later")
    if not users.limit(1).count().to_pyarrow().as_py():
        raise ContractError("users", "the table is empty; check the source's mapping")


def decisions(source: Source) -> pa.Table:
    """List all decisions as (decision, user_id, decided_at), numbered in the order of user and time.

    A decision is each targeted user at each time of being targeted before `as_of`, and every user at `as_of`.
    """
    targets = source.table("targets").select("user_id", "targeted_at").to_pyarrow()
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
