"""Diary: what a page draws of one shopper. The baskets of a year, and the campaigns sent and taken up."""

from datetime import datetime

import ibis
import pyarrow as pa

from recommender.datasets.tables import TIME, USERS
from recommender.features.facts.moments import lines_at
from recommender.features.source import TIME_TYPE, Source

DAYS = 371
"""53 weeks, so that a calendar of whole weeks shows a year."""

BASKETS = pa.list_(pa.struct([pa.field("at", TIME), pa.field("spend", pa.float64()), pa.field("lines", pa.int64())]))
CAMPAIGNS = pa.list_(
    pa.struct(
        [
            pa.field("campaign_id", pa.string()),
            pa.field("name", pa.string()),
            pa.field("type", pa.string()),
            pa.field("targeted_at", TIME),
            pa.field("ends_at", TIME),
            pa.field("taken_up_at", TIME),
            pa.field("times", pa.int64()),
        ]
    )
)
"""`targeted_at` is null where the campaign was not sent to the user, `taken_up_at` where it was not taken up."""
ATTRIBUTES = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.string())]))


def baskets_at(source: Source, moment: datetime) -> pa.Table:
    """The baskets of the last 53 weeks before a moment, each user's oldest first: user_id and those of `BASKETS`."""
    lines = lines_at(source, moment)
    lines = lines.filter(lines.day < DAYS)
    baskets = lines.group_by("user_id", "basket").agg(
        at=lines.event_time.max(), cents=lines.cents.sum(), lines=lines.count()
    )
    baskets = baskets.mutate(spend=baskets.cents / float(source.minor_units))
    return baskets.order_by("user_id", "at", "basket").select("user_id", "at", "spend", "lines").to_pyarrow()


def campaigns_at(source: Source, moment: datetime) -> pa.Table:
    """Campaigns sent to users or taken up before a moment, the latest first: user_id and those of `CAMPAIGNS`."""
    now = ibis.literal(moment, TIME_TYPE)
    targets = source.table("targets")
    sent = targets.filter(targets.targeted_at < now)
    sent = sent.select(
        "user_id", "campaign_id", "targeted_at", taken_up_at=ibis.null(TIME_TYPE), times=ibis.literal(0).cast("int64")
    )
    taken = source.participations.filter(source.participations.participated_at < now)
    taken = taken.group_by("user_id", "campaign_id").agg(
        targeted_at=ibis.null(TIME_TYPE), taken_up_at=taken.participated_at.min(), times=taken.count()
    )
    both = sent.union(taken.select(*sent.columns))
    pairs = both.group_by("user_id", "campaign_id").agg(
        targeted_at=both.targeted_at.min(), taken_up_at=both.taken_up_at.min(), times=both.times.sum()
    )
    names = ["campaign_id", "campaign_type", "ends_at"] + ["name"] * ("name" in source.campaigns.column_names)
    campaigns = ibis.memtable(source.campaigns.select(names))
    joined = pairs.inner_join(campaigns, "campaign_id")
    name = ibis.coalesce(joined["name"], joined.campaign_id) if "name" in names else joined.campaign_id
    joined = joined.mutate(name=name, type=joined.campaign_type)
    latest = ibis.coalesce(joined.targeted_at, joined.taken_up_at).desc()
    ordered = joined.order_by(joined.user_id, latest, joined.campaign_id)
    fields = [CAMPAIGNS.value_type.field(k).name for k in range(CAMPAIGNS.value_type.num_fields)]
    return ordered.select("user_id", *fields).to_pyarrow()


def attributes(users: pa.Table) -> pa.Table:
    """What the source says of users, as user_id, `name` and `value`, in the order of the contract."""
    parts = [
        pa.table({"user_id": users["user_id"], "name": pa.repeat(pa.scalar(name), len(users)), "value": users[name]})
        for name in USERS.columns
        if name not in ("user_id", "joined_at") and name in users.column_names
    ]
    empty = pa.table({name: pa.array([], pa.string()) for name in ("user_id", "name", "value")})
    both = pa.concat_tables([empty, *(part.cast(empty.schema) for part in parts)])
    return both.filter(both["value"].is_valid())
