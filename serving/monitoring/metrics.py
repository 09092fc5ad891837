"""Every metric of the gateway, with its alerts. A new metric is an entry here, and `Metrics` makes it by its name.

The thresholds are chosen by hand from the default settings (deadline 250 ms, `segment_s` 5, `backlog_mib` 1024,
`max_feature_age_s` eight days). Labels hold nothing of a user.
"""

from serving.monitoring.listed import Alert, Listed

REQUESTS = (
    Listed(
        name="recommender_answers_total",
        kind="counter",
        meaning="answers to /v1/recommendations",
        labels=("variant", "model_version"),
    ),
    Listed(
        name="recommender_request_seconds",
        kind="histogram",
        meaning="from a request's first byte to its answer",
        labels=("variant",),
        alerts=(
            Alert(
                name="RecommendationsSlow",
                expression="histogram_quantile(0.99, sum by (le) (rate(recommender_request_seconds_bucket[5m]))) > 0.5",
                minutes=5,
                severity="page",
                action="Compare store, model and waiting seconds: the largest says which part is slow.",
            ),
        ),
    ),
    Listed(
        name="recommender_waiting_seconds",
        kind="histogram",
        meaning="queue wait: from a request's first byte until it is handled (body, event loop)",
        alerts=(
            Alert(
                name="GatewayQueues",
                expression="histogram_quantile(0.99, sum by (le) (rate(recommender_waiting_seconds_bucket[5m]))) > 0.1",
                minutes=5,
                severity="ticket",
                action="The event loop is busy or clients send slowly. Add replicas or gateway processes.",
            ),
        ),
    ),
    Listed(name="recommender_store_seconds", kind="histogram", meaning="one read of the online store"),
    Listed(
        name="recommender_model_seconds",
        kind="histogram",
        meaning="one question to the scoring engine, answered or not",
        labels=("variant",),
    ),
    Listed(
        name="recommender_refusals_total",
        kind="counter",
        meaning="requests that were refused; status 499 counts clients that hung up",
        labels=("status",),
        alerts=(
            Alert(
                name="GatewayOverloaded",
                expression='sum(rate(recommender_refusals_total{status="503"}[5m])) > 0.05 * '
                "(sum(rate(recommender_answers_total[5m])) + "
                'sum(rate(recommender_refusals_total{status="503"}[5m])))',
                minutes=5,
                severity="page",
                action="Add replicas. If the load is as usual, look for a slow model or store first.",
            ),
            Alert(
                name="GatewayFails",
                expression='sum(increase(recommender_refusals_total{status="500"}[5m])) > 0',
                minutes=0,
                severity="ticket",
                action="An error of the software: find its traceback in the gateway's log.",
            ),
        ),
    ),
    Listed(
        name="recommender_degraded_total",
        kind="counter",
        meaning="degraded answers",
        labels=("reason",),
        alerts=(
            Alert(
                name="AnswersDegraded",
                expression="sum by (reason) (rate(recommender_degraded_total[5m])) > "
                "scalar(0.05 * sum(rate(recommender_answers_total[5m])))",
                minutes=5,
                severity="page",
                action="The label `reason` names the cause: see Degraded answers.",
            ),
        ),
    ),
    Listed(
        name="recommender_empty_answers_total",
        kind="counter",
        meaning="answers without a campaign: no_live_campaign (none is live now), no_candidate (none for this request)",
        labels=("reason",),
        alerts=(
            Alert(
                name="NoLiveCampaign",
                expression='sum(rate(recommender_empty_answers_total{reason="no_live_campaign"}[5m])) > 0',
                minutes=10,
                severity="page",
                action="No campaign's window contains now. Check the source's campaigns and the last run's time.",
            ),
        ),
    ),
    Listed(name="recommender_cold_starts_total", kind="counter", meaning="answers to users who are not in the store"),
    Listed(name="recommender_exposures_total", kind="counter", meaning="confirmed exposures"),
    Listed(
        name="recommender_feature_age_seconds",
        kind="gauge",
        meaning="age of the features last used",
        alerts=(
            Alert(
                name="FeaturesOld",
                expression="max(recommender_feature_age_seconds) > 691200",
                minutes=10,
                severity="ticket",
                action="Materialisation has not run for eight days: look at the training pipeline.",
            ),
        ),
    ),
)
CLIENTS = (
    Listed(name="recommender_in_flight", kind="gauge", meaning="requests that are being handled", summed=True),
    Listed(name="recommender_connections", kind="gauge", meaning="open connections of clients", summed=True),
    Listed(
        name="recommender_shed_connections_total",
        kind="counter",
        meaning="waiting connections closed in favour of new ones",
        alerts=(
            Alert(
                name="ConnectionsShed",
                expression="sum(rate(recommender_shed_connections_total[5m])) > 1",
                minutes=5,
                severity="ticket",
                action="More clients than max_connections, or one that opens connections and sends nothing.",
            ),
        ),
    ),
    Listed(
        name="recommender_failed_tokens_total",
        kind="counter",
        meaning="requests with a wrong token or none",
        alerts=(
            Alert(
                name="TokensFail",
                expression="sum(rate(recommender_failed_tokens_total[5m])) > 1",
                minutes=5,
                severity="ticket",
                action="The log line `wrong token` names the peer: a client with an old token, or one who guesses.",
            ),
        ),
    ),
)
VERSIONS = (
    Listed(
        name="recommender_model_in_flight",
        kind="gauge",
        meaning="requests under way to a version",
        labels=("model_version",),
        summed=True,
    ),
    Listed(
        name="recommender_model_limit",
        kind="gauge",
        meaning="most of them at present",
        labels=("model_version",),
        summed=True,
    ),
    Listed(
        name="recommender_model_failures_total",
        kind="counter",
        meaning="requests that a version did not answer",
        labels=("model_version", "reason"),
    ),
    Listed(
        name="recommender_breaker_state",
        kind="gauge",
        meaning="circuit breaker of a version: 0 closed, 1 half open, 2 open",
        labels=("model_version",),
    ),
    Listed(
        name="recommender_version_sick_seconds",
        kind="gauge",
        meaning="how long a version has been sick, 0 if it is well",
        labels=("model_version",),
        alerts=(
            Alert(
                name="VersionSick",
                expression="max by (model_version) (recommender_version_sick_seconds) > 30",
                minutes=0,
                severity="page",
                action="/readyz names the problem. A canary is ended by itself. For a champion: recommender rollback.",
            ),
        ),
    ),
)
_LOG = "recommender_decision_log"
DECISION_LOG = (
    Listed(
        name=f"{_LOG}_lost_total",
        kind="counter",
        meaning="decisions and events that were not recorded",
        alerts=(
            Alert(
                name="DecisionsLost",
                expression=f"sum(increase({_LOG}_lost_total[5m])) > 0",
                minutes=0,
                severity="page",
                action="The buffer is full because the disk takes nothing: free or replace the replica's disk.",
            ),
        ),
    ),
    Listed(name=f"{_LOG}_waiting", kind="gauge", meaning="decisions and events that wait for the disk", summed=True),
    Listed(
        name=f"{_LOG}_stalled_seconds",
        kind="gauge",
        meaning="how long the disk has not taken the present batch",
        alerts=(
            Alert(
                name="DecisionLogStalled",
                expression=f"max({_LOG}_stalled_seconds) > 5",
                minutes=1,
                severity="page",
                action="The disk is full or hangs. Answers go on, marked decision_log, until the buffer is full.",
            ),
        ),
    ),
    Listed(name=f"{_LOG}_backlog_segments", kind="gauge", meaning="closed segments that are not shipped yet"),
    Listed(name=f"{_LOG}_backlog_bytes", kind="gauge", meaning="bytes of closed segments that are not shipped yet"),
    Listed(
        name=f"{_LOG}_shipping_lag_seconds",
        kind="gauge",
        meaning="how long the oldest closed segment has waited to be shipped",
        alerts=(
            Alert(
                name="DecisionsNotShipped",
                expression=f"max({_LOG}_shipping_lag_seconds) > 60",
                minutes=5,
                severity="ticket",
                action="The shared folder is away or slow. Segments wait on the replica's disk up to backlog_mib.",
            ),
        ),
    ),
)
EVENTS = (
    Listed(name="recommender_events_accepted_total", kind="counter", meaning="events that the next answer knows"),
    Listed(
        name="recommender_events_rejected_total",
        kind="counter",
        meaning="events that break the contract, by the first wrong field",
        labels=("field",),
    ),
    Listed(
        name="recommender_events_quarantined_total",
        kind="counter",
        meaning="events that are kept and do not count yet, by the field that is unknown",
        labels=("field",),
    ),
    Listed(
        name="recommender_event_age_seconds",
        kind="histogram",
        meaning="from an event's own time to the moment at which the next answer knows it",
    ),
    Listed(
        name="recommender_event_stage_seconds",
        kind="histogram",
        meaning="from the first byte of a request with events until they are checked, logged (synced) and stored",
        labels=("stage",),
    ),
    Listed(
        name="recommender_event_fold_seconds",
        kind="histogram",
        meaning="folding the events of one user into the row that was read",
    ),
)
GROUPS = {
    "Requests": REQUESTS,
    "Clients": CLIENTS,
    "Versions": VERSIONS,
    "Decision log": DECISION_LOG,
    "Events": EVENTS,
}
METRICS = {metric.name: metric for group in GROUPS.values() for metric in group}
