"""The bytes that the online store holds are the bytes that the worker receives."""

import asyncio
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pyarrow.parquet as pq
from conftest import Shop, with_serving

from recommender.decisions.log import find, folders_of
from recommender.settings import Settings
from recommender.storage.home import Home, ServingState
from serving import wire
from serving.deployed import Deployed
from serving.gateway import app as gateway


class ModelServer(ThreadingHTTPServer):
    """Listens where the gateway looks for TorchServe, keeps every body, and ranks nothing."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ModelServer.Handler)
        self.bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server: "ModelServer"

        def do_POST(self) -> None:
            self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps({"campaigns": [], "dropped_campaign_ids": [], "model_version": "v1"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""


def stored(home: Path) -> dict[str, bytes]:
    """What the materialise step packed, by user."""
    table = pq.read_table(Home(home).feature_store.packed_users, columns=["user_id", "packed"])
    return dict(zip(table["user_id"].to_pylist(), table["packed"].to_pylist(), strict=True))


def test_the_gateway_sends_every_user_s_packed_bytes_as_the_store_holds_them(shop: Shop, home: Settings) -> None:
    server = ModelServer()
    thread = Thread(target=server.serve_forever)
    thread.start()
    update = {"inference_port": server.server_port}
    settings = with_serving(home, serving=home.serving.model_copy(update=update))
    Deployed(champion="v1").save(ServingState.of(settings).root)
    users = shop.users[:50]
    asked = {"num_campaigns": 4, "num_items": 0, "campaign_ids": ["a", "ü"], "context": {"page": "home", "price": 1e20}}

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(gateway.create(settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return [await client.post("/v1/recommendations", json={"user_id": user, **asked}) for user in users]

    try:
        responses = asyncio.run(ask())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert [response.json()["degraded_reasons"] for response in responses] == [[]] * len(users)
    received = [wire.decode(body) for body in server.bodies]
    packed = stored(settings.home)
    assert [content for _, content, _ in received] == [packed[user] for user in users]
    assert [request.request.model_dump(exclude_defaults=True) for request, _, _ in received] == [
        {"user_id": u, **asked} for u in users
    ]
    records = [find(folders_of(settings), response.json()["request_id"]) for response in responses]
    assert [(r["user_id"], r["candidates"], r["context"]) for r in records] == [
        (user, asked["campaign_ids"], asked["context"]) for user in users
    ]
