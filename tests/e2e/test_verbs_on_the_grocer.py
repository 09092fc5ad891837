"""Every batch verb on the grocer's year, whose five campaigns are live at once, as its user runs it after one run.

One call of each verb is a process of the installed command. The others run in the test's process, which has loaded
what a new process would load for one to three CPU-seconds.
"""

import json
import os
import re
import subprocess
import sys
from contextlib import chdir
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from servers import free_ports
from typer.testing import CliRunner

from benchmarks.decision.log_facts import Said, contradicted
from cli.main import app
from cli.options import settings_of
from recommender.datasets.contract import open_views
from recommender.datasets.periods import microseconds
from recommender.datasets.tables import Tables, open_tables
from recommender.matching.catalogue import Catalogue
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import Home
from serving.deployer.endpoint import serve

COMMAND = Path(sys.executable).with_name("recommender")
LIVE = ["15", "20", "21", "22", "23"]
USERS = 2_469

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Grocer:
    """A folder with settings and a home in which one run has finished."""

    folder: Path
    settings: Settings

    def process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The installed command."""
        environment = {**os.environ, "TMPDIR": str(self.folder), "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
        command = [str(COMMAND), *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=500
        )

    def runs(self, *arguments: str) -> str:
        """What the installed command prints."""
        done = self.process(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def typed(self, *arguments: str) -> Result:
        """The command in this process."""
        with chdir(self.folder):
            return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})

    def succeeds(self, *arguments: str) -> str:
        """What the command prints in this process."""
        done = self.typed(*arguments)
        assert done.exit_code == 0, done.output + str(done.exception)
        return done.stdout


@pytest.fixture(scope="module")
def grocer(tmp_path_factory: pytest.TempPathFactory) -> Grocer:
    """The default data with small rankers."""
    folder = tmp_path_factory.mktemp("grocer")
    gateway, inference, management, metrics = free_ports(4)
    (folder / "recommender.toml").write_text(
        f'home = "{folder}/var"\njudgement = "{folder}/judgement.toml"\n'
        "[time]\nas_of = 2017-12-31\ngate_from = 2017-05-01\ntest_from = 2017-10-01\n"
        '[training]\nchallenger = "rate_rule"\nbaselines = ["logistic"]\n'
        f"[serving]\nport = {gateway}\ninference_port = {inference}\nmanagement_port = {management}\n"
        f"metrics_port = {metrics}\ndeadline_ms = 5000\nstore_deadline_ms = 2000\n"
    )
    (folder / "judgement.toml").write_text("[gate]\nbootstrap_samples = 200\n")
    made = Grocer(folder, settings_of(folder / "recommender.toml"))
    made.runs("run", "--no-ask")
    return made


@pytest.fixture(scope="module")
def tables(grocer: Grocer) -> Tables:
    grocer.runs("ingest", "--output", "tables")
    return open_tables(grocer.folder / "tables")


@pytest.fixture(scope="module")
def scores(grocer: Grocer) -> list[dict[str, object]]:
    said = grocer.runs("score", "--output", "scores.parquet")
    assert "5 live campaigns" in said
    found = pq.read_table(grocer.folder / "scores.parquet")
    assert re.search(rf"\b{found.num_rows:,} pairs", said)
    return found.to_pylist()


def test_score_has_every_user_and_live_campaign_but_what_the_user_took_up(
    grocer: Grocer, tables: Tables, scores: list[dict[str, object]]
) -> None:
    with open_views(tables) as connection:
        rows = connection.execute(
            "SELECT DISTINCT user_id, campaign_id FROM participations "
            "WHERE list_contains(?, campaign_id) AND participated_at < '2017-12-31 05:00:00+00'",
            [LIVE],
        ).fetchall()
    pairs = {(row["user_id"], row["campaign_id"]) for row in scores}
    assert len(rows) > 30
    assert len(pairs) == len(scores) == USERS * 5 - len(rows)
    assert not pairs & set(rows)
    assert {campaign for _, campaign in pairs} == set(LIVE)


def test_the_endpoint_answers_with_the_same_scores(grocer: Grocer, scores: list[dict[str, object]]) -> None:
    by_user: dict[object, dict[object, float]] = {}
    for row in scores:
        by_user.setdefault(row["user_id"], {})[row["campaign_id"]] = float(str(row["score"]))
    with serve(grocer.settings) as deployment, httpx.Client(base_url=deployment.url, timeout=20) as client:
        for user_id in sorted(by_user, key=str)[::40]:
            request = {"user_id": user_id, "num_campaigns": 100, "num_items": 0}
            answer = client.post("/v1/recommendations", json=request).json()
            assert (answer["degraded"], answer["cold_start"]) == (False, False)
            served = {one["campaign_id"]: one["score"] for one in answer["campaigns"]}
            assert served == pytest.approx(by_user[user_id], rel=0, abs=1e-6)


def test_every_reason_is_true_in_the_log_and_own_items_are_one(grocer: Grocer, tables: Tables) -> None:
    said = []
    for user_id in ("1", "973", "1451", "2130", "609"):
        shown = grocer.succeeds("explain", user_id, "22")
        reasons = re.findall(r"^· (.*)$", shown, re.M)
        assert reasons or "taken it up" in shown
        said += [Said(user_id, "22", reason) for reason in reasons if "in 100 shoppers" not in reason]
    checked, wrong = contradicted(tables, pq.read_table(grocer.folder / "scores.parquet")["as_of"][0].as_py(), said)
    assert wrong == []
    assert checked > 3


def test_an_audience_is_the_campaign_s_users_best_first(grocer: Grocer, scores: list[dict[str, object]]) -> None:
    for campaign in LIVE[::3]:
        grocer.succeeds("audience", campaign, "--top", "3", "--output", "audience.parquet")
        audience = pq.read_table(grocer.folder / "audience.parquet")
        expected = {row["user_id"]: row["score"] for row in scores if row["campaign_id"] == campaign}
        assert dict(zip(*(audience[name].to_pylist() for name in ("user_id", "score")), strict=True)) == expected
        assert audience["score"].to_pylist() == sorted(expected.values(), reverse=True)
    ended = grocer.process("audience", "26")
    assert ended.returncode == 2
    assert all(fact in ended.stderr for fact in ("26", "2017-02-20", *LIVE))


def test_explain_names_the_stage_or_the_place(grocer: Grocer, scores: list[dict[str, object]]) -> None:
    catalogue = Catalogue.load(Home.of(grocer.settings).catalogue)
    known = {(row["user_id"], row["campaign_id"]): row for row in scores}
    missing = next((user, campaign) for user, _ in known for campaign in LIVE if (user, campaign) not in known)
    assert "serving.allow_repeats" in grocer.runs("explain", *map(str, missing))
    assert "2017-02-20" in grocer.succeeds("explain", "1", "26")
    shown = grocer.succeeds("explain", "1", "22")
    assert f"Place {known['1', '22']['rank']} of" in shown
    assert catalogue.campaign_names[catalogue.campaign_rows["22"]] in shown
    assert "Place 1 of 5" in grocer.succeeds(
        "explain", "never seen", best_for_newcomers(catalogue, datetime.fromisoformat(str(scores[0]["as_of"])))
    )
    unknown = grocer.typed("explain", "1", "nothing like it")
    assert unknown.exit_code == 2
    assert "'nothing like it'" in unknown.stderr


def best_for_newcomers(catalogue: Catalogue, as_of: datetime) -> str:
    rows = np.array([catalogue.campaign_rows[campaign] for campaign in LIVE], dtype=np.int32)
    return catalogue.campaign_ids[rows[np.argmax(catalogue.newcomer_scores(rows, microseconds(as_of)))]]


def test_tune_searches_on_the_year_and_continues(grocer: Grocer) -> None:
    assert "best of 1 trials" in grocer.runs("tune", "logistic", "--trials", "1")
    said = grocer.succeeds("tune", "logistic", "--trials", "2")
    assert "best of 2 trials" in said
    assert "[training.rankers.logistic]" in said
    folds = grocer.succeeds("tune", "lightgbm", "--trials", "1", "--folds", "2")
    assert "[training.rankers.lightgbm]" in folds


def test_cross_validation_judges_the_eight_campaigns_from_may_to_september(grocer: Grocer) -> None:
    origins = ["--origin", "2017-05-01", "--origin", "2017-08-01"]
    found = json.loads(
        grocer.runs("cross-validate", "--rankers", "logistic,rate_rule", *origins, "--through-gate", "--json")
    )
    assert [one["num_campaigns"] for one in found["origins"]] == [5, 3]
    assert (found["pooled"]["num_pairs"], found["pooled"]["num_positives"]) == (3_077, 408)
    assert found["test_from"].startswith("2017-10-01")
    auc = {name: of["metrics"]["auc"]["value"] for name, of in found["pooled"]["rankers"].items()}
    assert auc["logistic"] > auc["rate_rule"] + 0.05
    assert found["gains"]["rate_rule"]["log_loss"]["num_campaigns"] == 8


def test_cross_validation_ends_where_the_gate_period_begins_with_one_origin_on_so_few_participations(
    grocer: Grocer,
) -> None:
    before = json.loads(grocer.succeeds("cross-validate", "--rankers", "rate_rule", "--json"))
    assert before["gate_from"].startswith("2017-05-01")
    assert [(one["num_campaigns"], one["num_positives"]) for one in before["origins"]] == [(6, 18)]
    assert "nobody takes part" in grocer.succeeds("cross-validate", "--rankers", "rate_rule", "--origins", "2")


def test_behaviour_is_forecast_for_every_household_and_a_visit_is_no_second_success(
    grocer: Grocer, tables: Tables
) -> None:
    # Cutoffs lie 91 days apart: two of them, where the default lengths would have twelve.
    lengths = ["--days", "28", "--days", "91", "--origins", "1"]
    said = grocer.runs("behaviour", "--data", str(tables.folder), *lengths, "--output", "behaviour")
    assert "2,446 users" in said
    found = json.loads((grocer.folder / "behaviour" / "figures.json").read_text())
    assert {(one["outcome"], one["days"]) for one in found["left_out"]} == {("visit", 28), ("visit", 91)}
    assert pq.read_table(grocer.folder / "behaviour" / "predictions.parquet").num_rows == USERS * 4
    for task in found["tasks"]:
        losses = {name: of["metrics"]["log_loss"]["value"] for name, of in task["forecasts"].items()}
        assert min(losses, key=lambda name: losses[name]) in ("logistic", "lightgbm")


def test_report_shows_both_rankers_over_all_campaigns(grocer: Grocer) -> None:
    said = grocer.runs("report")
    assert "2,421 pairs" in said
    assert "8 campaigns" in said
    assert all(name in said for name in ("logistic", "rate_rule"))


def test_a_rollback_ends_the_canary_and_then_goes_back_to_the_earlier_champion(grocer: Grocer) -> None:
    registry = Registry(grocer.settings.home)
    champion = registry.champion()
    challenger = next(event["version"] for event in registry.history() if "rate_rule" in event["version"])
    registry.start_canary(challenger, 0.1)
    assert str(champion) in grocer.runs("rollback")
    assert registry.canary() is None
    registry.start_canary(challenger, 0.1)
    grocer.runs("promote")
    assert registry.champion() == challenger
    assert str(champion) in grocer.succeeds("rollback", "--reason", "a test")
    assert registry.champion() == champion
    assert grocer.typed("rollback").exit_code == 2


def test_a_next_item_ranker_reads_a_month_of_the_tables_that_ingest_wrote(grocer: Grocer, tables: Tables) -> None:
    # Two processes: the warning about equal rows, which the command shows, would be an error in a test's process.
    events = ["--interactions", "tables/events/2017-12", "--kinds", "purchase"]
    grocer.runs("next-items", "fit", *events, "--ranker", "item_popularity", "--save", "kept")
    grocer.runs("next-items", "ask", *events, "--bundle", "kept", "--top", "5", "--output", "next.parquet")
    found = pq.read_table(grocer.folder / "next.parquet")
    month = pq.read_table(grocer.folder / "tables" / "events" / "2017-12", columns=["user_id", "item_id"])
    assert found.num_rows == pc.count_distinct(month["user_id"]).as_py() * 5
    bought = set(pc.binary_join_element_wise(month["user_id"], month["item_id"], "/").to_pylist())
    asked = pc.binary_join_element_wise(found["user"], found["item"], "/").to_pylist()
    assert not set(asked) & bought
