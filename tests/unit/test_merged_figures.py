"""Metrics of several gateway processes as one: totals add up and never fall, gauges are sums or the largest."""

from prometheus_client.parser import text_string_to_metric_families

from serving.answer import Health
from serving.gateway.metrics import Metrics
from serving.gateway.processes.merged import Figures, health


def process(answers: int, seconds: float, *, in_flight: int, breaker: int) -> Figures:
    metrics = Metrics()
    metrics.answers.labels("champion", "v1").inc(answers)
    metrics.seconds.labels("champion").observe(seconds)
    metrics.in_flight.set(in_flight)
    metrics.breaker_state.labels("v1").set(breaker)
    return Figures.unpacked(Figures.of(metrics.registry).packed())


def read(figures: Figures) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples as Prometheus reads them, by name and labels."""
    families = text_string_to_metric_families(figures.text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_totals_and_buckets_are_added_and_gauges_are_summed_or_the_largest() -> None:
    whole = Figures()
    whole.add(process(3, 0.002, in_flight=2, breaker=0))
    whole.add(process(4, 0.2, in_flight=5, breaker=2))
    found = read(whole)
    champion = ("variant", "champion")
    assert found["recommender_answers_total", (("model_version", "v1"), champion)] == 7
    assert found["recommender_request_seconds_count", (champion,)] == 2
    assert found["recommender_request_seconds_sum", (champion,)] == 0.202
    assert found["recommender_request_seconds_bucket", (("le", "0.1"), champion)] == 1
    assert found["recommender_request_seconds_bucket", (("le", "+Inf"), champion)] == 2
    assert found["recommender_in_flight", ()] == 7
    assert found["recommender_breaker_state", (("model_version", "v1"),)] == 2


def test_one_process_alone_is_written_as_prometheus_client_writes_it() -> None:
    metrics = Metrics()
    metrics.answers.labels("canary", "v2").inc()
    metrics.connections.set(9)
    whole = Figures()
    whole.add(Figures.of(metrics.registry))
    parsed = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }
    assert read(whole) == parsed


def test_of_a_process_that_ended_only_the_totals_stay() -> None:
    counted = Figures()
    counted.add(process(3, 0.002, in_flight=2, breaker=2), only_totals=True)
    counted.add(process(1, 0.002, in_flight=0, breaker=0))
    found = read(counted)
    assert found["recommender_answers_total", (("model_version", "v1"), ("variant", "champion"))] == 4
    assert found["recommender_in_flight", ()] == 0
    assert found["recommender_breaker_state", (("model_version", "v1"),)] == 0


def test_a_gateway_is_as_ready_as_the_worst_of_the_processes_that_serve() -> None:
    model, popular = ({"answers": answers, "versions": {}} for answers in ("model", "popular"))
    both = health([Health(status="ready", details=model), Health(status="draining", details=popular)], wanted=3)
    assert (both.status, both.details["answers"]) == ("draining", "popular")
    assert both.details["processes"] == {"wanted": 3, "serving": 2}
    one = health([Health(status="ready", details=model)], wanted=3)
    assert (one.status, one.details["answers"]) == ("ready", "model")
    none = health([], wanted=3)
    assert none.status != "ready"
    assert none.details["answers"] == "nothing"
