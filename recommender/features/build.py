"""Builds a feature set from tables: portraits, vectors, campaign and item features, labelled pairs, and the catalogue.

    users.parquet      user_id, event_timestamp, float32 `<kind>__<name>`, binary `affinity` and `history`
    campaigns.parquet  campaign_id, event_timestamp, float32 features
    items.parquet      item_id, event_timestamp, float32 features
    facts.parquet      what people ask about each user at `as_of`; no ranker reads it
    pairs.parquet      which users were targeted by which campaign, labels, segments
    catalogue/         what serving holds in memory
    schema.json        names of all features and segments, the value behind each feature that stands for one, and the
                       features that the source cannot have (`features.absent`)
    ids.json           the append-only ids to which the vectors and the catalogue refer (`recommender.storage.ids`)

The users of a large log are computed in buckets, one after the other (`features.buckets`).

Shapes: D decisions · V items, the unknown one first · C campaigns · G campaign features.
"""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recommender import logs
from recommender.datasets.tables import Tables
from recommender.errors import SettingsError
from recommender.features import buckets, campaigns, decisions, pairs
from recommender.features.absent import absent_features
from recommender.features.buckets import Rows
from recommender.features.decisions import TIME
from recommender.features.facts import numbers_of_shop
from recommender.features.last_build import LastBuild, Taken
from recommender.features.look_weights import LookWeights, look_weights
from recommender.features.newcomers import Newcomers, newcomers
from recommender.features.pairs import ORDER as PAIR_ORDER
from recommender.features.shared import Shared, shared_of
from recommender.features.source import Source, open_source
from recommender.features.spark import OnSpark
from recommender.features.users import BASKETS, PACKED_FILE, rows_of_users
from recommender.features.value_names import ValueNames
from recommender.matching.affinity import cross_names
from recommender.matching.look_rules import LookRules
from recommender.matching.looks import LOOKED
from recommender.settings import LookSettings
from recommender.storage.home import FACTS_FILE, FEATURES_SCHEMA_FILE
from recommender.storage.ids import IDS_FILE, IdsFile
from recommender.storage.manifest import whole_folder, write_manifest
from recommender.storage.names import NamesFile
from recommender.storage.scratch import scratch_folder

log = logs.get(__name__)
DEFAULT_LOOKS = LookSettings()
FORMAT = 1
"""Version of the folder's layout, in its manifest. Raise it when a reader of the old layout would misread the new
one."""


def build(
    tables: Tables,
    output: Path,
    *,
    as_of: datetime,
    threads: int = 2,
    kept_ids: IdsFile | None = None,
    facts: bool = True,
    looks: LookSettings = DEFAULT_LOOKS,
    learn_looks_before: datetime | None = None,
    text_cache: Path | None = None,
    look_rules: LookRules | None = None,
    memory_limit: str | None = None,
    scratch: Path | None = None,
    num_buckets: int | None = None,
    spark: OnSpark | None = None,
    last: LastBuild | None = None,
    late_days: int = 0,
) -> Path:
    """Write the feature set of `tables` as known at `as_of` into the folder `output`, completely or not at all.

    DuckDB gets two threads by default, as many as a small machine has. `kept_ids` is where the home keeps the ids of
    this source's items; without it they begin with these tables. Without `facts` there is no facts.parquet.
    What looks count is set by `looks`, or learnt from purchases before `learn_looks_before`. `text_cache` is a folder
    for the text encoder's vectors of names and searches. `look_rules` are those of an earlier build, in place of all
    that.
    `memory_limit` is DuckDB's, see `open_source`; `scratch` is the folder for temporary files, by default the system's.
    The users are computed in `num_buckets`, by default as many as the log needs. The files' bytes are the same.
    With `spark` Spark reads the tables and computes, not DuckDB alone.
    `late_days` is the setting of the ingestion, for the catalogue (`campaigns.event_rules`).
    With `last`, rows of the last build are taken over where nothing that they depend on has changed; not on Spark. The
    bytes are the same.

    Raises:
        CorruptFileError: the file of ids is damaged; nothing was written.
        ContractError: a required table or column is missing or empty, or there is no purchase before `as_of`.
        PeriodError: no user of the table `users` was targeted before `as_of`.
    """
    with (
        nullcontext() if last is None else last.turn(),
        scratch_folder("features", scratch) as spill,
    ):
        folder, moment = Path(spill), as_of.astimezone(UTC)
        if spark is not None:
            try:
                from recommender.features.spark.engine import spark_engine
            except ModuleNotFoundError as error:
                raise SettingsError(
                    f"features.engine: spark is not installed here ({error}); install the extra `spark`, or on a "
                    "cluster compile the pipeline with this setting, so that the step gets Spark's image"
                ) from None

            with spark_engine(
                tables, moment, spark, spill=folder, kept_ids=kept_ids, memory_limit=memory_limit
            ) as engine:
                decisions.expect_some(engine.source)
                weights = look_weights(engine.source, looks, learn_looks_before, published=look_rules, cache=text_cache)
                _build(engine.source, output, weights, engine.rows, facts=facts, late_days=late_days)
            return output
        source = open_source(
            tables,
            moment,
            threads=threads,
            spill=folder,
            kept_ids=kept_ids,
            memory_limit=memory_limit,
            last=None if last is None or (num_buckets or 1) > 1 else last.known,
        )
        decisions.expect_some(source)
        weights = look_weights(source, looks, learn_looks_before, published=look_rules, cache=text_cache)
        compute = partial(_rows, source, folder, num_buckets, last)
        _build(source, output, weights, compute, facts=facts, late_days=late_days)
        if last is not None:
            last.remember(output)
    return output


def _build(
    source: Source,
    output: Path,
    weights: LookWeights,
    compute: Callable[[Shared, pa.Table | None], Rows],
    *,
    facts: bool,
    late_days: int,
) -> None:
    """Write the feature set. `compute` is given the numbers of facts, if facts are wanted."""
    named = ValueNames(kept=None if source.kept_ids is None else NamesFile.beside(source.kept_ids))
    campaign_features = campaigns.campaign_features(source, named)
    popularity_V = campaigns.item_popularity(source)
    catalogue = campaigns.catalogue(source, campaign_features, popularity_V, late_days)
    shared = shared_of(source, named, weights, taxonomy_version=catalogue.taxonomy_version)
    found = compute(shared, numbers_of_shop(source, source.as_of) if facts else None)
    users_at = [table.select(["user_id", "event_timestamp", BASKETS]) for table in found.users]
    pair_table, learnt = _pair_table(source, pa.concat_tables(found.pairs), pa.concat_tables(users_at))
    found.let_go()
    catalogue = campaigns.with_newcomers(catalogue, learnt)
    if shared.looked:
        catalogue = campaigns.with_look_rules(catalogue, weights.rules)
    with whole_folder(output) as folder:
        catalogue.save(folder / "catalogue")
        source.ids.save(folder / IDS_FILE)
        users = buckets.together(found.users, ["user_id", "event_timestamp"], found.let_go)
        _write(users, folder / "users.parquet")
        _write([_campaign_table(source, campaign_features)], folder / "campaigns.parquet")
        _write([_item_table(source, popularity_V)], folder / "items.parquet")
        _write(buckets.together([pair_table], PAIR_ORDER), folder / "pairs.parquet")
        if facts:
            _write(buckets.together(found.facts, ["user_id"], found.let_go), folder / FACTS_FILE)
        columns = found.users[0].column_names
        schema: dict[str, Any] = {
            "portrait": [name for name in columns if "__" in name],
            "campaign": list(campaign_features.names),
            "cross": list(cross_names(tuple(columns))),
            "segments": pairs.segment_columns(pair_table),
            "values": named.features,
        }
        if absent := absent_features(source.tables, shared):
            schema["absent"] = absent
            log.info("the source cannot have some features", **{name: len(own) for name, own in absent.items()})
        if LOOKED in columns:
            schema["looks"] = weights.described()
        (folder / FEATURES_SCHEMA_FILE).write_text(json.dumps(schema, indent=1, ensure_ascii=False), encoding="utf-8")
        write_manifest(
            folder,
            kind="features",
            format=FORMAT,
            as_of=source.as_of.isoformat(),
            data_hash=source.tables.data_hash,
            events_read=source.tables.manifest.get("events_read"),
            catalogue=catalogue.version,
            taxonomy=catalogue.numbering.versions[-1],
        )


def _rows(
    source: Source,
    spill: Path,
    num_buckets: int | None,
    last: LastBuild | None,
    shared: Shared,
    numbers: pa.Table | None,
) -> Rows:
    """Compute the users but for the rows that are taken over from the last build, and add these."""
    taken = None if last is None else last.take(source, shared, spill)
    found = _computed(source, spill, num_buckets, shared, numbers, taken)
    if last is not None and taken is not None and found.users[0].schema != taken.rows.schema:
        taken = None
        last.drop("the features are others")
        found = _computed(source, spill, num_buckets, shared, numbers, taken)
    if last is not None:
        last.computed = sum(map(len, found.users))
    if taken is not None:
        found.users.append(taken.rows)
    return found


def _computed(
    source: Source,
    spill: Path,
    num_buckets: int | None,
    shared: Shared,
    numbers: pa.Table | None,
    taken: Taken | None,
) -> Rows:
    """Compute the users bucket by bucket."""
    num_buckets = num_buckets or buckets.num_buckets_for(source)
    found = Rows()
    for place, own in enumerate(buckets.sources_of(source, shared, num_buckets, spill)):
        began = time.monotonic()
        (scratch := spill / f"bucket-{place}").mkdir(exist_ok=True)
        rows = rows_of_users(own, shared, scratch, numbers=numbers, taken=None if taken is None else taken.rows)
        found.pairs.append(rows.pairs)
        for name, table, of_bucket in (("users", rows.users, found.users), ("facts", rows.facts, found.facts)):
            if table is not None:
                of_bucket.append(table if num_buckets == 1 else found.kept(table, scratch / f"{name}.arrow"))
        if num_buckets > 1:
            (scratch / PACKED_FILE).unlink()
            seconds = round(time.monotonic() - began, 1)
            log.info(
                "features of a bucket", bucket=place + 1, buckets=num_buckets, rows=len(rows.users), seconds=seconds
            )
    return found


def _pair_table(source: Source, table: pa.Table, users: pa.Table) -> tuple[pa.Table, Newcomers]:
    """Put the pairs in order with the segment `activity` of each pair's user at its decision, and learn from them.

    `users`: user_id, event_timestamp and `BASKETS` of all decisions.
    """
    table = table.sort_by([(name, "ascending") for name in PAIR_ORDER])
    rows = _rows_of(table.select(["user_id", "decided_at"]), users.select(["user_id", "event_timestamp"]))
    baskets_D = users[BASKETS].to_numpy().astype(np.float64)
    now_D = pc.equal(users["event_timestamp"], pa.scalar(source.as_of, TIME)).to_numpy()
    return pairs.with_activity(table, baskets_D[rows]), newcomers(source, table, baskets_D[rows], baskets_D[now_D])


def _rows_of(decided: pa.Table, users: pa.Table) -> NDArray[np.int64]:
    """Rows of `users` with the user and moment of each row of `decided`, int64. Both have two columns: user, moment."""
    # A large shop has millions of decisions. A join takes half the time of a dictionary of their keys, and less memory.
    names = ["user_id", "at_us"]
    asked, known = (
        pa.table(
            [table[0].cast(pa.string()), table[1].cast(pa.int64()), pa.array(np.arange(len(table)))], [*names, name]
        )
        for table, name in ((decided, "place"), (users, "row"))
    )
    found = asked.join(known, names, join_type="inner")
    rows = np.empty(len(asked), dtype=np.int64)
    rows[found["place"].to_numpy()] = found["row"].to_numpy()
    if len(found) != len(asked):
        raise ValueError(f"{len(asked) - len(found)} pairs have no row of their user at their decision, or several")
    return rows


def _campaign_table(source: Source, features: campaigns.CampaignFeatures) -> pa.Table:
    times = pa.array(features.reference_us_C).cast(pa.timestamp("us")).cast(TIME)
    columns = {name: pa.array(features.features_CG[:, g]) for g, name in enumerate(features.names)}
    return pa.table({"campaign_id": source.campaigns["campaign_id"], "event_timestamp": times, **columns})


def _item_table(source: Source, popularity_V: NDArray[np.float32]) -> pa.Table:
    present = source.taxonomy.present()
    return pa.table(
        {
            "item_id": present["item_id"],
            "event_timestamp": pa.array([source.as_of] * present.num_rows, TIME),
            "item__popularity": pa.array(popularity_V[present["item_row"].to_numpy()]),
        }
    )


def _write(parts: Iterable[pa.Table], path: Path) -> None:
    """Write each part as a row group."""
    writer = None
    for part in parts:
        # No two packed values are the same, so a dictionary of them costs time and saves no byte.
        texts = [field.name for field in part.schema if not pa.types.is_binary(field.type)]
        writer = writer or pq.ParquetWriter(
            path, part.schema, compression="zstd", use_dictionary=texts, write_page_checksum=True
        )
        writer.write_table(part)
    if writer is not None:
        writer.close()
