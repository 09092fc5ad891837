"""HTTP gateway: validates requests, enforces the deadline, logs every decision."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Protocol

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope

from recommender import logs
from recommender.decisions.log import DecisionLog, LogFull, UnknownRequest
from recommender.events.log import EventLog
from recommender.settings import Settings
from recommender.storage.forgotten import ForgottenFollower
from recommender.storage.home import Home, ServingState
from serving.answer import READY, EventsTaken, Exposure, Health, Recommendations, Refusal
from serving.deployed import Follower
from serving.engines.choice import open_engine
from serving.event_tails.tails import open_tails
from serving.gateway import openapi, tracing
from serving.gateway.arrival import Arrival, arrival_of
from serving.gateway.decision_metrics import DecisionMetrics
from serving.gateway.events import EventIntake
from serving.gateway.folding import Folding
from serving.gateway.front import EVENTS, EXPOSURES, RECOMMENDATIONS, Front
from serving.gateway.health import HealthServer
from serving.gateway.hot import Answered, Application
from serving.gateway.intake import read_body
from serving.gateway.isolation import STATES, Isolation
from serving.gateway.metrics import Metrics
from serving.gateway.model import Model
from serving.gateway.readiness import Readiness
from serving.gateway.recommendations import Recommender, Unavailable
from serving.gateway.refusals import Refused, refusal_of, unavailable
from serving.gateway.request_log import RequestLog
from serving.gateway.tokens import Tokens
from serving.online_store.client import OnlineStoreClient
from serving.request import ExposureRequest, InvalidRequest, OneOrMoreEvents, RecommendationRequest, parse
from serving.shop import ShopFollower

log = logs.get(__name__)
FOLLOW_S = 0.2
"""Seconds between looks at the deployed versions and at the catalogue. A look is two `stat` calls. By hand."""


class Whole(Protocol):
    """All processes of a gateway together, where there are several: what the probes and Prometheus ask about."""

    async def health(self) -> Health:
        """The body of /readyz."""

    async def figures(self) -> bytes:
        """The body of /metrics."""


def create(settings: Settings, whole: Whole | None = None) -> FastAPI:
    """The gateway's application, which starts without store, model or catalogue and follows them as they come.

    Args:
        settings: The settings of this process.
        whole: What answers /readyz and /metrics. None: this process is all there is.
    """
    gateway = Gateway(settings)
    asked = whole or gateway

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # What was loaded stays for good, so the collector need not walk over it in the middle of a request.
        gc.collect()
        gc.freeze()
        gateway.decisions.start()
        gateway.event_log.start()
        tracing.start()
        watching = (gateway.follow(), gateway.front.watch(), gateway.versions.watch())
        tasks = [asyncio.create_task(one) for one in watching]
        health = gateway.health_server()
        yield
        if health is not None:
            health.stop()
        for task in tasks:
            task.cancel()
        gateway.close()

    app = Application(
        failed=gateway.failed,
        title="Campaign recommendations",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect's address would be made of whatever Host the client sent
    )
    app.state.gateway, app.state.front, app.state.decisions = gateway, gateway.front, gateway.decisions
    app.add_middleware(RequestLog)

    @app.post(RECOMMENDATIONS, **openapi.documented(RecommendationRequest, Recommendations, 503))
    async def recommend(request: Request) -> Response:
        """Recommend campaigns to a user, ranked, with items and reasons."""
        return (await app.hot[RECOMMENDATIONS](request.scope, request.receive)).response()

    @app.post(EXPOSURES, **openapi.documented(ExposureRequest, Exposure, 404, 503))
    async def expose(request: Request) -> Response:
        """Confirm that an answer was shown to its user."""
        return (await app.hot[EXPOSURES](request.scope, request.receive)).response()

    @app.post(EVENTS, status_code=202, **openapi.documented(OneOrMoreEvents, EventsTaken, 503))
    async def take_events(request: Request) -> Response:
        """Take one event, or a batch. What is counted in the answer cannot be lost any more."""
        return (await app.hot[EVENTS](request.scope, request.receive)).response()

    app.hot = {
        RECOMMENDATIONS: partial(gateway.guarded, gateway.recommend),
        EXPOSURES: partial(gateway.guarded, gateway.expose),
        EVENTS: partial(gateway.guarded, gateway.events.take, status=202),
    }

    @app.get("/healthz", response_model=Health)
    async def healthz() -> Response:
        """The gateway's process is alive."""
        return Answered(200, b'{"status":"alive","details":{}}').response()

    @app.get("/readyz", response_model=Health, responses={503: {"model": Health, "description": "Not ready"}})
    async def readyz() -> Response:
        """This replica can answer. `details` says with what, and how each version is."""
        health = await asked.health()
        return Answered(200 if health.status == READY else 503, health.model_dump_json().encode()).response()

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(await asked.figures(), media_type="text/plain; version=0.0.4")

    @app.exception_handler(HTTPException)
    async def not_found(_: Request, error: HTTPException) -> Response:
        names = {404: "not_found", 405: "method_not_allowed"}
        gateway.metrics.refusals.labels(error.status_code).inc()
        refusal = Refusal(error=names.get(error.status_code, "refused"), message=str(error.detail))
        return Refused(error.status_code, refusal, dict(error.headers or {})).answered().response()

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        # Starlette raises the error again behind this answer, and uvicorn logs it with its traceback.
        return gateway.failed(error).response()

    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    return app


class Gateway:
    """State and handlers that the routes share."""

    def __init__(self, settings: Settings) -> None:
        self.serving = settings.serving
        self.metrics = Metrics()
        self.tokens = Tokens(settings.serving.token_rate_per_s, self.metrics)
        self.front = Front(settings.serving, self.tokens, self.metrics)
        self.shops = ShopFollower(settings)
        self.forgotten = ForgottenFollower(Home.of(settings))
        self.deployed = Follower(ServingState.of(settings).root)
        self.online_store = OnlineStoreClient.open(settings)
        self.event_tails, self.event_log = open_tails(settings), EventLog.of(settings)
        self.folding = Folding(settings, self.online_store)
        self.engine = open_engine(settings, self.front.turns.arrived_s)
        self.decisions = DecisionLog.of(settings)
        self.model = Model(settings=settings, deployed=self.deployed, engine=self.engine, metrics=self.metrics)
        self.front.room = self.model.room
        self.versions = Isolation(settings=settings, deployed=self.deployed, model=self.model, metrics=self.metrics)
        self.readiness = Readiness(settings, self.shops, self.versions, self.front, self.forgotten)
        self.metrics.registry.register(DecisionMetrics(self.decisions))
        self.recommender = Recommender(
            settings=settings,
            shops=self.shops,
            deployed=self.deployed,
            online_store=self.online_store,
            versions=self.versions,
            decisions=self.decisions,
            metrics=self.metrics,
            folding=self.folding,
            forgotten=self.forgotten,
        )
        self.events = EventIntake(
            settings=settings,
            shops=self.shops,
            online_store=self.online_store,
            tails=self.event_tails,
            log=self.event_log,
            folding=self.folding,
            metrics=self.metrics,
            forgotten=self.forgotten,
        )

    async def guarded(
        self,
        answer: Callable[[bytes, Arrival], Awaitable[bytes]],
        scope: Scope,
        receive: Receive,
        *,
        status: int = 200,
    ) -> Answered:
        """The answer to a request's body, or the refusal of whatever is wrong with the request."""
        arrival = arrival_of(scope)
        if arrival is None:
            # Not over a connection of this server, which decides by the head before anything is handled.
            arrival = Arrival(deadline_s=self.front.deadline_s)
            if (refused_directly := self.front.decide(dict(scope))) is not None:
                return Answered(refused_directly.status, b"")
        try:
            body = await read_body(scope["headers"], arrival, receive)
            self.metrics.waiting_seconds.observe(arrival.waited_s())
            return Answered(status, await answer(body, arrival))
        except (InvalidRequest, UnknownRequest) as error:
            refused = refusal_of(error)
        except Refused as error:
            refused = error
        self.metrics.refusals.labels(refused.status).inc()
        return refused.answered()

    def failed(self, error: Exception) -> Answered:
        """The answer where nobody foresaw what went wrong."""
        self.metrics.refusals.labels(500).inc()
        return Refused(500, Refusal(error="internal", message=type(error).__name__)).answered()

    async def recommend(self, body: bytes, arrival: Arrival) -> bytes:
        """The answer to /v1/recommendations."""
        try:
            return await self.recommender.recommend(parse(RecommendationRequest, body), arrival)
        except Unavailable:
            raise unavailable(self.readiness.nothing()) from None

    async def expose(self, body: bytes, arrival: Arrival) -> bytes:
        """The answer to /v1/exposures."""
        shown = parse(ExposureRequest, body)
        campaigns = None if shown.campaign_ids is None else tuple(shown.campaign_ids)
        try:
            await self.decisions.expose_async(shown.request_id, campaigns)
        except (OSError, LogFull) as error:
            problem = getattr(error, "strerror", None) or "the decision log is late"
            raise unavailable(f"the exposure could not be recorded ({problem})") from None
        logs.bind(request_id=shown.request_id)
        self.metrics.exposures.inc()
        return Exposure(request_id=shown.request_id).model_dump_json().encode()

    async def health(self) -> Health:
        """The body of /readyz."""
        now = self.deployed.current
        details = {
            "champion": now.champion,
            "canary": now.canary,
            "former": now.former,
            "failed": now.failed,
            "answers": self.readiness.answers,
            "forgotten_list": self.forgotten.problem,
            "versions": self.versions.described(),
        }
        return Health(status=self.readiness.problem() or READY, details=details)

    def health_server(self) -> HealthServer | None:
        """The started server of the health port, where the settings name one."""
        if self.serving.health_port is None:
            return None
        server = HealthServer(self.serving, self.front, self.health, self.figures)
        server.start()
        return server

    async def figures(self) -> bytes:
        """The body of /metrics. It may run in another thread than the event loop's."""
        return self.observed().text()

    def observed(self) -> Metrics:
        """The metrics, with what is true only at this moment."""
        self.metrics.forgotten_unreadable.set(float(self.forgotten.problem is not None))
        self.metrics.in_flight.set(self.front.in_flight)
        self.metrics.connections.set(len(self.front.connections))
        deployed = self.deployed.current.versions
        # A version that is not deployed any more is shown until its last request is answered.
        limiters = {
            version: limiter
            for version, limiter in list(self.model.limiters.items())
            if version in deployed or limiter.in_flight
        }
        self.metrics.keep({*deployed, *limiters})
        for version, limiter in limiters.items():
            self.metrics.model_in_flight.labels(version).set(limiter.in_flight)
            self.metrics.model_limit.labels(version).set(limiter.limit(self.front.deadline_s))
        now_s = time.monotonic()
        for version, breaker in list(self.versions.breakers.items()):
            if version not in deployed:
                continue
            sick_s = 0.0 if breaker.sick_since_s is None else now_s - breaker.sick_since_s
            self.metrics.breaker_state.labels(version).set(STATES[breaker.state])
            self.metrics.version_sick.labels(version).set(sick_s)
        return self.metrics

    async def follow(self) -> None:
        """Load each new catalogue and each new deployment."""
        while True:
            try:
                await self.engine.follow()
                self.deployed.refresh()
                await asyncio.to_thread(self._look)
            except (OSError, ValueError, TypeError) as error:
                log.warning("deployed versions cannot be read, the last state stays", problem=str(error))
            await asyncio.sleep(FOLLOW_S)

    def _look(self) -> None:
        # Both together, because a thread that is woken costs more than the look itself.
        self.forgotten.refresh()
        self.shops.refresh()
        self.readiness.refresh()
        self.folding.refresh()

    def close(self) -> None:
        """Release connections, threads and files."""
        self.engine.close()
        self.online_store.close()
        self.decisions.close()
        self.event_log.close()
        self.event_tails.close()
        tracing.stop()
