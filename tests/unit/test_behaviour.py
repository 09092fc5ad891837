"""Forecasts of behaviour: nothing after a cutoff is known at it, and models of counts are what their papers say."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_shop import SmallShop
from typer.testing import CliRunner

from cli.main import app
from recommender.datasets.synthetic import World, generate
from recommender.datasets.tables import Tables
from recommender.errors import BundleError, LabelError, PeriodError, SettingsError
from recommender.features.cutoffs import cutoffs, rows_at
from recommender.features.source import Source, open_source
from recommender.matching.users_at import Counts, Floats, Learnt, UsersAt
from recommender.models.behaviour import BASELINES, available, bg_nbd, forecast_of
from recommender.settings import Settings, TrainingSettings
from recommender.storage.manifest import read_manifest
from recommender.training.behaviour import Behaviour, forecast_behaviour, require_choices

CUTOFF = datetime(2024, 3, 11, 23, tzinfo=UTC)  # midnight in Berlin
BEFORE = """\
user_id,event_time,item_id,quantity,amount
17,2024-03-02 10:00:00,tin,1,9.5
17,2024-03-02 18:00:00,tin,1,9.5
17,2024-03-05 10:00:00,tin,1,9.5
17,2024-03-11 23:59:59,tin,1,9.5
18,2024-03-03 11:00:00,tin,1,9.5
"""
AFTER = """\
18,2024-03-12 00:00:00,tin,1,9.5
17,2024-03-19 00:00:00,tin,2,19.0
19,2024-03-14 12:00:00,tin,2,19.0
17,2024-04-30 12:00:00,tin,2,19.0
"""
SETTINGS = Settings(training=TrainingSettings(threads=1))


@contextmanager
def opened(tables: Tables, as_of: datetime) -> Iterator[Source]:
    with TemporaryDirectory() as spill:
        yield open_source(tables, as_of, threads=1, spill=Path(spill))


def users_of(folder: Path, events: str, *, took_part: str = "") -> UsersAt:
    shop = SmallShop(folder)
    shop.write("events.csv", events)
    if took_part:
        shop.write("coupons.csv", "campaign_id,user_id,participated_at\n" + took_part)
        shop.parts["participations"] = 'file = "coupons.csv"\n'
    with opened(shop.read(), CUTOFF + timedelta(days=40)) as source:
        return rows_at(source, CUTOFF, (7, 28, 50))


def test_an_event_after_the_cutoff_changes_no_feature_and_no_count(tmp_path: Path) -> None:
    without, with_later = (users_of(tmp_path / str(k), text) for k, text in enumerate((BEFORE, BEFORE + AFTER)))
    assert with_later.user_ids == without.user_ids == ("17", "18")
    assert with_later.names == without.names
    np.testing.assert_array_equal(with_later.features_NF, without.features_NF)
    for outcome, counts in without.counts.items():
        for name in ("num_N", "last_N", "known_N"):
            np.testing.assert_array_equal(getattr(with_later.counts[outcome], name), getattr(counts, name))
    assert not any(happened_N.any() for happened_N in without.outcomes.values())


def test_a_window_begins_with_its_cutoff_and_ends_before_its_last_moment(tmp_path: Path) -> None:
    found = users_of(tmp_path, BEFORE + AFTER, took_part="spring,17,2024-03-15 10:00:00\n")
    # User 18 buys at the cutoff itself, user 17 seven days later to the second.
    assert found.outcomes["buy", 7].tolist() == [0.0, 1.0]
    assert found.outcomes["buy", 28].tolist() == [1.0, 1.0]
    assert found.outcomes["redeem", 7].tolist() == [1.0, 0.0]
    # 50 days would pass the moment up to which the log is known.
    assert {days for _, days in found.outcomes} == {7, 28}


def test_counts_are_days_after_the_first_one(tmp_path: Path) -> None:
    counts = users_of(tmp_path, BEFORE, took_part="spring,17,2024-03-11 10:00:00\n").counts
    hour = 1 / 24
    assert counts["buy"].num_N.tolist() == [2.0, 0.0]
    assert counts["buy"].known_N.tolist() == pytest.approx([9 + 14 * hour, 8 + 13 * hour])
    assert counts["buy"].last_N.tolist() == pytest.approx([9 + 14 * hour - 1 / 86_400, 0.0])
    assert counts["redeem"].num_N.tolist() == [1.0, 0.0]
    assert counts["redeem"].last_N.tolist() == [9.0, 0.0]


def simulated(count: int, *, leaves: bool, seed: int = 5) -> tuple[Counts, Floats]:
    """Counts of users before a moment, and whether they come again within 14 days after it. r = 2, alpha = 20 days."""
    random = np.random.default_rng(seed)
    known_N = random.uniform(30, 300, count)
    rates_N, leave_N = random.gamma(2.0, 1 / 20.0, count), random.beta(1.0, 6.0, count)
    num_N, last_N, again_N = np.zeros(count), np.zeros(count), np.zeros(count)
    for row in range(count):
        time = 0.0
        while True:
            time += random.exponential(1 / rates_N[row])
            if time > known_N[row]:
                again_N[row] = time <= known_N[row] + 14
                break
            num_N[row], last_N[row] = num_N[row] + 1, time
            if leaves and random.random() < leave_N[row]:
                break
    return Counts(num_N, last_N, known_N), again_N


def users(counts: Counts) -> UsersAt:
    count = len(counts.num_N)
    return UsersAt(CUTOFF, tuple(map(str, range(count))), (), np.zeros((count, 0), np.float32), {"buy": counts}, {})


def log_loss(p_N: Floats, happened_N: Floats) -> float:
    return float(-np.mean(np.where(happened_N > 0, np.log(p_N), np.log1p(-p_N))))


def forecast(name: str, counts: Counts, again_N: Floats) -> Floats:
    learnt = Learnt((), np.zeros((len(again_N), 0), np.float32), counts, again_N, 14)
    return forecast_of(name)(learnt, users(counts), "buy", 17)


def test_bg_nbd_finds_the_parameters_of_its_own_world_and_is_calibrated_in_it() -> None:
    counts, again_N = simulated(6_000, leaves=True)
    r, alpha, a, b = bg_nbd.fit(counts)
    assert r == pytest.approx(2.0, rel=0.15)
    assert alpha == pytest.approx(20.0, rel=0.2)
    assert a / (a + b) == pytest.approx(1 / 7, rel=0.15)
    truth = bg_nbd.log_likelihood(2.0, 20.0, 1.0, 6.0, counts).mean()
    assert bg_nbd.log_likelihood(r, alpha, a, b, counts).mean() > truth - 0.002
    p_N = forecast("bg_nbd", counts, again_N)
    assert again_N.sum() / p_N.sum() == pytest.approx(1.0, abs=0.06)
    # Who has not come for long is likelier gone: only the model of recency knows it.
    assert log_loss(p_N, again_N) < log_loss(forecast("own_rate", counts, again_N), again_N) - 0.05


def test_the_own_rate_is_calibrated_where_nobody_leaves() -> None:
    counts, again_N = simulated(6_000, leaves=False)
    p_N = forecast("own_rate", counts, again_N)
    assert again_N.sum() / p_N.sum() == pytest.approx(1.0, abs=0.03)
    for part in np.array_split(np.argsort(p_N), 4):
        assert again_N[part].mean() == pytest.approx(p_N[part].mean(), abs=0.04)
    assert log_loss(p_N, again_N) < log_loss(forecast("base_rate", counts, again_N), again_N) - 0.02


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    world = World.small(num_users=150, num_items=40, num_campaigns=12, days=190, days_between_baskets=20.0)
    return generate(world, tmp_path_factory.mktemp("world") / "tables")


def test_the_verb_writes_a_probability_for_every_user_outcome_and_length(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    days = ["--days", "7", "--days", "28"]
    words = ["behaviour", "--data", str(tables.folder), "--output", "made", "--origins", "1", *days]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = Behaviour.model_validate_json((tmp_path / "made/figures.json").read_text())
    facts = read_manifest(tmp_path / "made")
    assert (facts["kind"], facts["forecast"], facts["data_hash"]) == ("behaviour", "logistic", tables.data_hash)
    assert facts["cutoffs"] == [one.isoformat() for one in found.cutoffs]
    predictions = pq.read_table(tmp_path / "made/predictions.parquet")
    assert predictions.column_names == ["user_id", "outcome", "days", "probability"]
    keys = set(zip(*(predictions[name].to_pylist() for name in ("user_id", "outcome", "days")), strict=True))
    assert len(keys) == predictions.num_rows == 150 * len(found.tasks)
    judged, left = ({(one.outcome, one.days) for one in part} for part in (found.tasks, found.left_out))
    assert judged >= {("buy", 7), ("buy", 28), ("visit", 7), ("redeem", 7), ("redeem", 28)}
    assert judged | left == {(outcome, days) for outcome in ("buy", "visit", "redeem") for days in (7, 28)}
    probability = predictions["probability"].to_numpy()
    assert 0 < probability.min() < probability.max() < 1
    shares = {(task.outcome, task.days): task.share for task in found.tasks}
    assert shares["visit", 7] > shares["buy", 7] > shares["redeem", 7]
    assert shares["buy", 28] > shares["buy", 7]


@pytest.mark.parametrize(
    ("wrong", "error"), [(["--days", "0"], SettingsError), (["--forecast", "nonsense"], BundleError)]
)
def test_a_wrong_choice_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str], error: type[Exception]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").mkdir()
    done = CliRunner().invoke(app, ["behaviour", "--data", "tables", "--output", "made", *wrong])
    assert done.exit_code == 2
    assert wrong[1] in done.stderr
    assert "tables" not in done.stderr
    with pytest.raises(error):
        require_choices([0] if error is SettingsError else [7], wrong[1])


def test_each_cutoff_is_judged_by_what_follows_and_learns_from_all_earlier_ones(tables: Tables, tmp_path: Path) -> None:
    found = forecast_behaviour(tables, SETTINGS, tmp_path / "made", days=[28], origins=2)
    assert {later - earlier for earlier, later in zip(found.cutoffs, found.cutoffs[1:], strict=False)} == {
        timedelta(days=28)
    }
    assert found.cutoffs[-1] + timedelta(days=28) == found.as_of
    assert found.as_of == tables.log_end.astimezone(UTC) + timedelta(microseconds=1)
    task = next(one for one in found.tasks if one.outcome == "buy")
    assert [one.cutoff for one in task.cutoffs] == found.cutoffs[-2:]
    first, second = task.cutoffs
    assert second.num_learnt_from == first.num_learnt_from + first.num_users
    assert set(task.forecasts) == set(available())
    assert task.best_baseline in BASELINES
    for of in task.forecasts.values():
        for estimate in of.metrics.values():
            assert estimate.low <= estimate.value <= estimate.high  # type: ignore[operator]
    assert task.forecasts["base_rate"].metrics["auc"].value == 0.5
    means = [one.forecasts["logistic"]["auc"] for one in task.cutoffs]
    assert task.forecasts["logistic"].metrics["auc"].value == pytest.approx(np.mean(means))  # type: ignore[arg-type]
    kept = json.loads((tmp_path / "made/figures.json").read_text())
    assert Behaviour.model_validate(kept) == found


def test_now_is_never_after_the_log(tables: Tables, tmp_path: Path) -> None:
    later = SETTINGS.updated(time={"as_of": "2030-01-01"})
    found = forecast_behaviour(tables, later, tmp_path / "made", days=[28], origins=1, forecast="bg_nbd")
    assert found.as_of == tables.log_end.astimezone(UTC) + timedelta(microseconds=1)


def test_what_cannot_be_forecast_is_left_out_or_a_typed_error(tables: Tables, tmp_path: Path) -> None:
    output = tmp_path / "made"
    with pytest.raises(PeriodError, match=r"at least 600"):
        forecast_behaviour(tables, SETTINGS, output, days=[7, 200])
    with pytest.raises(SettingsError, match="1 to 365"):
        forecast_behaviour(tables, SETTINGS, output, days=[0, 7])
    with pytest.raises(BundleError, match=r"'nonsense'.*logistic"):
        forecast_behaviour(tables, SETTINGS, output, forecast="nonsense")
    assert not output.exists()
    shop = SmallShop(tmp_path / "shop")
    with pytest.raises(PeriodError, match="spans 10 days"):
        forecast_behaviour(shop.read(), SETTINGS, output, days=[7])
    with pytest.raises(LabelError, match=r"no outcome can be forecast\. .*redeem: 0 of"):
        forecast_behaviour(shop.read(), SETTINGS, output, days=[3])


def test_without_other_events_a_visit_is_left_out_and_said_to_be_a_purchase(tmp_path: Path) -> None:
    world = World.small(num_users=100, num_items=40, num_campaigns=8, days=120, views=False)
    bought = generate(world, tmp_path / "tables")
    kinds = set(pq.read_table(bought.folder / "events", columns=["kind"])["kind"].to_pylist())
    found = forecast_behaviour(bought, SETTINGS, tmp_path / "made", days=[30], origins=1, forecast="own_rate")
    assert (kinds == {"purchase"}) == any(one.outcome == "visit" for one in found.left_out)
    assert kinds == {"purchase"}


def test_cutoffs_leave_a_step_of_the_log_before_the_first_one(tables: Tables) -> None:
    with opened(tables, tables.log_end) as source:
        found = cutoffs(source, step_days=28)
        first = source.events.event_time.min().to_pyarrow().as_py()
    assert timedelta(days=28) <= found[0] - first < timedelta(days=56)
