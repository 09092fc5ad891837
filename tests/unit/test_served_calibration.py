"""What was served against what came: a factor of two is found with enough decisions, and else nothing is said."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from feature_shop import Shop

from recommender.datasets.tables import Tables
from recommender.decisions.log import DecisionLog
from recommender.monitoring.served import calibration, calibration_findings, served_pairs
from recommender.settings import Settings

SHARE, SPREAD = 0.2, 0.4
"""Share of a campaign's users who take part, and the standard deviation of its log between campaigns."""
DECISION: dict[str, Any] = {
    "model_version": "logistic-1",
    "assigned_version": "logistic-1",
    "variant": "champion",
    "feature_age_s": 1.5,
    "cold_start": False,
    "propensity": 1.0,
    "degraded_reasons": [],
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Tables]:
    """A shop in which everybody takes a campaign up with its own probability, a day after its start."""
    folder, random = tmp_path_factory.mktemp("served"), np.random.default_rng(11)
    generated = Shop.generate(folder / "generated")
    users = generated.frames["users"]["user_id"].to_pylist()
    taken = []
    for campaign in generated.frames["campaigns"].to_pylist():
        share = SHARE * np.exp(random.normal(0, SPREAD))
        at = campaign["starts_at"] + timedelta(days=1)
        taken += [
            {"campaign_id": campaign["campaign_id"], "user_id": user, "participated_at": at}
            for user in users
            if random.random() < share
        ]
    participations = pa.Table.from_pylist(taken, schema=generated.frames["participations"].schema)
    shop = replace(generated, frames={**generated.frames, "participations": participations})
    return shop, shop.write(folder / "tables")


def serve(
    settings: Settings, shop: Shop, *, score: float, campaigns: int = 100, days_late: int = 0, **changes: Any
) -> int:
    """Log a decision for every user and each of the first campaigns, at its start. Returns how many."""
    users, rows = shop.frames["users"]["user_id"].to_pylist(), shop.frames["campaigns"].to_pylist()[:campaigns]
    with DecisionLog.of(settings) as log:
        for campaign in rows:
            at = campaign["starts_at"] + timedelta(days=days_late)
            for user in users:
                answered = {"campaigns": [{"campaign_id": campaign["campaign_id"], "score": score}]}
                log.record({**DECISION, **answered, "user_id": user, "as_of": at.isoformat(), **changes})
    return len(users) * len(rows)


def test_probabilities_that_are_right_break_nothing(shop: tuple[Shop, Tables], tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    serve(settings, shop[0], score=SHARE)
    found, note = calibration(shop[1], settings)
    assert note == ""
    (everything, *types) = found
    assert everything.campaign_type == ""
    assert everything.judged
    assert everything.low is not None
    assert everything.high is not None
    assert everything.low < 1 < everything.high
    assert sum(one.pairs for one in types) == everything.pairs
    assert calibration_findings(found, settings.monitoring) == []


@pytest.mark.parametrize(("factor", "direction"), [(2.0, "fewer"), (0.5, "more")])
def test_probabilities_that_are_off_by_a_factor_of_two_are_found(
    shop: tuple[Shop, Tables], tmp_path: Path, factor: float, direction: str
) -> None:
    settings = Settings(home=tmp_path)
    serve(settings, shop[0], score=factor * SHARE)
    found, _ = calibration(shop[1], settings)
    finding = calibration_findings(found, settings.monitoring)[0]
    assert (finding.kind, finding.about, finding.breaks) == ("calibration", "calibration of all campaigns", True)
    assert direction in finding.words
    assert finding.measured == pytest.approx(2, rel=0.35)


def test_with_too_few_decisions_nothing_is_said_and_the_note_says_so(shop: tuple[Shop, Tables], tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    serve(settings, shop[0], score=0.5, campaigns=2)
    found, note = calibration(shop[1], settings)
    assert "too few" in note
    assert not any(one.judged for one in found)
    assert calibration_findings(found, settings.monitoring) == []


def test_without_decisions_nothing_is_said_and_the_note_says_why(shop: tuple[Shop, Tables], tmp_path: Path) -> None:
    found, note = calibration(shop[1], Settings(home=tmp_path))
    assert found == []
    assert "No served campaign has ended" in note


def test_a_pair_counts_once_by_its_first_decision_and_only_if_its_own_version_answered(
    shop: tuple[Shop, Tables], tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    serve(settings, shop[0], score=0.9, campaigns=1, model_version=None)
    serve(settings, shop[0], score=0.8, campaigns=1, cold_start=True)
    num = serve(settings, shop[0], score=0.1, campaigns=1)
    serve(settings, shop[0], score=0.7, campaigns=1, days_late=3)
    pairs = served_pairs(shop[1], settings)
    assert len(pairs.score_N) == num
    assert set(pairs.score_N.tolist()) == {0.1}
    # Three days after the start everybody who takes part has done so: such a decision comes too late for them.
    assert pairs.took_part_N.sum() > 0


def test_who_has_taken_the_campaign_up_before_is_no_pair_and_an_open_window_says_nothing_yet(
    shop: tuple[Shop, Tables], tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    num = serve(settings, shop[0], score=0.1, campaigns=1, days_late=3)
    first = shop[0].frames["campaigns"].to_pylist()[0]["campaign_id"]
    taken = shop[0].frames["participations"]["campaign_id"].to_pylist().count(first)
    pairs = served_pairs(shop[1], settings)
    assert len(pairs.score_N) == num - taken
    assert pairs.took_part_N.sum() == 0
    ends = [row for row in shop[0].frames["campaigns"].to_pylist() if row["ends_at"] > shop[1].log_end]
    serve(settings, replace(shop[0], frames={**shop[0].frames, "campaigns": pa.Table.from_pylist(ends)}), score=0.5)
    assert len(served_pairs(shop[1], settings).score_N) == num - taken
