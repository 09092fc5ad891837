"""A canary that stays sick is ended once, and only for its own fault."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_registry import candidate

from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving.deployed import Deployed
from serving.deployer.sick_canary import end_sick_canary
from serving.version_health import FRESH_S, Sick, read_reports, write_report

LONG, SHORT = 60.0, 15.0


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "home")
    champion = registry.add(candidate(tmp_path / "a"))
    registry.promote(champion)
    registry.start_canary(registry.add(candidate(tmp_path / "b", "transformer")), 0.1)
    return registry


def replica(registry: Registry, folder: Path, **sick_s: float) -> Settings:
    """A replica that serves the registry's versions, whose gateway has found some of them sick for so long."""
    settings = Settings().updated(home=registry.home, serving={"state": folder})
    state, canary = ServingState.of(settings), registry.canary()
    state.root.mkdir()
    deployed = Deployed(registry.champion(), canary.version if canary else None, 0.1)
    deployed.save(state.root)
    versions = {"champion": deployed.champion, "canary": deployed.canary}
    write_report(state.health, "1", {str(versions[role]): Sick(for_s, "late") for role, for_s in sick_s.items()})
    return settings


def whats(registry: Registry) -> list[str]:
    return [event["what"] for event in registry.history()]


def test_several_replicas_end_a_sick_canary_once_and_the_history_has_the_reason(
    registry: Registry, tmp_path: Path
) -> None:
    replicas = [replica(registry, tmp_path / str(index), canary=LONG) for index in range(4)]
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(end_sick_canary, replicas))
    assert sorted(ended) == [False, False, False, True]
    assert registry.canary() is None
    assert whats(registry).count("canary ended") == 1
    last = registry.history()[-1]
    assert last["version"].startswith("transformer-")
    assert "60 s" in last["reason"]
    assert "late" in last["reason"]


@pytest.mark.parametrize("sick_s", [{}, {"canary": SHORT}, {"champion": LONG}, {"canary": LONG, "champion": SHORT}])
def test_it_stays_while_it_is_well_or_sick_for_a_moment_or_not_the_only_one(
    registry: Registry, tmp_path: Path, sick_s: dict[str, float]
) -> None:
    assert not end_sick_canary(replica(registry, tmp_path / "replica", **sick_s))
    assert registry.canary() is not None


def test_a_canary_that_was_started_again_since_then_stays(registry: Registry) -> None:
    before = registry.canary()
    assert before is not None
    registry.stop_canary()
    registry.start_canary(before.version, 0.1)
    assert not registry.end_canary(before, "sick")
    assert registry.canary() is not None


def test_no_setting_of_seconds_means_never(registry: Registry, tmp_path: Path) -> None:
    settings = replica(registry, tmp_path / "replica", canary=LONG).updated(isolation={"canary_sick_s": None})
    assert not end_sick_canary(settings)


def test_what_a_killed_gateway_left_behind_and_damaged_reports_end_nothing(registry: Registry, tmp_path: Path) -> None:
    settings = replica(registry, tmp_path / "replica", canary=LONG)
    folder = ServingState.of(settings).health
    old_s = time.time() - FRESH_S - 1
    os.utime(folder / "1.json", (old_s, old_s))
    (folder / "2.json").write_text("{")
    (folder / "3.json").write_text('{"v": {"seconds": 1}}')
    assert read_reports(folder) == {}
    assert not end_sick_canary(settings)
