"""The gateway's gauges of a version end with the version, in one process and in several together."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving.deployed import Deployed
from serving.gateway.app import Gateway
from serving.gateway.processes.merged import Figures

GAUGES = (
    "recommender_model_in_flight",
    "recommender_model_limit",
    "recommender_breaker_state",
    "recommender_version_sick_seconds",
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"home": tmp_path / "home"})


@pytest.fixture
def gateway(settings: Settings) -> Iterator[Gateway]:
    """A gateway that serves the champion v1 and the canary v2, each asked before."""
    Deployed(champion="v1", canary="v2", canary_share=0.1).save(ServingState.of(settings).root)
    gateway = Gateway(settings)
    for version in gateway.deployed.current.versions:
        gateway.model.limiter(version)
        gateway.versions.breaker(version)
    yield gateway
    gateway.close()


def promote(gateway: Gateway, settings: Settings) -> None:
    """The canary becomes the champion, and the champion goes."""
    Deployed(champion="v2", former="v1").save(ServingState.of(settings).root)
    gateway.deployed.refresh()


def versions_shown(text: bytes) -> dict[str, set[str]]:
    """The versions of each gauge that has any."""
    return {
        family.name: {sample.labels["model_version"] for sample in family.samples}
        for family in text_string_to_metric_families(text.decode())
        if family.name in GAUGES
    }


def test_a_version_that_is_not_deployed_any_more_has_no_gauges(gateway: Gateway, settings: Settings) -> None:
    assert versions_shown(gateway.observed().text()) == {gauge: {"v1", "v2"} for gauge in GAUGES}
    promote(gateway, settings)
    # Nothing was asked of a version since, so its limiter and its breaker are still known.
    assert "v1" in gateway.model.limiters
    assert versions_shown(gateway.observed().text()) == {gauge: {"v2"} for gauge in GAUGES}


def test_requests_under_way_to_a_version_that_is_gone_are_shown_until_they_end(
    gateway: Gateway, settings: Settings
) -> None:
    before = gateway.model.limiter("v1").begin()
    promote(gateway, settings)
    assert versions_shown(gateway.observed().text())["recommender_model_in_flight"] == {"v1", "v2"}
    gateway.model.limiter("v1").end(before, 0.01)
    assert versions_shown(gateway.observed().text())["recommender_model_in_flight"] == {"v2"}


def test_totals_of_a_version_that_is_gone_stay(gateway: Gateway, settings: Settings) -> None:
    gateway.metrics.answers.labels("champion", "v1").inc()
    gateway.metrics.model_failures.labels("v1", "model_late").inc()
    promote(gateway, settings)
    text = gateway.observed().text().decode()
    assert 'recommender_answers_total{model_version="v1",variant="champion"} 1.0' in text
    assert 'recommender_model_failures_total{model_version="v1",reason="model_late"} 1.0' in text


def test_several_processes_together_show_only_versions_that_one_of_them_has(
    gateway: Gateway, settings: Settings
) -> None:
    def merged() -> Figures:
        whole = Figures()
        for _ in range(2):
            whole.add(Figures.unpacked(Figures.of(gateway.observed().registry).packed()))
        return whole

    assert versions_shown(merged().text()) == {gauge: {"v1", "v2"} for gauge in GAUGES}
    promote(gateway, settings)
    assert versions_shown(merged().text()) == {gauge: {"v2"} for gauge in GAUGES}
