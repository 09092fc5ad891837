"""Trying again costs: attempts on overlapping gate periods share one allowance, which the registry's history holds."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from judged_pairs import World, candidate, world

from recommender.evaluation.document import Evaluation
from recommender.evaluation.evaluate import compare
from recommender.evaluation.judgement import GateRule, Guardrails, Judgement
from recommender.evaluation.ledger import Attempt, attempts, level_of, next_attempt
from recommender.evaluation.readings import GateReadings, log_reading, num_readings
from recommender.evaluation.verdict import Verdict, decide
from recommender.models.campaign import OWN_RANKERS
from recommender.report.campaign_sections import campaigns_section, ledger_section

MAY, AUGUST, OCTOBER = (datetime(2017, month, 1, tzinfo=UTC) for month in (5, 8, 10))
RULES = Judgement(gate=GateRule(bootstrap_samples=200), guardrails=Guardrails(max_latency_ms=1000), sha256="a" * 64)


def attempt(subject: str, earlier: list[Attempt], gate: tuple[datetime, datetime] = (MAY, OCTOBER)) -> Attempt:
    return next_attempt(
        earlier,
        subject=subject,
        challenger=f"new-{subject}",
        champion="old",
        gate_from=gate[0],
        gate_to=gate[1],
        false_promotions=0.05,
    )


def judged(*recorded: Attempt | None) -> list[dict[str, object]]:
    return [
        {"what": "judged", "verdict": {"attempt": None if one is None else one.model_dump(mode="json")}}
        for one in recorded
    ]


@pytest.fixture(scope="module")
def judged_world() -> World:
    return world()


@pytest.fixture(scope="module")
def better(judged_world: World, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OWN_RANKERS, "reading", "judged_pairs:ReadingRanker")
        folder = tmp_path_factory.mktemp("better")
        folders = {"new": candidate(folder / "new", column=0), "old": candidate(folder / "old", column=1)}
        return compare(judged_world, folders, challenger="new", champion="old", rules=RULES)


def test_the_levels_of_all_attempts_sum_to_the_allowance() -> None:
    assert level_of(1, 0.05) == pytest.approx(0.025)
    spent = sum(level_of(number, 0.05) for number in range(1, 100_000))
    assert 0.0499 < spent < 0.05


def test_a_second_subject_on_the_period_is_the_second_attempt_and_the_same_subject_the_same_one() -> None:
    first = attempt("a", [])
    second = attempt("b", [first])
    assert (first.number, second.number) == (1, 2)
    assert second.confidence == pytest.approx(1 - 2 * 0.05 / 6)
    assert attempt("a", [first, second]) == first


def test_only_gate_periods_that_overlap_share_an_allowance() -> None:
    early = attempt("a", [], (MAY, AUGUST))
    assert attempt("b", [early], (AUGUST, OCTOBER)).number == 1
    moved = (AUGUST - timedelta(days=1), OCTOBER)
    assert attempt("b", [early], moved).number == 2
    assert attempts(judged(early), *moved) == [early]
    assert attempts(judged(early), AUGUST, OCTOBER) == []


def test_the_history_gives_each_subject_once_and_leaves_out_what_could_not_promote() -> None:
    first = attempt("a", [])
    second = attempt("b", [first])
    other = [{"what": "promoted", "version": "old"}, {"what": "judged", "verdict": {"decision": "HOLD"}}]
    assert attempts([*other, *judged(first, None, first, second)], MAY, OCTOBER) == [first, second]


def test_the_verdict_names_its_attempt_and_a_later_one_needs_a_clearer_gain(better: Evaluation) -> None:
    first = decide(better, RULES)
    assert first.attempt is not None
    assert (first.attempt.number, first.num_campaigns, first.decision) == (1, 6, "PROMOTE")
    others = [first.attempt.model_copy(update={"subject": str(k), "number": k}) for k in range(1, 30)]
    last = decide(better, RULES, attempts=others)
    assert last.attempt is not None
    assert last.attempt.number == 30
    widths = [one.gain.high - one.gain.low for one in (first, last) if one.gain.high and one.gain.low is not None]
    assert widths[1] > 2 * widths[0]


def test_too_few_campaigns_hold_and_spend_nothing(better: Evaluation) -> None:
    rules = RULES.model_copy(update={"gate": GateRule(min_campaigns=7)})
    verdict = decide(better, rules)
    assert [check.name for check in verdict.checks if not check.passed] == ["campaigns"]
    assert (verdict.decision, verdict.attempt, verdict.num_campaigns) == ("HOLD", None, 6)
    assert {"6", "7"} <= set(verdict.headline.split())


def test_a_challenger_that_wins_in_one_large_campaign_alone_is_held(better: Evaluation) -> None:
    pooled = better.gate.pooled["log_loss"]
    lucky = pooled.model_copy(update={"value": 0.02, "standard_error": 0.02})
    gate = better.gate.model_copy(update={"pooled": {**better.gate.pooled, "log_loss": lucky}})
    verdict = decide(better.model_copy(update={"gate": gate}), RULES)
    assert verdict.decision == "HOLD"
    assert better.gate.gains["log_loss"].low is not None
    assert better.gate.gains["log_loss"].low > 0, "users alone would have promoted it"


def test_the_page_shows_the_ledger_and_every_campaign_that_decided(better: Evaluation) -> None:
    first = decide(better, RULES)
    assert first.attempt is not None
    before = first.attempt.model_copy(update={"subject": "b", "challenger": "earlier-version", "number": 1})
    second: Verdict = decide(better, RULES, attempts=[before])
    ledger = ledger_section(second, [before])
    assert ledger.facts["attempts"] == 2
    assert "earlier-version" in str(ledger.blocks)
    assert "attempts" not in ledger_section(first.model_copy(update={"attempt": None}), []).facts
    read = ledger_section(first, [], GateReadings(times=3, num_rankers=7))
    assert (read.facts["readings by cross-validate"], read.facts["rankers that they judged"]) == (3, 7)
    assert "3 times" in read.lead
    assert "7 rankers" in read.lead
    assert "readings by cross-validate" not in ledger.facts
    shown = str(campaigns_section(better.gate, first).blocks)
    assert all(one.campaign in shown for one in better.gate.pooled["log_loss"].campaigns)


def test_readings_of_a_final_test_are_counted_while_it_can_share_campaigns(tmp_path: Path) -> None:
    readings = tmp_path / "readings.jsonl"
    assert num_readings(readings, since=OCTOBER) == 0
    for as_of in (AUGUST, OCTOBER + timedelta(days=60), OCTOBER + timedelta(days=90)):
        log_reading(readings, data="d", ranker="r", train_on="t", seed=1, facts={"as_of": as_of.isoformat()})
    assert num_readings(readings, since=OCTOBER) == 2
