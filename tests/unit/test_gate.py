"""The gate promotes what is shown to be better, and holds for every single reason not to."""

import re
from pathlib import Path

import numpy as np
import pytest
from judged_pairs import GATE, TEST, World, candidate, world

from recommender.datasets.periods import microseconds
from recommender.errors import CorruptFileError, LabelError, PeriodError, RegistryError, SettingsError
from recommender.evaluation.document import Evaluation, Latency
from recommender.evaluation.evaluate import compare
from recommender.evaluation.judgement import GateRule, Guardrails, Judgement, read_judgement
from recommender.evaluation.verdict import Verdict, decide
from recommender.models.campaign import OWN_RANKERS

RULES = Judgement(gate=GateRule(bootstrap_samples=300), guardrails=Guardrails(max_latency_ms=1000), sha256="a" * 64)
TRUTH, RUMOUR, NOISE = 0, 1, 2


@pytest.fixture(autouse=True)
def _reading_ranker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OWN_RANKERS, "reading", "judged_pairs:ReadingRanker")


@pytest.fixture(scope="module")
def small() -> World:
    return world()


def contest(
    data: World, folder: Path, *, challenger: dict[str, object], champion: dict[str, object], rules: Judgement = RULES
) -> Evaluation:
    folders = {"new": candidate(folder / "new", **challenger), "old": candidate(folder / "old", **champion)}  # type: ignore[arg-type]
    return compare(data, folders, challenger="new", champion="old", rules=rules)


@pytest.fixture(scope="module")
def better(small: World, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OWN_RANKERS, "reading", "judged_pairs:ReadingRanker")
        folder = tmp_path_factory.mktemp("better")
        return contest(small, folder, challenger={"column": TRUTH}, champion={"column": RUMOUR})


def failed(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.passed]


def test_a_better_challenger_is_promoted_with_the_figures_in_words(better: Evaluation) -> None:
    verdict = decide(better, RULES)
    assert (verdict.decision, failed(verdict), verdict.new) == ("PROMOTE", [], True)
    assert verdict.gain.low is not None
    assert verdict.gain.low > 0
    assert f"{verdict.gain.low:+.4f}" in verdict.headline
    assert verdict.judgement_sha256 == RULES.sha256


def test_a_worse_challenger_is_held(small: World, tmp_path: Path) -> None:
    verdict = decide(contest(small, tmp_path, challenger={"column": RUMOUR}, champion={"column": TRUTH}), RULES)
    assert verdict.decision == "HOLD"
    assert verdict.gain.low is not None
    assert f"{verdict.gain.low:+.4f}" in verdict.headline
    assert "gain in log loss, lower end" in failed(verdict)


def test_an_equal_challenger_is_held_without_a_margin_and_promoted_within_one(small: World, tmp_path: Path) -> None:
    twin = {"column": TRUTH, "scale": 1.0001}
    found = contest(small, tmp_path, challenger=twin, champion={"column": TRUTH, "scale": 0.9999})
    worse = found.gate.gains["log_loss"].low
    assert worse is not None
    assert worse < 0, "the twin must be worse by a hair for the margin to matter"
    assert decide(found, RULES).decision == "HOLD"
    allowed = RULES.model_copy(update={"gate": GateRule(margin=0.002)})
    verdict = decide(found, allowed)
    assert verdict.decision == "PROMOTE"
    assert "0.002" in verdict.headline


def test_the_champion_itself_is_nothing_new(small: World, tmp_path: Path) -> None:
    same = {"column": TRUTH}
    verdict = decide(contest(small, tmp_path, challenger=same, champion=same), RULES)
    assert (verdict.decision, verdict.new) == ("HOLD", False)
    assert verdict.challenger == verdict.champion
    assert verdict.reasons == [verdict.headline]


def test_what_was_judged_on_the_same_data_before_is_nothing_new(better: Evaluation) -> None:
    before = decide(better, RULES).model_dump(mode="json")
    verdict = decide(better, RULES, earlier=[before])
    assert (verdict.decision, verdict.new) == ("HOLD", False)
    other_data = better.model_copy(update={"data_hash": "data-2"})
    assert decide(other_data, RULES, earlier=[before]).decision == "PROMOTE"


def test_too_few_participations_hold_whatever_the_figures_say(better: Evaluation) -> None:
    rules = RULES.model_copy(update={"gate": GateRule(min_positives=10_000)})
    verdict = decide(better, rules)
    assert failed(verdict) == ["participations"]
    assert "10000" in verdict.headline
    assert str(better.gate.num_positives) in verdict.headline


def test_bad_calibration_alone_holds(small: World, tmp_path: Path) -> None:
    rules = RULES.model_copy(update={"gate": GateRule(primary_metric="auc", bootstrap_samples=300)})
    found = contest(
        small, tmp_path, challenger={"column": TRUTH, "scale": 2.5}, champion={"column": RUMOUR}, rules=rules
    )
    verdict = decide(found, rules)
    assert verdict.decision == "HOLD"
    alone = {name for name in failed(verdict) if not name.startswith("take-up in slice")}
    assert alone == {"calibration", "calibration against the champion"}


def test_calibration_worse_than_the_champions_alone_holds(better: Evaluation) -> None:
    limits = Guardrails(max_ece=0.5, max_ece_increase=0.015, max_latency_ms=1000)
    rankers = dict(better.gate.rankers)
    ece = rankers["new"].metrics["ece"].model_copy(update={"value": rankers["new"].ece_floor + 0.1})
    rankers["new"] = rankers["new"].model_copy(update={"metrics": {**rankers["new"].metrics, "ece": ece}})
    worse = better.model_copy(update={"gate": better.gate.model_copy(update={"rankers": rankers})})
    verdict = decide(worse, RULES.model_copy(update={"guardrails": limits}))
    assert failed(verdict) == ["calibration against the champion"]


def test_a_campaign_type_that_loses_alone_holds_and_is_named(small: World, tmp_path: Path) -> None:
    rules = RULES.model_copy(
        update={
            "guardrails": Guardrails(max_ece=0.9, max_ece_increase=0.9, max_latency_ms=1000),
            "gate": GateRule(margin=9),
        }
    )
    challenger = {"column": TRUTH, "upside_down_in": "B"}
    verdict = decide(contest(small, tmp_path, challenger=challenger, champion={"column": RUMOUR}), rules)
    assert verdict.decision == "HOLD"
    assert "slice campaign_type = B" in failed(verdict)
    assert "slice campaign_type = A" not in failed(verdict)
    assert any("campaign_type is B" in reason for reason in verdict.reasons)


def test_slow_scoring_alone_holds(better: Evaluation) -> None:
    slow = Latency(p50_ms=10, p95_ms=31, num_campaigns=5, num_rounds=8, stable=True)
    candidates = {**better.candidates, "new": better.candidates["new"].model_copy(update={"latency": slow})}
    limits = RULES.model_copy(update={"guardrails": Guardrails(max_latency_ms=25)})
    verdict = decide(better.model_copy(update={"candidates": candidates}), limits)
    assert failed(verdict) == ["latency"]
    assert "31.0 ms" in verdict.headline


@pytest.mark.parametrize(("p50_ms", "holds"), [(10.0, False), (26.0, True)])
def test_a_disturbed_measurement_decides_nothing_unless_half_the_users_are_above_the_limit(
    better: Evaluation, p50_ms: float, holds: bool
) -> None:
    busy = Latency(p50_ms=p50_ms, p95_ms=31, num_campaigns=5, num_rounds=60, stable=False)
    candidates = {**better.candidates, "new": better.candidates["new"].model_copy(update={"latency": busy})}
    limits = RULES.model_copy(update={"guardrails": Guardrails(max_latency_ms=25)})
    verdict = decide(better.model_copy(update={"candidates": candidates}), limits)
    assert failed(verdict) == (["latency"] if holds else [])


def test_a_heavy_bundle_alone_holds(small: World, tmp_path: Path) -> None:
    heavy = {"column": TRUTH, "weight_mib": 2.0}
    found = contest(small, tmp_path, challenger=heavy, champion={"column": RUMOUR})
    assert failed(
        decide(found, RULES.model_copy(update={"guardrails": Guardrails(max_bundle_mib=1, max_latency_ms=1000)}))
    ) == ["bundle size"]


def test_the_final_tests_outcomes_change_nothing_in_the_verdict(small: World, tmp_path: Path) -> None:
    starts_N = np.array([microseconds(t) for t in small.pairs.column("starts_at").to_pylist()])
    turned_N = np.where(starts_N >= microseconds(TEST), 1 - small.redeemed_N, small.redeemed_N)
    folders = {
        "new": candidate(tmp_path / "new", column=TRUTH),
        "old": candidate(tmp_path / "old", column=RUMOUR),
    }
    verdicts, tests = [], []
    for data in (small, small.with_outcomes(turned_N)):
        found = compare(data, folders, challenger="new", champion="old", rules=RULES)
        said = decide(found, RULES).model_dump()
        verdicts.append([said["decision"], said["gain"], said["subject"], _without_latency(said["checks"])])
        tests.append(found.test)
    assert verdicts[0] == verdicts[1]
    assert tests[0] != tests[1], "the final test itself must have changed, or this proves nothing"


def _without_latency(checks: list[dict[str, object]]) -> list[dict[str, object]]:
    return [check for check in checks if check["name"] != "latency"]


def test_each_ranker_scores_with_the_newest_fit_that_has_seen_nothing_of_the_period(better: Evaluation) -> None:
    assert better.test is not None
    assert {r.fit for r in better.gate.rankers.values()} == {"gate"}
    assert {r.fit for r in better.test.rankers.values()} == {"test"}
    assert all(r.boundary <= better.gate.starts for r in better.gate.rankers.values())


def test_a_champion_whose_fits_have_all_seen_the_gate_period_cannot_be_judged(small: World, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"old.*live"):
        contest(small, tmp_path, challenger={"column": TRUTH}, champion={"column": RUMOUR, "fits": ("live",)})


def test_a_gate_period_with_one_outcome_is_an_error_that_says_so(small: World, tmp_path: Path) -> None:
    nobody = small.with_outcomes(np.zeros_like(small.redeemed_N))
    with pytest.raises(LabelError, match=r"\b0\b.*\b1800\b"):
        contest(nobody, tmp_path, challenger={"column": TRUTH}, champion={"column": RUMOUR})


def test_a_gate_period_without_pairs_is_an_error(small: World, tmp_path: Path) -> None:
    early = small.pairs.column("starts_at").to_pylist()[0]
    frozen = small.pairs.set_column(2, "starts_at", [[early] * small.pairs.num_rows])
    with pytest.raises(PeriodError, match=re.escape(f"{GATE.isoformat()} to {TEST.isoformat()}")):
        contest(World(small.all, frozen, small.redeemed_N), tmp_path, challenger={"column": 0}, champion={"column": 1})


def test_an_evaluation_under_another_judgement_is_refused(better: Evaluation) -> None:
    with pytest.raises(SettingsError, match=r"aaaaaaaaaaaa.*bbbbbbbbbbbb"):
        decide(better, RULES.model_copy(update={"sha256": "b" * 64}))


def test_the_shipped_judgement_is_valid_and_demands_a_better_challenger() -> None:
    rules = read_judgement(Path(__file__).parents[2] / "judgement.toml")
    assert rules.gate.margin == 0
    assert len(rules.sha256) == 64


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[gate]\nmargn = 0.1", r"gate\.margn"),
        ("[gate]\nprimary_metric = 'gauc'", "primary_metric"),
        ("[gate]\nmargin = nan", "margin"),
        ("[gate]\nmargin = -1", "margin"),
        ("[guards]", "guards"),
        ("gate = [", r"judgement\.toml"),
        ("sha256 = 'x'", "sha256"),
    ],
)
def test_a_judgement_with_a_mistake_is_refused_and_the_key_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "judgement.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=problem):
        read_judgement(path)


def test_a_verdict_survives_its_file(better: Evaluation, tmp_path: Path) -> None:
    verdict = decide(better, RULES)
    path = tmp_path / "verdict.json"
    path.write_text(verdict.model_dump_json())
    assert Verdict.read(path) == verdict
    path.write_text("{}")
    with pytest.raises(CorruptFileError, match=r"verdict\.json"):
        Verdict.read(path)
