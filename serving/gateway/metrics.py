"""Prometheus metrics of the gateway, made from the list in `serving.monitoring.metrics`."""

import contextlib
from collections.abc import Collection

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from serving.monitoring.listed import Kind, Listed
from serving.monitoring.metrics import METRICS

BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Dense from 1 to 10 ms, where an answer with a model normally lies, up to ten default deadlines (250 ms)."""

# Without this each counter has a second series `…_created`, which is not listed and which nothing reads.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one gateway process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = self._counter("recommender_answers_total")
        self.refusals = self._counter("recommender_refusals_total")
        self.degraded = self._counter("recommender_degraded_total")
        self.empty_answers = self._counter("recommender_empty_answers_total")
        self.cold_starts = self._counter("recommender_cold_starts_total")
        self.exposures = self._counter("recommender_exposures_total")
        self.events_accepted = self._counter("recommender_events_accepted_total")
        self.events_rejected = self._counter("recommender_events_rejected_total")
        self.events_quarantined = self._counter("recommender_events_quarantined_total")
        self.events_refused = self._counter("recommender_events_refused_total")
        self.event_age = self._histogram("recommender_event_age_seconds")
        self.event_stage = self._histogram("recommender_event_stage_seconds")
        self.event_fold = self._histogram("recommender_event_fold_seconds")
        self.seconds = self._histogram("recommender_request_seconds")
        self.store_seconds = self._histogram("recommender_store_seconds")
        self.model_seconds = self._histogram("recommender_model_seconds")
        self.waiting_seconds = self._histogram("recommender_waiting_seconds")
        self.failed_tokens = self._counter("recommender_failed_tokens_total")
        self.shed_connections = self._counter("recommender_shed_connections_total")
        self.forgotten_unreadable = self._gauge("recommender_forgotten_list_unreadable")
        self.in_flight = self._gauge("recommender_in_flight")
        self.connections = self._gauge("recommender_connections")
        self.model_in_flight = self._gauge("recommender_model_in_flight")
        self.model_limit = self._gauge("recommender_model_limit")
        self.breaker_state = self._gauge("recommender_breaker_state")
        self.version_sick = self._gauge("recommender_version_sick_seconds")
        self.model_failures = self._counter("recommender_model_failures_total")
        self.feature_age = self._gauge("recommender_feature_age_seconds")

    def keep(self, versions: Collection[str]) -> None:
        """Drop the state of every version but these: a gauge would show the last value of one that is gone."""
        for gauge in (self.model_in_flight, self.model_limit, self.breaker_state, self.version_sick):
            shown = {sample.labels["model_version"] for family in gauge.collect() for sample in family.samples}
            for gone in shown.difference(versions):
                # Two threads may ask for the figures at once, and the other one may be first.
                with contextlib.suppress(KeyError):
                    gauge.remove(gone)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str) -> Counter:
        listed = _listed(name, "counter")
        return Counter(name.removesuffix("_total"), listed.meaning, listed.labels, registry=self.registry)

    def _gauge(self, name: str) -> Gauge:
        listed = _listed(name, "gauge")
        return Gauge(name, listed.meaning, listed.labels, registry=self.registry)

    def _histogram(self, name: str) -> Histogram:
        listed = _listed(name, "histogram")
        return Histogram(name, listed.meaning, listed.labels, buckets=BUCKETS_S, registry=self.registry)


def _listed(name: str, kind: Kind) -> Listed:
    listed = METRICS[name]
    assert listed.kind == kind, f"{name} is listed as a {listed.kind}"
    return listed
