"""Lists the decisions that features are computed for, and restricts what each of them may read.

A decision is a user at a moment. Features read events only through `past`, which keeps those strictly before the
decision, so that no feature can look ahead.
"""

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc

from recommender.datasets.time_units import DAY_S
from recommender.errors import ContractError, PeriodError
from recommender.features.source import Source, known_at

TIME = pa.timestamp("us", tz="UTC")


def decisions(source: Source) -> pa.Table:
    """List all decisions as (decision, user_id, decided_at), numbered in the order of user and time.

    A decision is each targeted user at each time of being targeted before `as_of`, and every user at `as_of`.

    Raises:
        PeriodError: no user was targeted before `as_of`.
        ContractError: there are no users.
    """
    targets = source.table("targets").select("user_id", "targeted_at").to_pyarrow()
    targets = targets.filter(pc.less(targets["targeted_at"], pa.scalar(source.as_of, TIME)))
    if not targets.num_rows:
        raise PeriodError(f"targets: no user was targeted before {source.as_of.isoformat()}; move `as_of` later")
    users = source.table("users").select("user_id").to_pyarrow()
    if not users.num_rows:
        raise ContractError("users", "the table is empty; check the source's mapping")
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


def past(events: ir.Table, decided: pa.Table) -> ir.Table:
    """Join each decision with its user's events strictly before it, and add their age as `age_days`.

    Purchases that were returned before the decision are left out (`known_at`).

    Args:
        events: has user_id, event_time and time_s.
        decided: what `decisions` returned.
    """
    moments = ibis.memtable(decided)
    joined = events.inner_join(moments, "user_id")
    joined = joined.filter(joined.event_time < joined.decided_at)
    joined = known_at(joined, joined.decided_at.epoch_seconds())
    age_days = (joined.decided_at.epoch_seconds() - joined.time_s) / DAY_S
    return joined.mutate(age_days=age_days)
