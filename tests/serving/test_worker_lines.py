"""A worker's line about a request that failed names the request."""

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import redis
from conftest import Endpoint
from gateways import beside
from test_serving_logs import Tail

from recommender.matching.packed_user import PackedUser, ServingSchema
from recommender.settings import StoreSettings
from recommender.storage.home import Home
from serving.online_store.client import OnlineStoreClient
from serving.online_store.feast_format import entity_key, hash_field


def of_another_taxonomy(packed: PackedUser) -> bytes:
    """A user's features whose checksum is right and whose affinity no catalogue can read."""
    start = packed.content.index(packed.affinity)
    changed = packed.content[:start] + bytes(len(packed.affinity)) + packed.content[start + len(packed.affinity) :]
    return changed[:4] + struct.pack("<I", zlib.crc32(changed[8:])) + changed[8:]


def as_feast_writes(content: bytes) -> bytes:
    length, left = b"", len(content)
    while left > 0x7F:
        length, left = length + bytes([left & 0x7F | 0x80]), left >> 7
    return b"\x0a" + length + bytes([left]) + content


def test_a_worker_s_line_about_a_request_that_failed_names_its_ids(
    endpoint: Endpoint, tmp_path: Path, redis_url: str
) -> None:
    user = endpoint.shop.users[0]
    store = OnlineStoreClient.open(endpoint.settings)
    packed = store.read(user)
    store.close()
    assert packed is not None
    schema = ServingSchema.load(Home.of(endpoint.settings).feature_store.root)
    with redis.Redis.from_url(redis_url) as server:
        key = entity_key(schema.join_key, user) + schema.project.encode()
        value = as_feast_writes(of_another_taxonomy(packed))
        server.hset(key, hash_field(schema.view, schema.field), value)
    settings = endpoint.settings.updated(store=StoreSettings(kind="redis", redis_url=redis_url))
    tail = Tail(endpoint, "torchserve.log")
    with beside(replace(endpoint, settings=settings), tmp_path / "state") as gateway:
        response = gateway.ask(user, **{"X-Request-ID": "of-the-caller"})
    assert response.json()["degraded_reasons"] == ["model_error"]
    said = '"event":"request not answered"'
    tail.wait_for(said)
    (line,) = [json.loads(line) for line in tail.text().splitlines() if said in line]
    trace_id = response.headers["traceparent"].split("-")[1]
    assert (line["x_request_id"], line["trace_id"]) == ("of-the-caller", trace_id)
