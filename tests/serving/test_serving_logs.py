"""What a running endpoint writes to its logs."""

import json
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Endpoint

from recommender.errors import ServingError
from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving.archive import write_archive
from serving.deployer.management import TorchServe
from serving.deployer.processes import start
from serving.deployer.torchserve import LOG_CONFIGURATION, prepare, stop_torchserve

FAILS = b"""class Fails:
    def initialize(self, context):
        raise RuntimeError("broken on purpose")

    def handle(self, data, context):
        return [b"{}"] * len(data)
"""
REQUEST = '"event":"request"'


class Tail:
    """What is appended to a log of the endpoint from now on."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self.file: Path = ServingState.of(endpoint.settings).logs / name
        self.start = 0
        if name == "gateway.log":
            # The line of a request comes after its answer. Behind this one are the lines of all earlier requests.
            mark = uuid.uuid4().hex
            endpoint.client.post("/v1/recommendations", content=b"", headers={"X-Request-ID": mark})
            self.wait_for(mark)
        self.start = self.file.stat().st_size

    def text(self) -> str:
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read().decode()

    def lines(self, number: int) -> list[dict[str, Any]]:
        """The first `number` lines about requests, as soon as they are there."""
        self.wait_for(REQUEST, number)
        return [json.loads(line) for line in self.text().splitlines() if REQUEST in line]

    def wait_for(self, words: str, times: int = 1) -> None:
        deadline = time.monotonic() + 60
        while self.text().count(words) < times:
            assert time.monotonic() < deadline, f"{self.file} does not say {words!r}:\n{self.text()}"
            time.sleep(0.05)


def test_each_request_is_one_line_with_its_decision_and_nothing_else_of_the_user(endpoint: Endpoint) -> None:
    tail = Tail(endpoint, "gateway.log")
    user = endpoint.shop.users[3]
    answer = endpoint.ask(user_id=user, context={"mood": "confidential"}).json()
    stranger = endpoint.ask(user_id="a stranger").json()
    endpoint.ask(user_id="refused", colour="confidential")
    endpoint.client.get("/confidential", params={"name": "confidential"})
    endpoint.client.post("/v1/exposures", json={"request_id": answer["request_id"]})
    known, cold, refused, elsewhere, exposed = tail.lines(5)
    for line, answered in ((known, answer), (cold, stranger)):
        assert (line["event"], line["process"], line["status"]) == ("request", "gateway", 200)
        assert line["path"] == "/v1/recommendations"
        for key in ("request_id", "variant", "model_version", "cold_start"):
            assert line[key] == answered[key]
        assert 0 < line["seconds"] < 20
    assert (refused["status"], refused.get("request_id")) == (422, None)
    assert (elsewhere["status"], elsewhere["path"]) == (404, None)
    assert (exposed["path"], exposed["request_id"]) == ("/v1/exposures", answer["request_id"])
    assert "confidential" not in tail.text()
    assert "a stranger" not in tail.text()
    assert f'"{user}"' not in tail.text()


def test_probes_and_metrics_leave_no_line(endpoint: Endpoint) -> None:
    tail = Tail(endpoint, "gateway.log")
    for path in ("/healthz", "/readyz", "/metrics"):
        assert endpoint.client.get(path).status_code == 200
    endpoint.ask(user_id="a stranger")
    (line,) = tail.lines(1)
    assert line["path"] == "/v1/recommendations"


def test_torchserve_and_its_workers_write_nothing_for_a_request_that_works(endpoint: Endpoint) -> None:
    logs = [Tail(endpoint, "torchserve.log"), Tail(endpoint, "torchserve.out"), Tail(endpoint, "gateway.out")]
    for user in endpoint.shop.users[:20]:
        assert endpoint.ask(user_id=user).json()["degraded"] is False
    assert [log.text() for log in logs] == ["", "", ""]


def test_a_request_writes_one_line_of_the_gateway_and_one_of_the_decision_log_and_no_byte_elsewhere(
    endpoint: Endpoint,
) -> None:
    state, count = ServingState.of(endpoint.settings), 50
    before = sizes(state.root)
    for user in endpoint.shop.users[:count]:
        assert endpoint.ask(user_id=user).json()["degraded"] is False
    grown = {
        path: size - before.get(path, 0) for path, size in sizes(state.root).items() if size != before.get(path, 0)
    }
    ours = {path: size for path, size in grown.items() if not path.is_relative_to(state.decisions)}
    assert set(ours) == {state.log("gateway")}
    # TorchServe's own configuration writes 3.9 KB a request. A line of ours has about 400 bytes.
    assert ours[state.log("gateway")] / count < 700


def sizes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_torchserve_s_log_is_rotated_by_size_and_four_files_are_kept(home: Settings) -> None:
    command, environment = prepare(home)
    # Every line of Java's, many of them, into files of 2 KB.
    noisy = LOG_CONFIGURATION.read_text().replace('<Root level="warn">', '<Root level="debug">')
    assert noisy != LOG_CONFIGURATION.read_text()
    state = ServingState.of(home)
    (state.root / "noisy.xml").write_text(noisy)
    at = command.index(f"-Dlog4j2.configurationFile={LOG_CONFIGURATION}")
    command[at : at + 1] = [f"-Dlog4j2.configurationFile={state.root / 'noisy.xml'}", "-Drecommender.log_size=2 KB"]
    running = start(command, name="torchserve", state=state, environment=environment, folder=state.root)
    try:
        TorchServe(home).wait_up(running)
    finally:
        stop_torchserve(home)
    written = sorted(state.logs.glob("torchserve.log*"))
    assert [path.name for path in written] == ["torchserve.log", *(f"torchserve.log.{n}" for n in (1, 2, 3))]
    # A file ends with the line that made it too large. A line at DEBUG may have some KB.
    assert all(path.stat().st_size < 20_000 for path in written)


def test_a_worker_s_lines_are_json_and_name_the_version(endpoint: Endpoint) -> None:
    text = ServingState.of(endpoint.settings).log("torchserve").read_text()
    ours = [json.loads(line) for line in text.splitlines() if line.startswith('{"timestamp"')]
    ready = {line["model_version"] for line in ours if line["event"] == "worker ready" and line["warmed_with"] == 20}
    details = endpoint.client.get("/readyz").json()["details"]
    assert {details["champion"], details["canary"]} <= ready
    assert {line["process"] for line in ours} <= {"worker", "torchserve"}


def test_a_worker_that_cannot_load_says_why_in_the_error_and_java_s_own_lines_are_json(endpoint: Endpoint) -> None:
    tail, server = Tail(endpoint, "torchserve.log"), TorchServe(endpoint.settings)
    write_archive({"fails.py": FAILS}, server.model_store / "fails.mar", version="1", handler="fails.py", name="fails")
    server.register("fails.mar", name="fails")
    try:
        tail.wait_for('"process":"torchserve"')  # TorchServe warns after the first attempt
        with pytest.raises(ServingError, match="broken on purpose"):
            server.wait_ready("1", name="fails", seconds=0.5)
    finally:
        server.unregister("1", name="fails")
        (server.model_store / "fails.mar").unlink()
    java = [json.loads(line) for line in tail.text().splitlines() if '"process":"torchserve"' in line]
    assert {line["level"] for line in java} <= {"warn", "error"}
    assert all(line["logger"].startswith("org.pytorch.serve") and line["event"] for line in java)


def test_torchserve_still_counts_its_workers_times(endpoint: Endpoint) -> None:
    endpoint.ask(user_id=endpoint.shop.users[0])
    text = httpx.get(f"http://127.0.0.1:{endpoint.settings.serving.metrics_port}/metrics", timeout=10).text
    assert 'PredictionTime{ModelName="campaign_ranker"' in text
