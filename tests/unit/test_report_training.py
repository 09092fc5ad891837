"""A training's curves: read from its logs, one panel a phase, and a log that cannot be read is named with its line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from cli.main import app
from recommender.engine.context import FitContext
from recommender.engine.loop import Schedule, run_phase
from recommender.errors import CorruptFileError, SourceError
from recommender.report.training import logs_below, page_of_fits, read_log, thinned, training_page


def line(step: int, loss: float, **more: Any) -> str:
    return json.dumps({"phase": "fit", "step": step, "of": 100, "loss": loss, **more}) + "\n"


def written(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    return path


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["report", "training", *arguments], env={"COLUMNS": "160"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


def trained(folder: Path, *phases: str) -> Path:
    """A fit's folder of checkpoints: 30 steps a phase, judged each twelve."""
    for phase in phases:
        model = nn.Linear(1, 1)
        run_phase(
            phase,
            model,
            lambda step, model=model: model(torch.ones(1, 1)).square().sum(),
            Schedule(steps=30, rate=0.01),
            FitContext(checkpoints=folder),
            every=12,
            judge=lambda: 0.25,
        )
    return folder


def test_the_page_of_a_fit_has_a_panel_for_each_phase_with_its_loss_and_what_validation_said(tmp_path: Path) -> None:
    trained(tmp_path / "run/member-0", "pretrain", "tune")
    trained(tmp_path / "run/member-1", "tune")
    assert invoke(str(tmp_path / "run"), "--output", str(tmp_path / "t.html"))[0] == 0
    html = (tmp_path / "t.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", html) == ["member-0: pretrain", "member-0: tune", "member-1: tune"]
    assert html.count("<figcaption>Training loss") == html.count("<figcaption>Validation metric") == 3
    assert "validation metric: 0.25 at 24" in html
    assert "90 of at most 90 steps" in html
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", html)


def test_of_a_step_that_a_resumed_fit_took_again_the_later_line_counts(tmp_path: Path) -> None:
    lines = [line(10, 5.0), line(12, 4.5, judged=0.1), line(20, 4.0), line(10, 3.0), line(12, 2.5, judged=0.2)]
    phase = read_log(written(tmp_path / "progress.jsonl", *lines))["fit"]
    assert phase.losses == {10: 3.0, 12: 2.5, 20: 4.0}
    assert phase.judged == {12: 0.2}
    assert "loss: 2.5 at 12" in training_page({"": {"fit": phase}})


def test_a_last_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "progress.jsonl", line(10, 5.0), line(20, 4.0)[:-9])
    assert read_log(path)["fit"].losses == {10: 5.0}


@pytest.mark.parametrize(
    "damaged",
    ["not JSON\n", "\n", "[]\n", '{"phase": "fit", "step": 20}\n', line(20, 4.0).replace("4.0", '"low"')],
)
def test_a_damaged_log_is_named_with_its_line(damaged: str, tmp_path: Path) -> None:
    path = written(tmp_path / "progress.jsonl", line(10, 5.0), damaged, line(30, 4.0))
    code, said = invoke(str(tmp_path), "--output", str(tmp_path / "t.html"))
    assert code == 2
    assert f"{path}, line 2:" in said
    assert not (tmp_path / "t.html").exists()


def test_an_empty_log_and_a_folder_without_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=re.escape(str(tmp_path))):
        logs_below(tmp_path)
    with pytest.raises(SourceError, match="nowhere"):
        logs_below(tmp_path / "nowhere")
    path = written(tmp_path / "progress.jsonl")
    with pytest.raises(CorruptFileError, match=r"progress\.jsonl"):
        read_log(path)


def test_a_long_line_is_drawn_through_means() -> None:
    points, each = thinned([(float(step), 2.0 * step) for step in range(1, 1001)], most=300)
    assert each == 4
    assert len(points) == 250
    assert points[0] == (2.5, 5.0)


def test_the_page_of_a_training_step_shows_its_fits_in_order_and_no_damage_costs_a_fit(tmp_path: Path) -> None:
    assert "popularity is not trained in steps" in page_of_fits(tmp_path, ranker="popularity")
    for fit in ("live", "gate", "test"):
        written(tmp_path / "progress" / f"{fit}.jsonl", line(10, 5.0, judged=0.3))
    html = page_of_fits(tmp_path, ranker="transformer")
    assert re.findall(r"<h2>(.*?)</h2>", html) == ["gate: fit", "test: fit", "live: fit"]
    for member in (1, 0):
        written(tmp_path / f"progress/test/teacher/member-{member}.jsonl", line(10, 5.0))
    html = page_of_fits(tmp_path, ranker="student")
    names = ["gate: fit", "test: fit", "test/teacher/member-0: fit", "test/teacher/member-1: fit", "live: fit"]
    assert re.findall(r"<h2>(.*?)</h2>", html) == names
    written(tmp_path / "progress/test.jsonl", "damaged\n")
    assert "test.jsonl, line 1:" in page_of_fits(tmp_path, ranker="transformer")
