"""Background processes of the endpoint: their output and their pid files are their own."""

import sys
import time
from pathlib import Path

from servers import free_ports

from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving.deployer.processes import Running, find, known, last_lines, note, start


def _print(text: str, state: ServingState) -> Running:
    return start(
        [sys.executable, "-c", f"print({text!r})"], name="gateway", state=state, environment={}, folder=state.root
    )


def test_an_error_message_shows_what_this_process_printed_and_not_an_earlier_one(tmp_path: Path) -> None:
    state = ServingState.of(Settings(home=tmp_path))
    state.root.mkdir(parents=True)
    for text in ("an old error", "the new error"):
        process = _print(text, state)
        assert process.ends_within(20)
        process.stop()
    assert "the new error" in last_lines(state, "gateway")
    assert "an old error" not in last_lines(state, "gateway")
    assert (state.logs / "gateway.out.1").read_text() == "an old error\n"


def test_a_process_that_is_stopped_late_leaves_the_pid_file_of_the_next_one(tmp_path: Path) -> None:
    state = ServingState.of(Settings(home=tmp_path))
    state.root.mkdir(parents=True)
    old = _print("", state)
    assert old.ends_within(20)
    new = note("gateway", state)
    old.stop()
    assert find(state.pid_file("gateway")) == new
    new.forget()
    assert known(state.pid_file("gateway")) is None


def test_a_process_is_told_from_another_that_took_its_port_first(tmp_path: Path) -> None:
    state = ServingState.of(Settings(home=tmp_path))
    state.root.mkdir(parents=True)
    waits = "import time; time.sleep(60)"
    (port,) = free_ports(1)
    listens = f"import socket; held = socket.create_server(('127.0.0.1', {port})); {waits}"
    ours, other = (
        start([sys.executable, "-c", code], name=name, state=state, environment={}, folder=state.root)
        for name, code in (("torchserve", waits), ("gateway", listens))
    )
    try:
        deadline = time.monotonic() + 20
        while not other.listens_on(port):
            assert other.alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not ours.listens_on(port)
    finally:
        ours.stop()
        other.stop()
    assert not other.listens_on(port)
