"""`recommender load-test`, as an operator calls it, against real gateways."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Endpoint
from gateways import beside, gateway
from servers import free_ports
from typer.testing import CliRunner

from cli.load import summary
from cli.main import app
from recommender.settings import Settings
from serving.load.results import Result


def invoke(*words: str, **environment: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["load-test", *words], env={"COLUMNS": "160", **environment})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def users_file(folder: Path, *users: str) -> str:
    file = folder / "users.txt"
    file.write_text("\n".join(users), encoding="utf-8")
    return str(file)


def test_two_seconds_of_load_on_the_endpoint_are_all_accounted_for(endpoint: Endpoint, tmp_path: Path) -> None:
    with beside(endpoint, tmp_path) as running:
        url = f"http://127.0.0.1:{running.settings.serving.port}"
        users = users_file(tmp_path, *endpoint.shop.users[:50], "a stranger")
        command = [
            str(Path(sys.executable).with_name("recommender")),
            "load-test",
            url,
            "--rate",
            "40",
            "--seconds",
            "2",
            "--json",
        ]
        done = subprocess.run([*command, "--users", users], capture_output=True, text=True, check=True, timeout=60)
        counted = running.metric("recommender_answers_total")
    figures: dict[str, Any] = json.loads(done.stdout)
    assert figures["rate"] == 40
    assert figures["url"] == f"{url}/v1/recommendations"
    # A Poisson process of 40 a second has 80 sendings in two seconds, and six standard deviations are 54.
    assert 26 < figures["requests"] < 134
    assert sum(figures["statuses"].values()) == figures["requests"] == counted - 1  # one was asked before
    assert figures["statuses"] == {"200": figures["requests"]}
    assert 0 < figures["goodput_per_s"] <= round(figures["requests"] / figures["seconds"], 2)
    times = figures["ms"]["answered"]
    assert 0 < times["p50"] <= times["p90"] <= times["p99"] <= times["p99.9"]
    assert figures["generator_cpu_share"] > 0
    assert {"p50", "p99"} <= figures["late_ms"].keys()


def test_degraded_answers_are_counted_by_reason_and_are_no_goodput(home: Settings, tmp_path: Path) -> None:
    known = users_file(tmp_path, *stored_users(home))
    with gateway(home) as running:
        url = f"http://127.0.0.1:{running.settings.serving.port}"
        code, printed, _ = invoke(url, "--rate", "30", "--seconds", "1", "--users", known, "--json")
        shown_code, shown, _ = invoke(url, "--rate", "30", "--seconds", "0.5", "--users", known)
    figures = json.loads(printed)
    assert (code, shown_code) == (0, 0)
    assert figures["degraded_reasons"] == {"no_model": figures["requests"]}
    assert figures["goodput_per_s"] == 0
    assert "no_model" in shown
    assert "p99.9" in shown


def test_times_measures_the_capacity_first(endpoint: Endpoint, tmp_path: Path) -> None:
    with beside(endpoint, tmp_path) as running:
        url, users = f"http://127.0.0.1:{running.settings.serving.port}", users_file(tmp_path, endpoint.shop.users[0])
        code, printed, _ = invoke(url, "--times", "0.2", "--seconds", "1", "--users", users, "--json")
    figures = json.loads(printed)
    assert code == 0
    assert figures["rate"] == pytest.approx(0.2 * figures["capacity_per_s"])
    assert figures["capacity_per_s"] > 10


def test_a_gateway_with_a_token_takes_the_secret_or_the_file_and_says_what_is_wrong_without(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECOMMENDER_TOKEN", "right\nolder")
    (tmp_path / "token").write_text("right\n")
    (tmp_path / "wrong").write_text("wrong\n")
    with gateway(home) as running:
        url = f"http://127.0.0.1:{running.settings.serving.port}"
        load = (url, "--rate", "20", "--seconds", "0.5", "--json", "--users", users_file(tmp_path, "1"))
        assert invoke(*load)[0] == 0
        code, printed, _ = invoke(*load, "--token-file", str(tmp_path / "token"))
        assert code == 0
        assert json.loads(printed)["statuses"].keys() == {"200"}
        code, _, error = invoke(*load, "--token-file", str(tmp_path / "wrong"))
        assert code == 2
        assert "401" in error
        assert "--token-file" in error


@pytest.mark.parametrize(
    ("url", "words", "named"),
    [
        ("http://127.0.0.1:{free}", ("--rate", "5"), "recommender serve"),
        ("https://example.org", ("--rate", "5"), "https"),
        ("127.0.0.1:8000", ("--rate", "5"), "http://"),
        ("http://127.0.0.1:99999", ("--rate", "5"), "99999"),
        ("http://127.0.0.1:{free}", (), "--times"),
        ("http://127.0.0.1:{free}", ("--rate", "5", "--times", "2"), "--rate"),
    ],
)
def test_what_cannot_be_loaded_is_one_message(url: str, words: tuple[str, ...], named: str, tmp_path: Path) -> None:
    address = url.format(free=free_ports(1)[0])
    code, _, error = invoke(address, *words, "--users", users_file(tmp_path, "1"))
    assert code == 2
    assert named in error


def test_another_path_of_the_gateway_is_named(home: Settings, tmp_path: Path) -> None:
    with gateway(home) as running:
        address = f"http://127.0.0.1:{running.settings.serving.port}/v2/recommend"
        code, _, error = invoke(address, "--rate", "5", "--users", users_file(tmp_path, "1"))
    assert code == 2
    assert "404" in error
    assert "/v1/recommendations" in error


def test_a_missing_or_empty_file_of_users_and_a_home_without_a_run_are_named(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9"
    code, _, error = invoke(url, "--rate", "5", "--users", str(tmp_path / "none.txt"))
    assert code == 2
    assert "none.txt" in error
    assert invoke(url, "--rate", "5", "--users", users_file(tmp_path))[0] == 2
    code, _, error = invoke(url, "--rate", "5", RECOMMENDER__HOME=str(tmp_path / "empty"))
    assert code == 2
    assert "users.parquet" in error


@pytest.mark.parametrize(("cpu_s", "late_s", "limit"), [(1.9, 0.0, True), (0.2, 0.5, True), (0.2, 0.001, False)])
def test_it_says_when_the_generator_was_the_limit(cpu_s: float, late_s: float, limit: bool) -> None:
    result = Result(rate=100, seconds=2.0, cpu_seconds=cpu_s, late_s=[late_s] * 100)
    assert any("generator" in warning for warning in summary(result, 250)["warnings"]) is limit


def stored_users(settings: Settings) -> list[str]:
    from recommender.features.some_users import some_users

    return some_users(settings, 20)
