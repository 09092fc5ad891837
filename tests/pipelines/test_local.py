"""The local runner shows what runs, how long and how much memory, keeps each step's log, and says why a step failed."""

import io
import json
from pathlib import Path

import pytest
from kfp import dsl
from kfp.compiler import Compiler
from rich.console import Console

from components.images import PIPELINE_IMAGE
from pipelines.local import LocalRun, new_run_id, run_pipeline
from pipelines.memory import MemoryWatch
from recommender.errors import SettingsError, StepFailed
from recommender.storage.home import Home


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def fill(megabytes: int, code_version: str, made: dsl.Output[dsl.Dataset], metrics: dsl.Output[dsl.Metrics]) -> int:
    """Take some memory for a moment and leave a file."""
    import time
    from pathlib import Path

    block = bytearray(megabytes * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    time.sleep(0.8)
    print("filled the block")
    metrics.log_metric("bytes", len(block))
    Path(made.path).write_text(str(len(block)))
    return len(block)


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def refuse(size: int) -> None:
    """Fail as a room fails."""
    from recommender.errors import ContractError

    raise ContractError("events", "amount is below zero\n  row 17: -3.5", column="amount", row="event_id 17")


@dsl.pipeline(name="small")
def small(megabytes: int, code_version: str) -> None:
    fill(megabytes=megabytes, code_version=code_version).set_display_name("Fill a block")


@dsl.pipeline(name="broken")
def broken(megabytes: int, code_version: str) -> None:
    filled = fill(megabytes=megabytes, code_version=code_version)
    filled.set_display_name("Fill a block")
    refuse(size=filled.outputs["Output"]).set_display_name("Refuse it")


def run(home: Path, pipeline: object = small, *, caching: bool = True, megabytes: int = 120) -> tuple[LocalRun, str]:
    run_id = new_run_id()
    specification = Home(home).run(run_id).specification
    specification.parent.mkdir(parents=True)
    Compiler().compile(pipeline, str(specification))
    shown = io.StringIO()
    with MemoryWatch(interval_s=0.05) as memory:
        made = run_pipeline(
            run_id,
            {"megabytes": megabytes, "code_version": "1"},
            home=Home(home),
            console=Console(file=shown, width=120),
            memory=memory,
            caching=caching,
        )
    return made, shown.getvalue()


def test_a_run_reports_each_step_s_time_memory_and_log(tmp_path: Path) -> None:
    made, shown = run(tmp_path)
    (step,) = made.steps
    assert (step.name, step.title, step.status) == ("fill", "Fill a block", "done")
    assert 0.8 < step.seconds < 30
    assert 120 < step.peak_mib < 400
    assert made.peak_mib >= step.peak_mib
    assert step.log is not None
    assert "filled the block" in step.log.read_text()
    assert "✔ Fill a block" in shown
    assert json.loads((made.folder / "run.json").read_text())["steps"][0]["name"] == "fill"
    (artifact,) = made.artifacts.glob("*/fill/made")
    assert artifact.read_text() == str(120 * 2**20)


def test_an_unchanged_step_comes_from_the_cache_and_a_changed_one_runs(tmp_path: Path) -> None:
    run(tmp_path, megabytes=1)
    again, shown = run(tmp_path, megabytes=1)
    changed, _ = run(tmp_path, megabytes=2)
    fresh, _ = run(tmp_path, megabytes=1, caching=False)
    assert [step.status for step in (*again.steps, *changed.steps, *fresh.steps)] == ["cached", "done", "done"]
    assert "unchanged" in shown


def test_a_failed_step_is_named_with_its_own_words_and_its_log(tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as raised:
        run(tmp_path, broken, megabytes=1)
    message = str(raised.value)
    assert message.startswith("Refuse it: events.amount: amount is below zero")
    assert "row 17: -3.5 (first at event_id 17)" in message
    log = Path(message.rsplit("Log: ", 1)[1])
    assert "Traceback" in log.read_text()


def test_a_home_that_the_runner_would_rewrite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="python3"):
        run(tmp_path / "python3.11")
