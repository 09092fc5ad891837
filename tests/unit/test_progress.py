"""How far a fit is becomes log events, not too many of them."""

import io
import logging

import pytest
import rich.console

from cli import bars
from recommender.engine import progress
from recommender.engine.progress import log_progress

TOLD = {"phase": "pretrain", "of": 100, "loss": 0.25, "rate": 0.001, "steps_a_second": 20.0}


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "recommender")
    return caplog


def logged(events: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [record.msg for record in events.records if isinstance(record.msg, dict)]


def test_an_event_has_phase_step_loss_rate_and_the_seconds_that_are_left(events: pytest.LogCaptureFixture) -> None:
    log_progress(every_s=0, ranker="fusion")({**TOLD, "step": 40})
    (event,) = logged(events)
    assert event["event"] == "training progress"
    keys = ("ranker", "phase", "step", "of", "loss", "steps_a_second", "seconds_left")
    assert [event[key] for key in keys] == ["fusion", "pretrain", 40, 100, 0.25, 20.0, 3.0]


def test_between_events_some_time_passes_but_the_end_of_a_phase_is_always_logged(
    events: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    show = log_progress(every_s=30)
    for step in range(1, 101):
        now[0] += 1
        show({**TOLD, "step": step})
    assert [event["step"] for event in logged(events)] == [30, 60, 90, 100]
    assert logged(events)[-1]["seconds_left"] == 0


def test_of_several_processes_only_the_first_one_logs(
    events: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    log_progress(every_s=0)({**TOLD, "step": 100})
    assert logged(events) == []


@pytest.mark.parametrize(("terminal", "kind"), [(True, "xterm"), (True, "dumb"), (False, "xterm")])
def test_a_command_shows_bars_on_a_terminal_and_logs_elsewhere(
    events: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: str
) -> None:
    monkeypatch.setenv("TERM", kind)
    console = rich.console.Console(file=io.StringIO(), force_terminal=terminal)
    monkeypatch.setattr(bars, "Console", lambda **_: console)
    draws = terminal and kind != "dumb"
    with bars.fit_bars() as show:
        show({**TOLD, "step": 100})
    assert len(logged(events)) == (0 if draws else 1)
    assert ("pretrain" in console.file.getvalue()) is draws  # type: ignore[attr-defined]
