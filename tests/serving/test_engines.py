"""What every scoring engine does alike: TorchServe, worker processes of the gateway, and a real MLServer."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Shop, candidate
from engines import Engine, running_engine, until

from recommender.errors import CorruptFileError, ServingError
from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_user import ServingSchema, unpack
from recommender.registry import Registry, bundle
from recommender.storage.home import Home
from recommender.storage.manifest import read_manifest, write_manifest
from serving.deployer.sync import Deployer
from serving.engines.contract import EngineError
from serving.request import RecommendationRequest, ScoringRequest
from serving.shop import Shop as ServedShop
from serving.worker.scoring import score

ENGINES = ("torchserve", "in_process", "oip")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running_engine(request.param, shop, tmp_path_factory.mktemp(request.param)) as started:
        yield started


@pytest.fixture(scope="module")
def versions(engine: Engine, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two versions in the registry. The first one is loaded."""
    registry, folder = Registry(engine.settings.home), tmp_path_factory.mktemp("candidates")
    first, second = (
        registry.add(candidate(shop, folder / str(index), strength=0.001 * (index + 1))) for index in range(2)
    )
    engine.load(first)
    engine.serve(first)
    return first, second


def scored_here(engine: Engine, version: str, user: str) -> dict[str, float]:
    """Scores of a version without any engine."""
    home = Home.of(engine.settings)
    layouts = ServingSchema.load(home.feature_store.root).by_layout()
    request = ScoringRequest(request=RecommendationRequest(user_id=user), as_of_us=engine.as_of_us)
    ranker = bundle.load(Registry(engine.settings.home).bundle(version))
    served = ServedShop(Catalogue.load(home.catalogue))
    scored = score(ranker, served, unpack(user, engine.features(user), layouts), request)
    return {one["campaign_id"]: one["score"] for one in scored.ranking.campaigns}


def scores(document: dict[str, Any]) -> dict[str, float]:
    return {one["campaign_id"]: one["score"] for one in document["campaigns"]}


def assert_scores_as_here(engine: Engine, version: str, users: list[str]) -> None:
    for user in users:
        status, document = engine.ask(version, engine.body(user))
        assert (status, document["model_version"]) == (200, version), document
        expected = scored_here(engine, version, user)
        assert list(scores(document)) == list(expected)
        np.testing.assert_allclose(list(scores(document).values()), list(expected.values()), rtol=0, atol=1e-6)


def test_the_answers_are_those_of_direct_scoring(engine: Engine, versions: tuple[str, str]) -> None:
    assert_scores_as_here(engine, versions[0], engine.shop.users[:5])


def test_a_request_of_every_option_is_answered(engine: Engine, versions: tuple[str, str]) -> None:
    body = engine.body(engine.shop.users[0], num_campaigns=1, num_items=2, explain=True, campaign_ids=["nowhere"])
    status, document = engine.ask(versions[0], body)
    assert status == 200
    assert (document["campaigns"], document["dropped_campaign_ids"]) == ([], ["nowhere"])
    assert [one["stage"] for one in document["explanations"]] == ["unknown"]


def damaged(body: bytes) -> bytes:
    """The body with an affinity of no known format."""
    assert b"AFF" in body
    return body.replace(b"AFF", b"XFF", 1)


def test_requests_that_fail_leave_their_neighbours_alone(engine: Engine, versions: tuple[str, str]) -> None:
    users = engine.shop.users[:9]
    bodies = [engine.body(user) for user in users]
    for place in range(0, 9, 3):
        bodies[place] = damaged(bodies[place])
    found: dict[int, tuple[int, dict[str, Any]]] = {}

    def ask(place: int) -> None:
        found[place] = engine.ask(versions[0], bodies[place])

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[place][0] for place in range(9)] == [503, 200, 200] * 3
    assert {found[place][1]["error"] for place in range(0, 9, 3)} == {"unavailable"}


def test_a_batch_answers_for_each_of_its_users(engine: Engine, versions: tuple[str, str]) -> None:
    users = engine.shop.users[:3]
    good, broken = engine.body(users[0]), damaged(engine.body(users[1]))
    elements = [base64.b64encode(body).decode() for body in (good, broken, engine.body(users[2]))]
    tensor = {"name": "requests", "datatype": "BYTES", "shape": [3], "data": elements}
    tensor["parameters"] = {"content_type": "base64"}
    status, document = engine.ask_in_tensors(versions[0], {"id": "a", "inputs": [tensor]})
    assert (status, document["id"], document["model_version"]) == (200, "a", versions[0])
    answers, statuses = document["outputs"]
    assert statuses["data"] == [200, 503, 200]
    assert scores(json.loads(answers["data"][0])) == pytest.approx(scored_here(engine, versions[0], users[0]), abs=1e-6)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"user_id": 3}', "user_id"),
        (b'{"user_id": "1", "colour": 1}', "colour"),
        (b'{"user_id": "1", "num_campaigns": NaN}', "num_campaigns"),
        (b"not JSON", "body"),
        (b"F-cut-off", "body"),
    ],
)
def test_bad_input_is_refused_with_its_field(
    engine: Engine, versions: tuple[str, str], body: bytes, field: str
) -> None:
    status, document = engine.ask(versions[0], body)
    assert (status, document["error"]) == (400, "invalid_request")
    assert [one["field"] for one in document["fields"]] == [field]


def test_the_gateway_s_format_needs_the_replica_s_key(engine: Engine, versions: tuple[str, str]) -> None:
    status, document = engine.ask(versions[0], engine.body(engine.shop.users[0], key=bytes(16)))
    assert (status, document["error"]) == (403, "forbidden")


def test_a_deadline_that_passed_is_not_worked_on(engine: Engine, versions: tuple[str, str]) -> None:
    late = engine.body(engine.shop.users[0], answer_by_us=time.time_ns() // 1000 - 1)
    assert engine.ask(versions[0], late)[0] == 503


def test_a_call_that_is_given_up_disturbs_no_later_one(engine: Engine, versions: tuple[str, str]) -> None:
    given_up = 0
    for _ in range(20):
        try:
            engine.ask(versions[0], engine.body(engine.shop.users[1]), seconds=0.0001)
        except TimeoutError:
            given_up += 1
    assert given_up > 0
    assert_scores_as_here(engine, versions[0], engine.shop.users[2:4])


def test_a_version_that_is_not_loaded_is_unknown(engine: Engine, versions: tuple[str, str]) -> None:
    assert engine.ask("never-loaded", engine.body(engine.shop.users[0]))[0] == 404
    assert "never-loaded" not in engine.loading.versions()
    with pytest.raises(ServingError, match="never-loaded"):
        engine.loading.set_default("never-loaded")
    engine.loading.unregister("never-loaded")


def test_a_damaged_version_is_refused_and_the_other_one_answers(
    engine: Engine, versions: tuple[str, str], tmp_path: Path
) -> None:
    damaged = candidate(engine.shop, tmp_path / "damaged", strength=0.5) / "fits" / "live"
    weights = damaged / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"weights\.safetensors"):
        engine.loading.register("damaged", damaged)
    assert_scores_as_here(engine, versions[0], engine.shop.users[:1])


@pytest.mark.slow
def test_a_version_that_no_worker_can_load_is_refused_at_deployment_and_the_champion_stays(
    engine: Engine, versions: tuple[str, str], tmp_path: Path
) -> None:
    registry, deployer = Registry(engine.settings.home), Deployer(engine.settings)
    registry.promote(versions[0])
    assert deployer.refresh().champion == versions[0]
    folder = candidate(engine.shop, tmp_path / "foreign", strength=0.5)
    bundle_folder = folder / "fits" / "live"
    config = bundle_folder / "config.json"
    document = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**document, "ranker": "of-next-year"}), encoding="utf-8")
    facts = {key: value for key, value in read_manifest(bundle_folder, verify=False).items() if key != "files"}
    write_manifest(bundle_folder, **facts)
    foreign = registry.add(folder)
    registry.promote(foreign)
    after = deployer.refresh()
    assert (after.champion, list(after.failed)) == (versions[0], [foreign])
    assert "of-next-year" in after.failed[foreign]
    assert foreign not in engine.loading.versions()
    assert_scores_as_here(engine, versions[0], engine.shop.users[:1])


@pytest.mark.slow
def test_a_swap_and_a_rollback_lose_no_request(engine: Engine, versions: tuple[str, str]) -> None:
    first, second = versions
    serving = {"now": first}
    answers: list[tuple[int, str, str]] = []
    ended = threading.Event()
    body = engine.body(engine.shop.users[0])

    def ask() -> None:
        while not ended.is_set():
            version = serving["now"]
            status, document = engine.ask(version, body)
            answers.append((status, version, document.get("model_version", "")))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        engine.load(second)
        assert {first, second} <= set(engine.loading.versions())
        engine.serve(second)
        serving["now"] = second
        time.sleep(0.5)
        engine.loading.unregister(first)
        assert_scores_as_here(engine, second, engine.shop.users[:2])
        until(lambda: engine.ask(first, body)[0] == 404, "the version is gone")
        engine.load(first)
        engine.serve(first)
        serving["now"] = first
        time.sleep(0.5)
        engine.loading.unregister(second)
    finally:
        ended.set()
        thread.join()
    assert {status for status, _, _ in answers} == {200}
    assert {(asked, said) for _, asked, said in answers} == {(first, first), (second, second)}
    assert list(engine.loading.versions()) == [first]
    assert_scores_as_here(engine, first, engine.shop.users[:2])


@pytest.mark.slow
def test_a_killed_worker_is_replaced(engine: Engine, versions: tuple[str, str]) -> None:
    body = engine.body(engine.shop.users[0])
    before = engine.processes()
    assert before
    engine.kill_a_process()

    def answers() -> bool:
        try:
            return engine.ask(versions[0], body, seconds=2.0)[0] == 200
        except (EngineError, TimeoutError):
            return False

    until(lambda: not set(before) <= set(engine.processes()), "the process is gone")
    until(answers, "the version answers again")
    assert set(engine.processes()) != set(before)
    assert_scores_as_here(engine, versions[0], engine.shop.users[:2])
