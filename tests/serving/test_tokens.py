"""Who may ask, and how often."""

import time
from pathlib import Path

import pytest
from gateways import Gateway, gateway

from recommender.settings import Settings

OLD, NEW = "old-" + "x" * 30, "new-" + "y" * 30


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


def status(running: Gateway, token: str) -> int:
    return running.ask(**bearer(token)).status_code


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the secrets, with one token."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "token").write_text(f"{OLD}\n")
    monkeypatch.setenv("RECOMMENDER_SECRETS", str(folder))
    return folder


def replaced(file: Path, text: str) -> None:
    """Replace a file at once, as Kubernetes does with a mounted secret."""
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)


def until(running: Gateway, token: str, wanted: int) -> None:
    deadline = time.monotonic() + 30
    while status(running, token) != wanted:
        assert time.monotonic() < deadline, f"{token} is not answered {wanted}"
        time.sleep(0.1)


def test_tokens_are_rotated_while_the_gateway_runs(home: Settings, secrets: Path) -> None:
    with gateway(home) as running:
        assert (status(running, OLD), status(running, NEW)) == (200, 401)
        replaced(secrets / "token", f"{NEW}\n{OLD}\n")
        until(running, NEW, 200)
        assert status(running, OLD) == 200
        replaced(secrets / "token", f"{NEW}\n")
        until(running, OLD, 401)
        (secrets / "token").unlink()
        deadline = time.monotonic() + 30
        while "tokens cannot be read" not in running.log():
            assert time.monotonic() < deadline, "that the file is missing is logged"
            time.sleep(0.1)
        assert (status(running, NEW), status(running, OLD)) == (200, 401), "a missing file opens nothing"
        log = running.log()
        assert OLD not in log
        assert NEW not in log


def test_the_scheme_is_read_in_any_case(home: Settings, secrets: Path) -> None:
    with gateway(home) as running:
        for scheme, wanted in (("bearer", 200), ("BEARER", 200), ("Basic", 401), ("Token", 401)):
            assert running.ask(**bearer(OLD, scheme)).status_code == wanted, scheme
        assert running.client.post("/v1/exposures", json={}).status_code == 401


def test_wrong_tokens_of_a_peer_are_limited_counted_and_logged(home: Settings, secrets: Path) -> None:
    with gateway(home) as running:
        answers = [running.ask(**bearer("wrong")) for _ in range(60)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:20] == [401] * 20
        limited = next(answer for answer in answers if answer.status_code == 429)
        assert (limited.json()["error"], int(limited.headers["Retry-After"])) == ("rate_limited", 1)
        assert statuses.count(429) >= 20
        assert running.metric("recommender_failed_tokens_total") == 60
        assert running.metric("recommender_refusals_total", status="401") == statuses.count(401)
        assert running.log().count('"event":"wrong token"') == statuses.count(401)
        assert status(running, OLD) == 200, "a right token is taken from the same peer"


def test_a_token_asks_no_more_often_than_its_rate(home: Settings, secrets: Path) -> None:
    (secrets / "token").write_text(f"{OLD} {NEW}")
    with gateway(home, token_rate_per_s=2) as running:
        answers = [running.ask(**bearer(OLD)) for _ in range(30)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:2] == [200] * 2
        assert statuses.count(429) >= 5
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["error"] == "rate_limited"
        assert int(refused.headers["Retry-After"]) >= 1
        assert status(running, NEW) == 200, "another token has its own rate"
        until(running, OLD, 200)
