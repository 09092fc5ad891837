"""Builds a feature set from tables: portraits, vectors, campaign and item features, labelled pairs, and the catalogue.

    users.parquet      user_id, event_timestamp, float32 `<kind>__<name>`, binary `affinity` and `history`
    campaigns.parquet  campaign_id, event_timestamp, float32 features
    items.parquet      item_id, event_timestamp, float32 features
    facts.parquet      what people ask about each user at `as_of`; no ranker reads it
    pairs.parquet      which users were targeted by which campaign, labels, segments
    catalogue/         what serving holds in memory
    schema.json        names of all features and segments, and the value behind each feature that stands for one
    ids.json           the append-only ids to which the vectors and the catalogue refer (`recommender.storage.ids`)

Shapes: D decisions · V items, the unknown one first · C campaigns · G campaign features.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recommender.datasets.periods import resolve
from recommender.datasets.tables import Tables
from recommender.features import campaign_habits, campaigns, decisions, pairs
from recommender.features.decisions import TIME
from recommender.features.facts import facts_at
from recommender.features.look_weights import LookWeights, look_weights
from recommender.features.newcomers import Newcomers, newcomers
from recommender.features.packing import Packer
from recommender.features.portrait import aligned, is_count, portrait
from recommender.features.source import Source, open_source
from recommender.features.value_names import ValueNames
from recommender.matching.affinity import cross_names
from recommender.matching.look_rules import LookRules
from recommender.matching.looks import LOOKED
from recommender.settings import LookSettings, Settings
from recommender.storage.home import FACTS_FILE, Home
from recommender.storage.ids import IDS_FILE, IdsFile
from recommender.storage.manifest import whole_folder, write_manifest

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
) -> Path:
    """Write the feature set of `tables` as known at `as_of` into the folder `output`, completely or not at all.

    DuckDB gets two threads by default, as many as a small machine has. `kept_ids` is where the home keeps the ids of
    this source's items; without it they begin with these tables. Without `facts` there is no facts.parquet.
    What looks count is set by `looks`, or learnt from purchases before `learn_looks_before`. `text_cache` is a folder
    for the text encoder's vectors of names and searches. `look_rules` are those of an earlier build, in place of all
    that.
    `memory_limit` is DuckDB's, see `open_source`; `scratch` is the folder for temporary files, by default the system's.

    Raises:
        CorruptFileError: the file of ids is damaged; nothing was written.
        ContractError: a required table or column is missing, or there is no purchase before `as_of`.
        PeriodError: no user was targeted before `as_of`.
    """
    with TemporaryDirectory(prefix="features-", dir=scratch, ignore_cleanup_errors=True) as spill:
        source = open_source(
            tables,
            as_of.astimezone(UTC),
            threads=threads,
            spill=Path(spill),
            kept_ids=kept_ids,
            memory_limit=memory_limit,
        )
        weights = look_weights(source, looks, learn_looks_before, published=look_rules, cache=text_cache)
        _build(source, output, Path(spill), weights, facts=facts)
    return output


def build_as_set(tables: Tables, output: Path, settings: Settings) -> datetime:
    """Build the feature set as the settings say, and return its `as_of`. What looks count is learnt before the gate.

    Raises:
        PeriodError: the periods are out of order, or there are too few pairs to choose them from; else as `build`.
    """
    periods = resolve(settings, tables)
    build(
        tables,
        output,
        as_of=periods.as_of,
        threads=settings.training.threads,
        kept_ids=IdsFile.of(settings),
        looks=settings.looks,
        learn_looks_before=periods.gate_from,
        text_cache=Home.of(settings).text_vectors,
        memory_limit=settings.resources.memory_limit,
        scratch=settings.resources.scratch,
    )
    return periods.as_of


def _build(source: Source, output: Path, spill: Path, weights: LookWeights, *, facts: bool) -> None:
    decided = decisions.decisions(source)
    named = ValueNames()
    campaign_features = campaigns.campaign_features(source, named)
    popularity_V = campaigns.item_popularity(source)
    catalogue = campaigns.catalogue(source, campaign_features, popularity_V)
    users = _user_table(source, decided, catalogue.taxonomy_version, named, spill, weights)
    pair_table, found = _pair_table(source, users)
    catalogue = campaigns.with_newcomers(catalogue, found)
    if LOOKED in users.column_names:
        catalogue = campaigns.with_look_rules(catalogue, weights.rules)
    with whole_folder(output) as folder:
        catalogue.save(folder / "catalogue")
        source.ids.save(folder / IDS_FILE)
        _write(users, folder / "users.parquet")
        _write(_campaign_table(source, campaign_features), folder / "campaigns.parquet")
        _write(_item_table(source, popularity_V), folder / "items.parquet")
        _write(pair_table, folder / "pairs.parquet")
        if facts:
            _write(facts_at(source, source.as_of), folder / FACTS_FILE)
        schema: dict[str, Any] = {
            "portrait": [name for name in users.column_names if "__" in name],
            "campaign": list(campaign_features.names),
            "cross": list(cross_names(tuple(users.column_names))),
            "segments": pairs.segment_columns(pair_table),
            "values": named.features,
        }
        if LOOKED in users.column_names:
            schema["looks"] = weights.described()
        (folder / "schema.json").write_text(json.dumps(schema, indent=1, ensure_ascii=False), encoding="utf-8")
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


def _user_table(
    source: Source, decided: pa.Table, taxonomy_version: str, named: ValueNames, spill: Path, weights: LookWeights
) -> pa.Table:
    """Build one row for each decision: the user's portrait and packed vectors as known then.

    The packed vectors, which are most of the table, lie in a file of `spill` from which they are mapped into memory.
    """
    past_targets = campaign_habits.past_targets(source, decided)
    own = campaign_habits.open_campaigns(source, decided, past_targets)
    packer = Packer(
        campaign_habits.habits_by_type(past_targets),
        own,
        _habits_without_own(source, past_targets, own),
        taxonomy_version=taxonomy_version,
        minor_units=source.minor_units,
        file=spill / "packed.arrow",
    )
    known = portrait(source, decided, named, past_targets=past_targets, packer=packer, look_weights=weights)
    packed = packer.table()
    arrays: dict[str, Any] = {"user_id": decided["user_id"], "event_timestamp": decided["decided_at"]}
    arrays |= {name: pa.array(values_D) for name, values_D in known.columns.items()}
    arrays |= {name: packed[name] for name in ("affinity", "history")}
    return pa.table(arrays)


def _habits_without_own(source: Source, past_targets: Any, own: pa.Table) -> NDArray[np.float32]:
    """Compute the features about campaigns without the one of each row of `own`, float32 [O, H]."""
    # Names of its own: the features are the same, so they get the same names again.
    left = campaign_habits.habits(campaign_habits.without_own(past_targets, own), source, ValueNames()).to_pyarrow()
    found = aligned(left, own.num_rows)
    columns = [np.nan_to_num(column) if is_count(name) else column for name, column in found.items()]
    return np.stack(columns, axis=1).astype(np.float32)


def _pair_table(source: Source, users: pa.Table) -> tuple[pa.Table, Newcomers]:
    """Build the pairs with the segment `activity` of each pair's user at its decision, and learn from them."""
    table = pairs.pairs(source)
    keys = zip(users["user_id"].to_pylist(), users["event_timestamp"].cast(pa.int64()).to_pylist(), strict=True)
    row_of = {key: row for row, key in enumerate(keys)}
    decided = table["decided_at"].cast(pa.int64()).to_pylist()
    rows = [row_of[key] for key in zip(table["user_id"].to_pylist(), decided, strict=True)]
    baskets_D = users["behaviour__baskets_per_month"].to_numpy().astype(np.float64)
    now_D = pc.equal(users["event_timestamp"], pa.scalar(source.as_of, TIME)).to_numpy(zero_copy_only=False)
    return pairs.with_activity(table, baskets_D[rows]), newcomers(source, table, baskets_D[rows], baskets_D[now_D])


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


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
