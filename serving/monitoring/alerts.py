"""The alerts on the gateway's metrics, in the order of their metrics.

The thresholds are chosen by hand from the default settings (deadline 250 ms, `segment_s` 5, `backlog_mib` 1024,
`max_feature_age_s` eight days, `events.wait_ms` 1000).
"""

from serving.monitoring.listed import Alert

ALERTS = (
    Alert(
        "RecommendationsSlow",
        on="recommender_request_seconds",
        expression="histogram_quantile(0.99, sum by (le) (rate(recommender_request_seconds_bucket[5m]))) > 0.5",
        minutes=5,
        severity="page",
        action="Compare store, model and waiting seconds: the largest says which part is slow.",
    ),
    Alert(
        "GatewayQueues",
        on="recommender_waiting_seconds",
        expression="histogram_quantile(0.99, sum by (le) (rate(recommender_waiting_seconds_bucket[5m]))) > 0.1",
        minutes=5,
        severity="ticket",
        action="The event loop is busy or clients send slowly. Add replicas or gateway processes.",
    ),
    Alert(
        "GatewayOverloaded",
        on="recommender_refusals_total",
        expression=(
            'sum(rate(recommender_refusals_total{status="503"}[5m])) > 0.05 * '
            "(sum(rate(recommender_answers_total[5m])) + "
            'sum(rate(recommender_refusals_total{status="503"}[5m])))'
        ),
        minutes=5,
        severity="page",
        action="Add replicas. If the load is as usual, look for a slow model or store first.",
    ),
    Alert(
        "GatewayFails",
        on="recommender_refusals_total",
        expression='sum(increase(recommender_refusals_total{status="500"}[5m])) > 0',
        minutes=0,
        severity="ticket",
        action="An error of the software: find its traceback in the gateway's log.",
    ),
    Alert(
        "AnswersDegraded",
        on="recommender_degraded_total",
        expression=(
            "sum by (reason) (rate(recommender_degraded_total[5m])) > scalar(0.05 * "
            "sum(rate(recommender_answers_total[5m])))"
        ),
        minutes=5,
        severity="page",
        action="The label `reason` names the cause: see Degraded answers.",
    ),
    Alert(
        "NoLiveCampaign",
        on="recommender_empty_answers_total",
        expression='sum(rate(recommender_empty_answers_total{reason="no_live_campaign"}[5m])) > 0',
        minutes=10,
        severity="page",
        action="No campaign's window contains now. Check the source's campaigns and the last run's time.",
    ),
    Alert(
        "FeaturesOld",
        on="recommender_feature_age_seconds",
        expression="max(recommender_feature_age_seconds) > 691200",
        minutes=10,
        severity="ticket",
        action="Materialisation has not run for eight days: look at the training pipeline.",
    ),
    Alert(
        "ConnectionsShed",
        on="recommender_shed_connections_total",
        expression="sum(rate(recommender_shed_connections_total[5m])) > 1",
        minutes=5,
        severity="ticket",
        action="More clients than max_connections, or one that opens connections and sends nothing.",
    ),
    Alert(
        "TokensFail",
        on="recommender_failed_tokens_total",
        expression="sum(rate(recommender_failed_tokens_total[5m])) > 1",
        minutes=5,
        severity="ticket",
        action="The log line `wrong token` names the peer: a client with an old token, or one who guesses.",
    ),
    Alert(
        "VersionSick",
        on="recommender_version_sick_seconds",
        expression="max by (model_version) (recommender_version_sick_seconds) > 30",
        minutes=0,
        severity="page",
        action="/readyz names the problem. A canary is ended by itself. For a champion: recommender rollback.",
    ),
    Alert(
        "DecisionsLost",
        on="recommender_decision_log_lost_total",
        expression="sum(increase(recommender_decision_log_lost_total[5m])) > 0",
        minutes=0,
        severity="page",
        action="The buffer is full because the disk takes nothing: free or replace the replica's disk.",
    ),
    Alert(
        "DecisionLogStalled",
        on="recommender_decision_log_stalled_seconds",
        expression="max(recommender_decision_log_stalled_seconds) > 5",
        minutes=1,
        severity="page",
        action="The disk is full or hangs. Answers go on, marked decision_log, until the buffer is full.",
    ),
    Alert(
        "DecisionsNotShipped",
        on="recommender_decision_log_shipping_lag_seconds",
        expression="max(recommender_decision_log_shipping_lag_seconds) > 60",
        minutes=5,
        severity="ticket",
        action="The shared folder is away or slow. Segments wait on the replica's disk up to backlog_mib.",
    ),
    Alert(
        "EventsRejected",
        on="recommender_events_rejected_total",
        expression=(
            "sum(rate(recommender_events_rejected_total[15m])) > "
            "0.05 * (sum(rate(recommender_events_rejected_total[15m])) + "
            "sum(rate(recommender_events_accepted_total[15m])))"
        ),
        minutes=15,
        severity="ticket",
        action="The label `field` names what is wrong. A sender changed: its events are lost until it is put right.",
    ),
    Alert(
        "EventsQuarantined",
        on="recommender_events_quarantined_total",
        expression=(
            "sum(rate(recommender_events_quarantined_total[15m])) > "
            "0.05 * (sum(rate(recommender_events_quarantined_total[15m])) + "
            "sum(rate(recommender_events_accepted_total[15m])))"
        ),
        minutes=15,
        severity="ticket",
        action="The label `field` names what is unknown. Materialise users, items and campaigns: recommender refresh.",
    ),
    Alert(
        "EventTailsLong",
        on="recommender_events_quarantined_total",
        expression='sum(increase(recommender_events_quarantined_total{field="tail"}[15m])) > 0',
        minutes=0,
        severity="ticket",
        action="A user has too many events since the last materialisation. Is refresh late, or is that user a robot?",
    ),
    Alert(
        "EventsRefused",
        on="recommender_events_refused_total",
        expression="sum(rate(recommender_events_refused_total[5m])) > 0.05",
        minutes=5,
        severity="page",
        action="The disk of the log or the online store takes nothing. Senders keep their events and send them again.",
    ),
    Alert(
        "EventsLate",
        on="recommender_event_stage_seconds",
        expression=(
            "histogram_quantile(0.99, "
            'sum by (le) (rate(recommender_event_stage_seconds_bucket{stage="stored"}[5m]))) > 0.5'
        ),
        minutes=10,
        severity="ticket",
        action="Compare the stages checked, logged and stored: the disk or the online store is slow.",
    ),
    Alert(
        "ForgottenListUnreadable",
        on="recommender_forgotten_list_unreadable",
        expression="max(recommender_forgotten_list_unreadable) > 0",
        minutes=1,
        severity="page",
        action="Gateways that start now let nobody in. The gateway's log and /readyz say what to do with the file.",
    ),
)
