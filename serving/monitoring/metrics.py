"""Every metric of the gateway. A new metric is an entry here, and `Metrics` makes it by its name.

Labels hold nothing of a user. The alerts on the metrics stand in `serving.monitoring.alerts`.
"""

from serving.monitoring.listed import Listed, counter, gauge, histogram

REQUESTS = (
    counter("recommender_answers_total", "answers to /v1/recommendations", "variant", "model_version"),
    histogram("recommender_request_seconds", "from a request's first byte to its answer", "variant"),
    histogram(
        "recommender_waiting_seconds", "queue wait: from a request's first byte until it is handled (body, event loop)"
    ),
    histogram("recommender_store_seconds", "one read of the online store"),
    histogram("recommender_model_seconds", "one question to the scoring engine, answered or not", "variant"),
    counter(
        "recommender_refusals_total", "requests that were refused; status 499 counts clients that hung up", "status"
    ),
    counter("recommender_degraded_total", "degraded answers", "reason"),
    counter(
        "recommender_empty_answers_total",
        "answers without a campaign: no_live_campaign (none is live now), no_candidate (none for this request)",
        "reason",
    ),
    counter("recommender_cold_starts_total", "answers to users who are not in the store"),
    counter("recommender_exposures_total", "confirmed exposures"),
    gauge("recommender_feature_age_seconds", "age of the features last used"),
)
CLIENTS = (
    gauge("recommender_in_flight", "requests that are being handled", summed=True),
    gauge("recommender_connections", "open connections of clients", summed=True),
    counter("recommender_shed_connections_total", "waiting connections closed in favour of new ones"),
    counter("recommender_failed_tokens_total", "requests with a wrong token or none"),
)
VERSIONS = (
    gauge("recommender_model_in_flight", "requests under way to a version", "model_version", summed=True),
    gauge("recommender_model_limit", "most of them at present", "model_version", summed=True),
    counter("recommender_model_failures_total", "requests that a version did not answer", "model_version", "reason"),
    gauge("recommender_breaker_state", "circuit breaker of a version: 0 closed, 1 half open, 2 open", "model_version"),
    gauge("recommender_version_sick_seconds", "how long a version has been sick, 0 if it is well", "model_version"),
)
DECISION_LOG = (
    counter("recommender_decision_log_lost_total", "decisions and events that were not recorded"),
    gauge("recommender_decision_log_waiting", "decisions and events that wait for the disk", summed=True),
    gauge("recommender_decision_log_stalled_seconds", "how long the disk has not taken the present batch"),
    gauge("recommender_decision_log_backlog_segments", "closed segments that are not shipped yet"),
    gauge("recommender_decision_log_backlog_bytes", "bytes of closed segments that are not shipped yet"),
    gauge(
        "recommender_decision_log_shipping_lag_seconds", "how long the oldest closed segment has waited to be shipped"
    ),
)
EVENTS = (
    counter("recommender_events_accepted_total", "events that the next answer knows"),
    counter("recommender_events_rejected_total", "events that break the contract, by the first wrong field", "field"),
    counter(
        "recommender_events_quarantined_total",
        "events that are kept and do not count yet, by the field that is unknown; tail: too many events of one user",
        "field",
    ),
    counter("recommender_events_refused_total", "requests with events that were answered 503: nothing was taken"),
    histogram(
        "recommender_event_age_seconds", "from an event's own time to the moment at which the next answer knows it"
    ),
    histogram(
        "recommender_event_stage_seconds",
        "from the first byte of a request with events until they are checked, logged (synced) and stored",
        "stage",
    ),
    histogram("recommender_event_fold_seconds", "folding the events of one user into the row that was read"),
)
FORGOTTEN = (
    gauge("recommender_forgotten_list_unreadable", "1 while the list of forgotten users cannot be read, else 0"),
)
GROUPS: dict[str, tuple[Listed, ...]] = {
    "Requests": REQUESTS,
    "Clients": CLIENTS,
    "Versions": VERSIONS,
    "Decision log": DECISION_LOG,
    "Events": EVENTS,
    "Forgotten users": FORGOTTEN,
}
METRICS = {metric.name: metric for group in GROUPS.values() for metric in group}
