"""The evaluation page says the verdict first, stands alone, and never mixes the final test into the decision."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from judged_pairs import candidate, world
from rich.console import Console

from cli.report import show_results
from recommender.evaluation.document import Evaluation
from recommender.evaluation.evaluate import compare
from recommender.evaluation.judgement import GateRule, Guardrails, Judgement
from recommender.evaluation.verdict import Verdict, decide
from recommender.models.campaign import OWN_RANKERS
from recommender.models.campaign.calibration import Calibrator, Candidate
from recommender.promotion.versions import Measured
from recommender.report.calibrators import calibrator_words
from recommender.report.evaluation import evaluation_page, verdict_markdown

RULES = Judgement(gate=GateRule(bootstrap_samples=200), guardrails=Guardrails(max_latency_ms=1000), sha256="f" * 64)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("candidates")
    folders = {
        "transformer": candidate(folder / "new", column=0),
        "logistic": candidate(folder / "old", column=1),
        "popularity": candidate(folder / "floor", column=2, scale=0.1),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OWN_RANKERS, "reading", "judged_pairs:ReadingRanker")
        return compare(world(), folders, challenger="transformer", champion="logistic", rules=RULES)


@pytest.fixture(scope="module")
def promoted(evaluation: Evaluation) -> Verdict:
    return decide(evaluation, RULES)


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def words(page: str) -> str:
    parser = _Words()
    parser.feed(page)
    assert not parser.open, "every element is closed"
    return " ".join(parser.words)


def test_the_page_begins_with_the_verdict_in_words(evaluation: Evaluation, promoted: Verdict) -> None:
    said = words(evaluation_page(evaluation, promoted))
    assert said.index("PROMOTE") < said.index("Challenger against champion")
    assert promoted.headline in said


def test_the_page_names_no_host_and_runs_no_script(evaluation: Evaluation, promoted: Verdict) -> None:
    page = evaluation_page(evaluation, promoted)
    assert not re.search(r"<script|<link|<iframe|https?://|@import|url\(", page)


def test_every_ranker_stands_in_both_tables_with_its_interval(evaluation: Evaluation, promoted: Verdict) -> None:
    said = words(evaluation_page(evaluation, promoted))
    place = said.rindex("Final test:")
    gate, final = said[said.rindex("Gate period:") : place], said[place:]
    assert evaluation.test is not None
    for period, part in ((evaluation.gate, gate), (evaluation.test, final)):
        for name in ("transformer", "logistic", "popularity"):
            auc = period.rankers[name].metrics["auc"]
            assert auc.value is not None
            assert f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]" in part


def test_a_held_challenger_shows_every_broken_guardrail(evaluation: Evaluation) -> None:
    rules = RULES.model_copy(update={"guardrails": Guardrails(max_bundle_mib=1e-6, max_latency_ms=1e-6)})
    verdict = decide(evaluation, rules)
    said = words(evaluation_page(evaluation, verdict))
    broken = [check.name for check in verdict.checks if not check.passed]
    assert "HOLD" in said
    assert broken == ["latency", "bundle size"]
    assert said.count(" failed ") == 2
    assert all(check.words[1:] in said for check in verdict.checks)


def test_the_page_escapes_what_data_says(evaluation: Evaluation, promoted: Verdict) -> None:
    part = evaluation.gate.slices[0].model_copy(update={"value": "<b>18-34</b>"})
    gate = evaluation.gate.model_copy(update={"slices": [part]})
    page = evaluation_page(evaluation.model_copy(update={"gate": gate}), promoted)
    assert "<b>18-34" not in page
    assert "&lt;b&gt;18-34" in page


def test_the_terminal_shows_challenger_and_champion_on_closed_windows_alone(evaluation: Evaluation) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    show_results(console, evaluation)
    lines = [line for line in console.export_text().splitlines() if line.startswith("Closed windows only")]
    assert evaluation.test is not None
    for line, period in zip(lines, (evaluation.gate, evaluation.test), strict=True):
        assert ("pairs)" in line) == (period.num_open > 0)
        if not period.num_open:
            continue
        assert f"({period.num_pairs - period.num_open:,} pairs)" in line
        for name, role in (("transformer", "challenger"), ("logistic", "champion")):
            closed = period.rankers[name].closed
            figures = " / ".join(f"{closed[metric].value:.3f}" for metric in ("auc", "ap", "log_loss"))
            assert f"{name} ({role}) {figures}" in line
    assert any("pairs)" in line for line in lines)


def test_a_run_without_a_final_test_has_a_page_too(evaluation: Evaluation, promoted: Verdict) -> None:
    said = words(evaluation_page(evaluation.model_copy(update={"test": None}), promoted))
    assert "Final test:" not in said


def test_the_markdown_lists_every_check_with_its_limit(promoted: Verdict) -> None:
    text = verdict_markdown(promoted)
    assert text.startswith("# PROMOTE\n")
    assert all(f"| {check.name} |" in text for check in promoted.checks)


def test_the_kubeflow_roc_curve_and_metrics_are_plain_finite_numbers(evaluation: Evaluation) -> None:
    measured = Measured(evaluation)
    wrong, found, thresholds = measured.roc_curve
    assert len(wrong) == len(found) == len(thresholds) <= 100
    assert all(0 <= value < 1.1 for value in thresholds)
    assert measured.metrics["gate_challenger_auc"] > measured.metrics["gate_champion_auc"]
    assert measured.metrics["gate_gain_log_loss"] > 0


def test_the_document_survives_its_json(evaluation: Evaluation, tmp_path: Path) -> None:
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


def test_the_page_says_which_calibrator_each_ranker_has_and_what_it_gained(
    evaluation: Evaluation, promoted: Verdict
) -> None:
    tried = {
        "none": Candidate(a=1, b=1, c=0, log_loss=0.3, gain=0, standard_error=0),
        "platt": Candidate(a=0.5, b=0.5, c=0.1, log_loss=0.2766, gain=0.0234, standard_error=0.0071),
    }
    sizes = {"num_campaigns": 9, "num_participations": 123, "candidates": tried}
    calibrators = [Calibrator.model_validate({"chosen": name, **sizes}) for name in ("platt", "none")]
    names = list(evaluation.gate.rankers)[:2]
    rankers = {
        name: evaluation.gate.rankers[name].model_copy(update={"calibrator": one})
        for name, one in zip(names, calibrators, strict=True)
    }
    gate = evaluation.gate.model_copy(update={"rankers": {**evaluation.gate.rankers, **rankers}})
    said = words(evaluation_page(evaluation.model_copy(update={"gate": gate}), promoted))
    for calibrator in calibrators:
        assert calibrator_words(calibrator) in said
        assert "+0.0234 ± 0.0071" in calibrator_words(calibrator)
        assert "9 held-out campaigns, 123 participations" in calibrator_words(calibrator)


def test_an_evaluation_names_the_calibrator_that_each_fit_has(evaluation: Evaluation) -> None:
    assert all(ranker.calibrator == Calibrator() for ranker in evaluation.gate.rankers.values())
