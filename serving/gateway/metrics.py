"""Prometheus metrics of the gateway, whose labels hold nothing of a user."""

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Dense from 1 to 10 ms, where an answer with a model normally lies, up to ten default deadlines (250 ms)."""


class Metrics:
    """The metrics of one gateway process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.answers = Counter(
            "recommender_answers", "Answers to /v1/recommendations", ["variant", "model_version"], registry=registry
        )
        self.refusals = Counter("recommender_refusals", "Requests that were refused", ["status"], registry=registry)
        self.degraded = Counter("recommender_degraded", "Degraded answers", ["reason"], registry=registry)
        self.cold_starts = Counter("recommender_cold_starts", "Answers to unknown users", registry=registry)
        self.exposures = Counter("recommender_exposures", "Confirmed exposures", registry=registry)
        self.seconds = Histogram(
            "recommender_request_seconds", "Whole request", ["variant"], buckets=BUCKETS_S, registry=registry
        )
        self.store_seconds = Histogram(
            "recommender_store_seconds", "Online store read", buckets=BUCKETS_S, registry=registry
        )
        self.model_seconds = Histogram(
            "recommender_model_seconds", "TorchServe", ["variant"], buckets=BUCKETS_S, registry=registry
        )
        self.waiting_seconds = Histogram(
            "recommender_waiting_seconds",
            "From a request's first byte until it is handled: body, event loop",
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.failed_tokens = Counter(
            "recommender_failed_tokens", "Requests with a wrong token or none", registry=registry
        )
        self.shed_connections = Counter(
            "recommender_shed_connections", "Waiting connections closed in favour of new ones", registry=registry
        )
        self.in_flight = Gauge("recommender_in_flight", "Requests that are being handled", registry=registry)
        self.connections = Gauge("recommender_connections", "Open connections of clients", registry=registry)
        self.model_in_flight = Gauge(
            "recommender_model_in_flight", "Requests under way to a version", ["model_version"], registry=registry
        )
        self.model_limit = Gauge(
            "recommender_model_limit", "Most of them at present", ["model_version"], registry=registry
        )
        self.breaker_state = Gauge(
            "recommender_breaker_state",
            "Circuit breaker of a version: 0 closed, 1 half open, 2 open",
            ["model_version"],
            registry=registry,
        )
        self.version_sick = Gauge(
            "recommender_version_sick_seconds",
            "How long a version has been sick, 0 if it is well",
            ["model_version"],
            registry=registry,
        )
        self.model_failures = Counter(
            "recommender_model_failures",
            "Requests that a version did not answer",
            ["model_version", "reason"],
            registry=registry,
        )
        self.feature_age = Gauge("recommender_feature_age_seconds", "Age of the features last used", registry=registry)

    def forget(self, model_version: str) -> None:
        """Drop the state of a version that is not deployed any more."""
        for gauge in (self.breaker_state, self.version_sick):
            with contextlib.suppress(KeyError):
                gauge.remove(model_version)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
