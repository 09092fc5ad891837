"""The registry keeps what serves, and the way back, whatever is killed or damaged."""

import json
import multiprocessing
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recommender.errors import CorruptFileError, RegistryError
from recommender.registry import Registry
from recommender.registry.candidates import fit_before
from recommender.storage.journal import Journal
from recommender.storage.manifest import write_manifest

START = datetime(2017, 8, 1, tzinfo=UTC)
BOUNDARIES = {"gate": START, "test": START + timedelta(days=61), "live": START + timedelta(days=152)}


def record_verdict(registry: Registry, version: str, verdict: dict[str, object]) -> None:
    with registry.recording(version) as record:
        record(verdict)


def candidate(folder: Path, ranker: str = "logistic", **changed: str) -> Path:
    """A trained candidate as `training.train` leaves it, with a few bytes for weights."""
    identity = {"data_hash": "d1", "training_hash": "t1", "ranker": ranker, "code_version": "c1", **changed}
    for fit in BOUNDARIES:
        bundle = folder / "fits" / fit
        bundle.mkdir(parents=True)
        (bundle / "weights.safetensors").write_bytes(f"{ranker} {fit}".encode() * 50)
        write_manifest(bundle, kind="bundle")
    moments = {fit: boundary.isoformat() for fit, boundary in BOUNDARIES.items()}
    (folder / "lineage.json").write_text(json.dumps({**identity, "boundaries": moments}))
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "var")


@pytest.fixture
def logistic(registry: Registry, tmp_path: Path) -> str:
    return registry.add(candidate(tmp_path / "logistic"))


@pytest.fixture
def transformer(registry: Registry, tmp_path: Path) -> str:
    return registry.add(candidate(tmp_path / "transformer", "transformer"))


def test_the_same_candidate_added_twice_is_one_version(registry: Registry, logistic: str, tmp_path: Path) -> None:
    assert registry.add(candidate(tmp_path / "again")) == logistic
    assert registry.versions() == (logistic,)
    assert [event["what"] for event in registry.history()] == ["added"]


@pytest.mark.parametrize("part", ["data_hash", "training_hash", "code_version"])
def test_other_data_configuration_or_code_is_another_version(
    registry: Registry, logistic: str, tmp_path: Path, part: str
) -> None:
    assert registry.add(candidate(tmp_path / "other", **{part: "changed"})) != logistic


def test_a_candidate_without_an_identity_is_refused_with_what_it_lacks(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="code_version"):
        registry.add(candidate(tmp_path / "nameless", code_version=""))


def test_nothing_serves_before_the_first_promotion(registry: Registry, logistic: str) -> None:
    assert registry.champion() is None
    assert registry.status().champion is None
    with pytest.raises(RegistryError, match=logistic):
        registry.start_canary(logistic, 0.1)


def test_a_canary_serves_beside_the_champion_until_it_is_promoted(
    registry: Registry, logistic: str, transformer: str
) -> None:
    registry.promote(logistic)
    registry.start_canary(transformer, 0.2, {"decision": "PROMOTE"})
    canary = registry.canary()
    assert canary is not None
    assert (canary.version, canary.share, canary.ranker) == (transformer, 0.2, "transformer")
    assert registry.champion() == logistic

    registry.promote(transformer)
    status = registry.status()
    assert status.champion is not None
    assert (status.champion.version, status.canary, status.previous) == (transformer, None, (logistic,))
    assert status.champion.lineage["data_hash"] == "d1"


def test_rollback_stops_the_canary_first_and_then_walks_back_the_champions(
    registry: Registry, logistic: str, transformer: str, tmp_path: Path
) -> None:
    third = registry.add(candidate(tmp_path / "third", data_hash="d2"))
    registry.promote(logistic)
    registry.promote(transformer)
    registry.start_canary(third, 0.5)
    assert registry.rollback() == transformer
    assert registry.canary() is None
    assert registry.rollback() == logistic
    with pytest.raises(RegistryError, match=re.escape(str(registry.folder))):
        registry.rollback()
    assert registry.champion() == logistic


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_zero_and_one_is_refused(
    registry: Registry, logistic: str, transformer: str, share: float
) -> None:
    registry.promote(logistic)
    with pytest.raises(RegistryError, match="share"):
        registry.start_canary(transformer, share)


def test_an_unknown_version_is_refused_and_those_there_are_listed(registry: Registry, logistic: str) -> None:
    with pytest.raises(RegistryError, match=logistic):
        registry.promote("logistic-0000000000")
    with pytest.raises(RegistryError, match=r"'\.\./versions'"):
        registry.path("../versions")


def test_a_flipped_bit_in_a_version_keeps_the_champion_serving(
    registry: Registry, logistic: str, transformer: str
) -> None:
    registry.promote(logistic)
    flip(registry.path(transformer) / "fits" / "live" / "weights.safetensors")
    with pytest.raises(CorruptFileError, match=r"weights\.safetensors"):
        registry.promote(transformer)
    assert registry.champion() == logistic


def test_adding_a_damaged_version_again_heals_it(registry: Registry, logistic: str, tmp_path: Path) -> None:
    flip(registry.path(logistic) / "fits" / "live" / "weights.safetensors")
    registry.add(candidate(tmp_path / "again"))
    assert registry.bundle(logistic).name == "live"


def test_a_damaged_candidate_never_becomes_a_version(registry: Registry, tmp_path: Path) -> None:
    damaged = candidate(tmp_path / "damaged")
    flip(damaged / "fits" / "test" / "weights.safetensors")
    with pytest.raises(CorruptFileError, match=r"fits/test/weights\.safetensors"):
        registry.add(damaged)
    assert registry.versions() == ()


def test_the_newest_fit_that_has_seen_nothing_later_is_found(registry: Registry, logistic: str) -> None:
    version = registry.path(logistic)
    assert fit_before(version, BOUNDARIES["gate"]).name == "gate"
    assert fit_before(version, BOUNDARIES["test"] + timedelta(days=3)).name == "test"
    assert fit_before(version, BOUNDARIES["live"]).name == "live"
    with pytest.raises(RegistryError, match=re.escape(f"gate {BOUNDARIES['gate'].isoformat()}")):
        fit_before(version, START - timedelta(seconds=1))


def test_verdicts_are_kept_in_order(registry: Registry, logistic: str, transformer: str) -> None:
    for decision in ("HOLD", "PROMOTE"):
        record_verdict(registry, transformer, {"decision": decision})
    record_verdict(registry, logistic, {"decision": "HOLD"})
    judged = [event for event in registry.history() if event["what"] == "judged"]
    assert [(event["version"], event["verdict"]["decision"]) for event in judged] == [
        (transformer, "HOLD"),
        (transformer, "PROMOTE"),
        (logistic, "HOLD"),
    ]


@pytest.mark.parametrize("name", ["state.json", "history.jsonl"])
def test_an_altered_file_is_named(registry: Registry, logistic: str, name: str) -> None:
    registry.promote(logistic)
    path = registry.folder / name
    path.write_text(path.read_text().replace("promoted", "demoted!"))
    with pytest.raises(CorruptFileError, match=name):
        registry.history()


def test_a_lost_state_is_an_error_and_not_an_empty_registry(registry: Registry, logistic: str) -> None:
    (registry.folder / "state.json").unlink()
    with pytest.raises(CorruptFileError, match=r"state\.json"):
        registry.champion()


def test_a_line_torn_by_a_kill_is_completed_by_the_next_change(
    registry: Registry, logistic: str, transformer: str
) -> None:
    history = registry.folder / "history.jsonl"
    registry.promote(logistic)
    history.write_bytes(history.read_bytes()[:-20])
    assert [event["what"] for event in registry.history()] == ["added", "added", "promoted"]
    registry.promote(transformer)
    assert [event["seq"] for event in registry.history()] == [1, 2, 3, 4]


def test_killed_at_any_moment_either_the_old_or_the_new_champion_serves(
    registry: Registry, logistic: str, transformer: str
) -> None:
    registry.promote(logistic)
    for moment in range(12):
        child = multiprocessing.get_context("fork").Process(
            target=_promote_and_die, args=(registry, transformer, moment)
        )
        child.start()
        child.join()
        champion = registry.champion()
        assert champion in (logistic, transformer)
        events = registry.history()
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        if champion == transformer:
            registry.rollback()
    assert registry.champion() == logistic
    assert child.exitcode == 0, "the last child must have lived to the end, or moments were left out"


def test_writers_at_once_lose_no_event(registry: Registry, logistic: str) -> None:
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_judge, args=(registry, logistic, n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [event["what"] for event in registry.history()].count("judged") == 40
    assert [event["seq"] for event in registry.history()] == list(range(1, 42))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _judge(registry: Registry, version: str, writer: int) -> None:
    for turn in range(10):
        record_verdict(registry, version, {"writer": writer, "turn": turn})


def _promote_and_die(registry: Registry, version: str, moment: int) -> None:
    """Promote, but die as if killed at the `moment`-th call that touches the disk."""
    calls = 0
    fsync, replace = os.fsync, os.replace

    def counted(what):  # type: ignore[no-untyped-def]
        def call(*arguments, **named):  # type: ignore[no-untyped-def]
            nonlocal calls
            if calls == moment:
                os._exit(9)
            calls += 1
            result = what(*arguments, **named)
            if calls == moment:
                os._exit(9)
            calls += 1
            return result

        return call

    os.fsync = counted(fsync)
    Path.replace = lambda self, target: counted(replace)(self, target)  # type: ignore[method-assign]
    assert Journal(registry.folder).state()
    registry.promote(version)
    os._exit(0)


def test_a_hold_for_latency_alone_is_measured_again(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "home")
    version = registry.add(candidate(tmp_path / "a", "logistic"))
    checks = [{"name": "latency", "passed": False}, {"name": "calibration", "passed": True}]
    record_verdict(registry, version, {"decision": "HOLD", "checks": checks})
    assert registry.settled(version) == []
    checks[1]["passed"] = False
    record_verdict(registry, version, {"decision": "HOLD", "checks": checks})
    assert len(registry.settled(version)) == 1
