"""Logs: one structured line per event, for machines unless someone watches."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from recommender import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root_is_restored() -> Iterator[None]:
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in logs.OURS]
    handlers, levels = root.handlers[:], [(logger, logger.level) for logger in (root, *ours)]
    yield
    root.handlers[:] = handlers
    for logger, level in levels:
        logger.setLevel(level)
    logs.rebind()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_outside_a_terminal_every_event_is_one_json_line_with_its_process_and_release() -> None:
    stream = io.StringIO()
    logs.configure(process="worker", stream=stream)
    logs.get("serving.some.module").info("bundle loaded", model_version="logistic-1", seconds=0.25)
    (line,) = lines(stream)
    assert [*line][:6] == ["timestamp", "level", "process", "version", "logger", "event"]
    assert (line["level"], line["process"], line["logger"]) == ("info", "worker", "serving.some.module")
    assert (line["event"], line["model_version"], line["seconds"]) == ("bundle loaded", "logistic-1", 0.25)
    assert datetime.fromisoformat(str(line["timestamp"])).utcoffset() == timedelta(0)


def test_on_a_terminal_an_event_is_a_readable_line() -> None:
    stream = Terminal()
    logs.configure(process="cli", stream=stream)
    logs.get("serving.some.module").warning("model away", reason="late")
    text = stream.getvalue()
    assert "model away" in text
    assert "late" in text
    assert not text.lstrip().startswith("{")


def test_lines_of_libraries_have_the_same_form() -> None:
    stream = io.StringIO()
    logs.configure(process="gateway", stream=stream)
    logging.getLogger("uvicorn.error").warning("shutting %s", "down")
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["process"]) == ("shutting down", "uvicorn.error", "gateway")


def test_what_is_bound_is_on_the_lines_of_its_task_and_of_no_other() -> None:
    stream = io.StringIO()
    logs.configure(process="gateway", stream=stream)

    async def request(request_id: str) -> None:
        logs.bind(request_id=request_id)
        await asyncio.sleep(0)
        logs.get("recommender.one").info("answered", of=request_id)

    async def both() -> None:
        await asyncio.gather(asyncio.create_task(request("a")), asyncio.create_task(request("b")))

    asyncio.run(both())
    logs.get("recommender.one").info("idle")
    assert [line.get("request_id") for line in lines(stream)] == [line.get("of") for line in lines(stream)]
    assert lines(stream)[-1]["event"] == "idle"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_a_traceback_is_logged_without_local_variables(stream: io.StringIO) -> None:
    logs.configure(process="gateway", stream=stream)
    try:
        hidden = "".join(["of a ", "shopper"])
        raise RuntimeError(str(len(hidden)))
    except RuntimeError:
        logs.get("recommender.one").exception("request failed")
    text = stream.getvalue()
    assert "RuntimeError: 12" in text
    assert "of a shopper" not in text


@pytest.mark.parametrize("value", [float("nan"), "\ud800", 2**70, Path("a/b"), {1: 2}])
def test_no_value_breaks_a_line(value: object) -> None:
    stream = io.StringIO()
    logs.configure(process="worker", stream=stream)
    logs.get("recommender.one").info("odd", value=value)
    (line,) = lines(stream)
    assert "value" in line


def test_messages_that_another_program_parses_stay_as_they_are() -> None:
    stream = io.StringIO()
    logs.configure(process="worker", stream=stream, verbatim="[METRICS]")
    logging.getLogger("ts").warning("[METRICS]HandlerTime.Milliseconds:%s", 3)
    logging.getLogger("ts").warning("something else")
    first, second = stream.getvalue().splitlines()
    assert first == "[METRICS]HandlerTime.Milliseconds:3"
    assert json.loads(second)["event"] == "something else"


def test_a_log_file_is_rotated_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 2_000)
    logs.configure(process="gateway", file=tmp_path / "logs" / "gateway.log")
    for number in range(100):
        logs.get("recommender.one").info("request", number=number)
    logs.configure(process="gateway", stream=io.StringIO())
    files = sorted((tmp_path / "logs").iterdir())
    assert len(files) == 1 + logs.OLD_FILES
    assert all(file.stat().st_size < 2_400 for file in files), "full, and one line more"
    last = (tmp_path / "logs" / "gateway.log").read_text().splitlines()[-1]
    assert json.loads(last)["number"] == 99


def test_a_replaced_stderr_gets_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure(process="cli")
    replaced = io.StringIO()
    monkeypatch.setattr(sys, "stderr", replaced)
    logs.get("recommender.one").info("seen")
    assert lines(replaced)[0]["event"] == "seen"


def test_the_level_is_that_of_our_lines_and_libraries_are_heard_from_warnings_on() -> None:
    stream = io.StringIO()
    logs.configure(process="cli", level="WARNING", stream=stream)
    logs.get("recommender.one").info("unseen")
    logs.configure(process="cli", level="DEBUG", stream=stream)
    logging.getLogger("httpx").info("unseen")
    logging.getLogger("httpx").warning("seen")
    logs.get("recommender.one").debug("seen")
    assert [line["event"] for line in lines(stream)] == ["seen", "seen"]


@pytest.mark.parametrize(("options", "level"), [([], logging.WARNING), (["-v"], logging.INFO)])
def test_a_command_logs_from_warnings_on_and_with_verbose_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], level: int
) -> None:
    monkeypatch.setenv("RECOMMENDER__HOME", str(tmp_path))
    assert CliRunner().invoke(app, [*options, "stop"]).exit_code == 0
    assert logging.getLogger("recommender").getEffectiveLevel() == level


def test_a_program_that_configures_no_logs_finds_its_stdout_clean() -> None:
    code = (
        "from recommender import logs; log = logs.get('recommender.one');"
        "log.info('x'); log.warning('y'); print('own output')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "own output\n"
    assert "y" in done.stderr
