"""The door: typed, validating, bounded in time, and the only way that leaves a decision record.

`python -m serving.gateway` runs it, as the container does and as `recommender serve` does.
"""

import asyncio
import contextlib
import gc
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from recommender.decisions.log import DecisionLog, UnknownRequest
from recommender.secrets import secret
from recommender.settings import Settings
from recommender.storage.home import Home, ServingState
from serving import api, config
from serving.archive import MODEL_NAME
from serving.deployed import Follower
from serving.feature_client import FeatureClient
from serving.gateway.inference import InferenceClient, InferenceError
from serving.gateway.observed import Observed
from serving.gateway.recommending import Recommending, Unavailable
from serving.shop import ShopFollower

logger = logging.getLogger(__name__)
FOLLOW_S = 0.2
READY_KEPT_S = 1.0
READY_TIMEOUT_S = 2.5
BODY_TIMEOUT_S = 10.0
MAX_DRAINED_BYTES = 4 * 2**20
PROBE = orjson.dumps({"user_id": "probe", "probe": True, "num_campaigns": 1, "num_items": 1})


class Refused(Exception):
    """A request that gets a 4xx or 503, with its body."""

    def __init__(self, status: int, refusal: api.Refusal, headers: dict[str, str] | None = None) -> None:
        super().__init__(refusal.message)
        self.status, self.refusal, self.headers = status, refusal, headers or {}


@dataclass
class Readiness:
    """Whether a real prediction works; looked at no more than once a second."""

    way: Recommending
    at: float = -1e9
    problem: str | None = None

    async def look(self) -> str | None:
        """What keeps the gateway from being ready, or None."""
        if time.monotonic() - self.at > READY_KEPT_S:
            self.problem = await self._problem()
            self.at = time.monotonic()
        return self.problem

    async def _problem(self) -> str | None:
        if self.way.shops.current is None:
            return self.way.shops.problem
        deployed = self.way.deployed.current
        if deployed.champion is None:
            return "no version is deployed"
        for version in deployed.versions:
            try:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    status, _ = await self.way.inference.post(f"/predictions/{MODEL_NAME}/{version}", PROBE)
            except (TimeoutError, InferenceError) as error:
                return f"{version}: {error or 'no answer in time'}"
            if status != 200:
                return f"{version} answers {status}"
        return None


def create(settings: Settings) -> FastAPI:
    """The gateway's application. Opening it needs neither store nor model nor catalogue: it follows them as they come."""
    way = Recommending(
        settings=settings,
        shops=ShopFollower(settings),
        deployed=Follower(ServingState.of(settings).root),
        features=FeatureClient.open(settings),
        inference=InferenceClient("127.0.0.1", settings.serving.inference_port),
        decisions=DecisionLog(Home.of(settings).decisions),
        observed=Observed(),
    )
    token = secret("token")
    expected = None if token is None else f"Bearer {token}".encode()
    readiness = Readiness(way)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        gc.collect()
        gc.freeze()
        following = asyncio.create_task(_follow(way))
        yield
        following.cancel()
        way.inference.close()
        way.features.close()
        way.decisions.close()

    app = FastAPI(title="Campaign recommendations", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)

    async def guarded(request: Request, answer: Callable[[bytes], Awaitable[bytes]]) -> Response:
        try:
            _authorise(request, expected)
            content = await answer(await _body(request))
        except api.Invalid as error:
            refused = Refused(422, api.Refusal(error="invalid_request", message=str(error), fields=error.problems))
        except Unavailable:
            message = f"no popular list was loaded yet: {way.shops.problem}"
            refused = Refused(503, api.Refusal(error="unavailable", message=message), {"Retry-After": "2"})
        except UnknownRequest as error:
            refused = Refused(404, api.Refusal(error="unknown_request", message=str(error)))
        except Refused as error:
            refused = error
        else:
            return Response(content, media_type="application/json")
        way.observed.refusals.labels(refused.status).inc()
        body = refused.refusal.model_dump_json()
        return Response(body, status_code=refused.status, headers=refused.headers, media_type="application/json")

    @app.post("/v1/recommendations", **_documented(api.RecommendationRequest, api.Recommendations, 503))
    async def recommend(request: Request) -> Response:
        """Which campaigns to put before a user, ranked, with items and reasons."""

        async def answer(body: bytes) -> bytes:
            return await way.recommend(api.parse(api.RecommendationRequest, body))

        return await guarded(request, answer)

    @app.post("/v1/exposures", **_documented(api.ExposureRequest, api.Exposure, 404, 503))
    async def expose(request: Request) -> Response:
        """Confirm that an answer was shown to its user."""

        async def answer(body: bytes) -> bytes:
            shown = api.parse(api.ExposureRequest, body)
            campaigns = None if shown.campaign_ids is None else tuple(shown.campaign_ids)
            try:
                way.decisions.expose(shown.request_id, campaigns)
            except OSError as error:
                message = f"the exposure could not be recorded ({error.strerror})"
                raise Refused(503, api.Refusal(error="unavailable", message=message), {"Retry-After": "2"}) from None
            way.observed.exposures.inc()
            return api.Exposure(request_id=shown.request_id).model_dump_json().encode()

        return await guarded(request, answer)

    @app.get("/healthz", response_model=api.Health)
    async def healthz() -> Response:
        """The gateway's process is alive."""
        return Response(b'{"status":"alive","details":{}}', media_type="application/json")

    @app.get("/readyz", response_model=api.Health, responses={503: {"model": api.Health, "description": "Not ready"}})
    async def readyz() -> Response:
        """A real prediction works."""
        problem = await readiness.look()
        now = way.deployed.current
        details = {"champion": now.champion, "canary": now.canary, "failed": now.failed}
        health = api.Health(status=problem or "ready", details=details)
        status = 200 if problem is None else 503
        return Response(health.model_dump_json(), status_code=status, media_type="application/json")

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(way.observed.text(), media_type="text/plain; version=0.0.4")

    @app.exception_handler(HTTPException)
    async def not_found(_: Request, error: HTTPException) -> Response:
        names = {404: "not_found", 405: "method_not_allowed"}
        refusal = api.Refusal(error=names.get(error.status_code, "refused"), message=str(error.detail))
        return Response(
            refusal.model_dump_json(),
            status_code=error.status_code,
            headers=dict(error.headers or {}),
            media_type="application/json",
        )

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        # Starlette raises it again behind this answer, and uvicorn logs it with its trace.
        way.observed.refusals.labels(500).inc()
        refusal = api.Refusal(error="internal", message=type(error).__name__)
        return Response(refusal.model_dump_json(), status_code=500, media_type="application/json")

    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


async def _follow(way: Recommending) -> None:
    """Take up a new catalogue or a new deployment as it comes."""
    while True:
        try:
            way.deployed.refresh()
            await asyncio.to_thread(way.shops.refresh)
        except (OSError, ValueError, TypeError) as error:
            logger.warning("what is deployed cannot be read, the last state stays: %s", error)
        await asyncio.sleep(FOLLOW_S)


def _authorise(request: Request, expected: bytes | None) -> None:
    if expected is None:
        return
    given = request.headers.get("authorization", "").encode("latin-1")
    if not hmac.compare_digest(given, expected):
        refusal = api.Refusal(error="unauthorized", message="a bearer token is needed: Authorization: Bearer …")
        raise Refused(401, refusal, {"WWW-Authenticate": "Bearer"})


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        problem = api.Problem(field="body", problem=f"Content-Type is {kind[:80]!r}, not application/json")
        raise Refused(415, api.Refusal(error="unsupported_media_type", message=problem.problem, fields=[problem]))
    content, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                size += len(part)
                # A little more is read and thrown away, so that the client sees the answer and no reset connection.
                if size <= api.MAX_BODY_BYTES:
                    content += part
                elif size > MAX_DRAINED_BYTES:
                    break
    except TimeoutError:
        raise Refused(408, api.Refusal(error="timeout", message="the body did not arrive in time")) from None
    if size > api.MAX_BODY_BYTES:
        problem = api.Problem(field="body", problem=f"more than {api.MAX_BODY_BYTES} bytes")
        raise Refused(413, api.Refusal(error="too_large", message=str(problem.problem), fields=[problem]))
    return bytes(content)


_REFUSALS = {
    401: "A bearer token is needed",
    404: "Unknown request id or campaign",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is no application/json",
    422: "Which fields are wrong, and why",
    503: "Nothing to answer with yet; see Retry-After",
}


def _documented(request: type[Any], answer: type[Any], *refusals: int) -> dict[str, Any]:
    """What a route says of itself: bodies are parsed by `api.parse`, which can name the field of a body that is no JSON."""
    body = {"required": True, "content": {"application/json": {"schema": _reference(request)}}}
    codes = sorted({401, 408, 413, 415, 422, *refusals})
    return {
        "response_model": answer,
        "responses": {code: {"model": api.Refusal, "description": _REFUSALS[code]} for code in codes},
        "openapi_extra": {"requestBody": body, "security": [{}, {"bearer": []}]},
    }


def _reference(model: type[Any]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        requests = [(model, "validation") for model in (api.RecommendationRequest, api.ExposureRequest)]
        _, definitions = models_json_schema(requests, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
        schema["components"]["schemas"].update(definitions["$defs"])
        schema["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = schema
    return app.openapi_schema


def main() -> None:
    """Serve until a signal comes; what is in flight is finished first."""
    import uvicorn

    settings = config.of_environment()
    uvicorn.run(
        create(settings),
        host=settings.serving.host,
        port=settings.serving.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=15,
    )
