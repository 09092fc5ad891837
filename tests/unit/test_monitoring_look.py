"""Monitoring finds what was planted (drift, gaps, other columns, old data) and is silent where nothing changed."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.datasets.periods import microseconds
from recommender.datasets.tables import Tables
from recommender.errors import FeatureStoreError, LimitBroken, RegistryError, SettingsError
from recommender.features import build
from recommender.features.training_set import write_training_set
from recommender.matching.affinity import AXES, MEASURES, UserAffinity, pack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_user import ServingSchema
from recommender.monitoring.ages import age_in_words
from recommender.monitoring.columns import require_columns
from recommender.monitoring.deals import Sides, deal
from recommender.monitoring.distributions import Distribution, shift
from recommender.monitoring.drift import drift, drift_findings, not_compared
from recommender.monitoring.findings import Report, require_limits
from recommender.monitoring.metrics import metrics_text
from recommender.monitoring.monitor import monitor
from recommender.monitoring.reference import Reference, at_moment
from recommender.registry import Registry
from recommender.report.monitoring import publish_monitoring
from recommender.settings import MonitoringSettings, Settings, TrainingSettings
from recommender.storage.home import FEATURES_SCHEMA_FILE, REFERENCE_FILE, Home
from recommender.storage.manifest import whole_folder, write_manifest
from recommender.training import train

Users = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Watched:
    """A shop with a champion."""

    settings: Settings
    tables: Tables
    features: Path

    def changed(self, folder: Path, change: Users) -> Path:
        """The features with other users."""
        with whole_folder(folder) as draft:
            for file in self.features.rglob("*"):
                if file.is_file() and file.name not in ("manifest.json", "users.parquet"):
                    target = draft / file.relative_to(self.features)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(file.read_bytes())
            catalogue = self.features / "catalogue" / "manifest.json"
            (draft / "catalogue" / "manifest.json").write_bytes(catalogue.read_bytes())
            pq.write_table(change(pq.read_table(self.features / "users.parquet")), draft / "users.parquet")
            write_manifest(draft, kind="features", format=1, as_of=AS_OF.isoformat())
        return folder

    def look(self, features: Path | None = None, *, now: datetime = AS_OF, **limits: Any) -> Report:
        chosen = self.settings.updated(monitoring=limits)
        return monitor(features or self.features, self.tables.folder, chosen, now=now)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    tables = Shop.generate(folder / "generated").write(folder / "tables")
    features = build(tables, folder / "features", as_of=AS_OF, threads=1)
    users, pairs = (pq.read_table(features / f"{name}.parquet") for name in ("users", "pairs"))
    catalogue = Catalogue.load(features / "catalogue")
    settings = Settings(
        home=folder / "home",
        time={"as_of": AS_OF, "gate_from": AS_OF - timedelta(days=60), "test_from": AS_OF - timedelta(days=30)},
        training=TrainingSettings(threads=1, calibration_fits=0),
    )
    training_set = write_training_set(
        users,
        pairs,
        catalogue,
        tables,
        folder / "training-set",
        as_of=AS_OF,
        reference=Reference.of(users, catalogue, as_of=AS_OF, data_hash=tables.data_hash).text(),
    )
    made = train(training_set, ranker="logistic", settings=settings, output=folder / "fits")
    registry = Registry(settings.home)
    registry.promote(registry.add(made.output))
    materialised(Home.of(settings))
    return Watched(settings, tables, features)


def materialised(home: Home) -> None:
    """What a materialisation of the features leaves for monitoring to read."""
    home.feature_store.root.mkdir(parents=True)
    ServingSchema(
        project="campaigns",
        view="user_serving",
        field="packed",
        join_key="user_id",
        entity_key_serialization_version=3,
        layouts=(("base__member_days",),),
        features_hash="0",
        catalogue_hash="0",
        as_of=AS_OF.isoformat(),
    ).save(home.feature_store.root)


def replaced(table: pa.Table, name: str, values: np.ndarray[Any, Any]) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values.astype(np.float32)))


def test_an_unchanged_shop_breaks_no_limit_and_nothing_moved(watched: Watched) -> None:
    report = watched.look()
    assert report.findings == ()
    assert report.num_users_before == report.num_users_now == 150
    assert {one.over for one in report.drift} == {"users", "campaigns", "pairs"}
    # Live campaigns are compared with all that the champion was trained on, so their values are others.
    assert max(one.psi for one in report.drift if one.over != "campaigns") == 0
    assert not any(one.moved for one in report.drift)
    assert sum(one.importance for one in report.drift) == pytest.approx(1)
    assert "8 in training" in report.campaigns_note
    assert "too few" in report.campaigns_note


def test_a_planted_drift_is_found_breaks_the_limit_and_comes_first(watched: Watched, tmp_path: Path) -> None:
    of_users = [one for one in watched.look().drift if one.over == "users"]
    important, unimportant = (choose(of_users, key=lambda one: one.importance) for choose in (max, min))

    def change(users: pa.Table) -> pa.Table:
        for name in (important.name, unimportant.name):
            values = users[name].to_numpy()
            users = replaced(users, name, values + 3 * np.nanstd(values) + 1)
        return users

    report = watched.look(watched.changed(tmp_path / "moved", change), min_importance=0.005)
    assert report.drift[0].name == important.name
    assert report.drift[0].psi > 1
    first = report.findings[0]
    assert (first.kind, first.about, first.breaks) == ("drift", f"drift of {important.name}", True)
    assert first.measured == pytest.approx(report.drift[0].psi)
    assert {finding.about for finding in report.findings} == {first.about, f"drift of {unimportant.name}"}
    assert [finding.breaks for finding in report.findings] == [True, False]


def test_a_feature_that_is_missing_more_often_is_found_by_its_share(watched: Watched, tmp_path: Path) -> None:
    important = max((one for one in watched.look().drift if one.over == "users"), key=lambda one: one.importance)

    def change(users: pa.Table) -> pa.Table:
        values = users[important.name].to_numpy().copy()
        values[::2] = np.nan
        return replaced(users, important.name, values)

    report = watched.look(watched.changed(tmp_path / "gaps", change), max_psi=100)
    (finding,) = report.findings
    assert (finding.kind, finding.breaks) == ("missing", True)
    assert important.name in finding.words
    assert finding.measured == pytest.approx(0.5, abs=0.15)


def test_other_columns_than_the_champion_s_are_named_and_stop_a_materialisation(
    watched: Watched, tmp_path: Path
) -> None:
    gone = "consumption__spend_30d"

    def change(users: pa.Table) -> pa.Table:
        kept = users.drop_columns([gone])
        return kept.append_column("social__zaps", pa.array(np.zeros(users.num_rows, dtype=np.float32)))

    features = watched.changed(tmp_path / "other", change)
    finding = watched.look(features).findings[0]
    assert (finding.kind, finding.breaks) == ("columns", True)
    (features / FEATURES_SCHEMA_FILE).write_text(json.dumps({"absent": {"events.amount": ["consumption__*"]}}))
    with pytest.raises(FeatureStoreError, match=rf"appeared: social__zaps; vanished: {gone}") as stopped:
        require_columns(features, watched.settings)
    rows = [re.split(r" {2,}", line) for line in str(stopped.value).splitlines()[-2:]]
    assert rows[0] == [gone, "a feature", "–", "bring back events.amount"]
    assert rows[1][:3] == ["social__zaps", "–", "a feature"]
    require_columns(watched.features, watched.settings)
    accepted = watched.settings.monitoring.model_copy(update={"accept_vanished_columns": True})
    require_columns(features, watched.settings.model_copy(update={"monitoring": accepted}))


def test_a_column_that_appeared_is_named_and_stops_nothing(watched: Watched, tmp_path: Path) -> None:
    def change(users: pa.Table) -> pa.Table:
        return users.append_column("social__zaps", pa.array(np.zeros(users.num_rows, dtype=np.float32)))

    features = watched.changed(tmp_path / "more", change)
    finding = next(one for one in watched.look(features).findings if one.kind == "columns")
    assert not finding.breaks
    assert "social__zaps" in finding.words
    require_columns(features, watched.settings)


def test_data_older_than_its_promise_breaks_it_and_says_by_how_much(watched: Watched) -> None:
    report = watched.look(now=AS_OF + timedelta(days=300), max_age_hours={"events": 24, "user_serving": 24})
    found = {finding.about: finding for finding in report.findings}
    assert set(found) == {"age of events", "age of user_serving"}
    days = (AS_OF + timedelta(days=300) - watched.tables.log_end) / timedelta(days=1)
    assert found["age of events"].measured == pytest.approx(24 * days)
    assert f"{days:.1f} days old" in found["age of events"].words
    assert found["age of user_serving"].measured == pytest.approx(24 * 300)


def test_what_is_newer_than_now_has_no_age_and_says_so(watched: Watched) -> None:
    now = watched.tables.log_end - timedelta(hours=5)
    (events,) = (one for one in watched.look(now=now).ages if one.name == "events")
    assert age_in_words(events, now) == "later than now"
    assert age_in_words(events, watched.tables.log_end + timedelta(hours=5)) != "later than now"


def test_a_promise_for_something_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="event"):
        Settings().updated(monitoring={"max_age_hours": {"event": 24}})


def test_without_a_champion_nothing_is_watched(watched: Watched, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no champion"):
        monitor(watched.features, watched.tables.folder, watched.settings.updated(home=tmp_path))


def test_a_version_without_distributions_is_a_finding_and_no_crash(watched: Watched, tmp_path: Path) -> None:
    registry, other = Registry(watched.settings.home), tmp_path / "home"
    former = tmp_path / "fits"
    for file in registry.path(registry.champion() or "").rglob("*"):
        if file.is_file() and file.name != REFERENCE_FILE:
            target = former / file.relative_to(registry.path(registry.champion() or ""))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    Registry(other).promote(Registry(other).add(former))
    report = monitor(watched.features, watched.tables.folder, watched.settings.updated(home=other), now=AS_OF)
    # Nothing was materialised into that home either, which breaks the promise of the store.
    found = [(finding.about, finding.breaks, finding.measured) for finding in report.findings]
    assert found == [("age of user_serving", True, None), ("reference of the champion", False, None)]
    assert report.drift == ()


def test_what_is_found_is_published_as_page_json_and_metrics_and_a_broken_limit_is_named(
    watched: Watched, tmp_path: Path
) -> None:
    home = Home(tmp_path)
    report = watched.look(now=AS_OF + timedelta(days=300), max_age_hours={"events": 24, "user_serving": 9000})
    page = publish_monitoring(report, home)
    assert home.monitoring.page.read_text(encoding="utf-8") == page
    assert "://" not in page.replace("http://www.w3.org", "")
    assert Report.read(home.monitoring.report) == report
    lines = home.monitoring.metrics.read_text(encoding="utf-8").splitlines()
    assert lines == metrics_text(report).splitlines()
    assert "recommender_monitoring_limits_broken 1" in lines
    with pytest.raises(LimitBroken, match=r"(?s)age of events.*Look at the export"):
        require_limits(home.monitoring.report)


def test_a_version_of_a_release_that_kept_no_campaigns_says_that_they_are_not_compared(
    watched: Watched, tmp_path: Path
) -> None:
    registry, champion = Registry(watched.settings.home), Registry(watched.settings.home).champion() or ""
    reference = Reference.read(registry.path(champion) / REFERENCE_FILE)
    former = json.loads(reference.model_copy(update={"campaigns": None, "candidates": None}).text())
    del former["campaigns"], former["candidates"]
    file = tmp_path / REFERENCE_FILE
    file.write_text(json.dumps(former), encoding="utf-8")
    read = Reference.read(file)
    users = at_moment(pq.read_table(watched.features / "users.parquet"), AS_OF)
    limits = watched.settings.monitoring
    found = drift(read, users, watched.features, AS_OF, None, registry.bundle(champion), limits)
    assert {one.over for one in found.features} == {"users"}
    (finding,) = not_compared(read)
    assert (finding.kind, finding.breaks) == ("reference", False)
    assert "not compared" in finding.words
    assert list(not_compared(reference)) == []


def test_cross_features_that_fall_to_nothing_in_all_live_campaigns_are_found(watched: Watched, tmp_path: Path) -> None:
    users = at_moment(pq.read_table(watched.features / "users.parquet"), AS_OF)
    known = Catalogue.load(watched.features / "catalogue")
    long = replace(known, campaign_ends_C=np.full_like(known.campaign_ends_C, microseconds(AS_OF + timedelta(days=9))))
    long.save(tmp_path / "features" / "catalogue")
    reference = Reference.of(users, long, as_of=AS_OF, data_hash="")
    assert reference.candidates is not None
    assert reference.candidates.num_campaigns == 8
    none = np.zeros(0, dtype=np.int32)
    nothing = UserAffinity(
        months=1.0,
        values=(none,) * len(AXES),
        counts=(np.zeros((len(MEASURES), 0), dtype=np.uint16),) * len(AXES),
        cents=(none,) * len(AXES),
        types=none.astype(np.uint32),
        targeted=none.astype(np.uint16),
        redeemed=none.astype(np.uint16),
    )
    blank = pa.array([pack_user(nothing, long.taxonomy_version)] * users.num_rows, type=users["affinity"].type)
    broken = users.set_column(users.column_names.index("affinity"), "affinity", blank)
    registry, limits = Registry(watched.settings.home), MonitoringSettings(min_importance=0)
    bundle = registry.bundle(registry.champion() or "")
    found = drift(reference, broken, tmp_path / "features", AS_OF, None, bundle, limits)
    moved = {one.name for one in found.features if one.moved}
    assert "affinity__category__lines_per_month" in moved
    assert all(name.startswith("affinity__") for name in moved)
    findings = {finding.about: finding for finding in drift_findings(found, limits)}
    finding = findings["drift of affinity__category__lines_per_month"]
    assert finding.breaks
    assert "over the pairs" in finding.words
    unchanged = drift(reference, users, tmp_path / "features", AS_OF, None, bundle, limits)
    assert not any(one.moved for one in unchanged.features)


def test_the_shortest_text_of_an_edge_keeps_every_value_in_its_bin() -> None:
    values = np.random.default_rng(3).gamma(2, size=500).astype(np.float32)
    before = Distribution.of(values)
    read = Distribution.model_validate_json(before.model_dump_json())
    assert Distribution.in_bins(values, read.edges) == before
    assert shift(read, values, false_alarm=0.01).psi == 0


def pairs(random: np.random.Generator, num_campaigns: int, *, moved: float = 0.0) -> list[np.ndarray[Any, Any]]:
    """Of twenty features the shares of each campaign's pairs in ten bins. Pairs of one campaign are much alike."""
    level_CF = random.normal(moved, 1, (num_campaigns, 20))
    values_CFU = level_CF[:, :, None] + 0.5 * random.normal(size=(1, 1, 200))
    bins_CFU = np.searchsorted(np.linspace(-2, 2, 9), values_CFU)
    return [np.stack([np.bincount(one, minlength=10) / 200 for one in bins_CFU[:, f]]) for f in range(20)]


def alarms(random: np.random.Generator, then: int, now: int, *, moved: float = 0.0, others: int = 0) -> bool:
    """Whether any feature is called drifted. `moved`: shift of `now` campaigns, beside `others` that did not move."""
    before, after = pairs(random, then), pairs(random, now, moved=moved)
    if others:
        after = [np.concatenate(both) for both in zip(after, pairs(random, others), strict=True)]
    sides = {str(f): Sides(*both) for f, both in enumerate(zip(before, after, strict=True))}
    dealt = deal(sides, false_alarm=0.05)
    return max(dealt.distances.values()) > dealt.by_chance + 1e-9


def test_chance_among_campaigns_is_counted_by_campaigns_however_many_pairs_they_have() -> None:
    # At a level of 5 % more than 16 of 150 have a probability of 0.1 %. `make bench-monitoring` simulates many more.
    random = np.random.default_rng(11)
    assert sum(alarms(random, 6, 5) for _ in range(150)) <= 16
    # Counted by pairs, nearly all would be alarms.
    assert sum(alarms(random, 6, 1, moved=6.0) for _ in range(20)) == 0
    assert sum(alarms(random, 6, 1, moved=6.0, others=5) for _ in range(40)) <= 8
    assert sum(alarms(random, 6, 6, moved=3.0) for _ in range(20)) >= 19


def test_too_few_campaigns_to_tell_chance_from_drift_are_said_to_be_too_few() -> None:
    values = {"lines": Sides.of_values(np.zeros(3, dtype=np.float32), np.ones(3, dtype=np.float32))}
    few, enough = deal(values, false_alarm=0.05), deal(values, false_alarm=0.2)
    assert not few.can_tell
    assert few.distances["lines"] == few.by_chance == 1
    assert enough.can_tell
    assert enough.by_chance < 1


@pytest.mark.parametrize(
    "draw",
    [
        lambda random: random.normal(size=400),
        lambda random: np.where(random.random(400) < 0.9, 0, random.exponential(size=400)),
        lambda random: (random.random(400) < 0.02).astype(float),
        lambda random: np.where(random.random(400) < 0.3, np.nan, random.poisson(2, size=400)),
    ],
    ids=["continuous", "mostly-zero", "rare", "counts-with-gaps"],
)
def test_the_same_distribution_is_called_drifted_as_rarely_as_the_settings_say(draw: Any) -> None:
    # `make bench-monitoring` simulates many more. At a level of 1 % more than 9 of 300 have a probability of 0.1 %.
    random = np.random.default_rng(5)
    drawn = [(draw(random).astype(np.float32), draw(random).astype(np.float32)) for _ in range(300)]
    alarms = [shift(Distribution.of(one), other, false_alarm=0.01) for one, other in drawn]
    assert sum(alarm.beyond_chance for alarm in alarms) <= 9
    assert sum(alarm.missing_rise > 0 for alarm in alarms) <= 9


def test_a_rare_value_that_becomes_common_is_seen() -> None:
    random = np.random.default_rng(7)
    before, after = ((random.random(1000) < share).astype(np.float32) for share in (0.03, 0.3))
    moved = shift(Distribution.of(before), after, false_alarm=1e-4)
    assert moved.beyond_chance
    assert moved.psi > 0.5
    assert moved.ks == pytest.approx(0.27, abs=0.04)
