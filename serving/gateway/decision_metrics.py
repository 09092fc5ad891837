"""Metrics of the decision log: what waits for the disk, what was lost, and what is not shipped yet."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from recommender.decisions.log import DecisionLog
from serving.monitoring.metrics import METRICS


class DecisionMetrics(Collector):
    """Reads the state of a decision log at each scrape, without touching a disk."""

    def __init__(self, log: DecisionLog) -> None:
        self.log = log

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        writer, backlog, name = self.log.writer, self.log.backlog, "recommender_decision_log"
        lost = f"{name}_lost_total"
        yield CounterMetricFamily(lost.removesuffix("_total"), METRICS[lost].meaning, value=writer.lost)
        for metric, value in (
            (f"{name}_waiting", writer.waiting),
            (f"{name}_stalled_seconds", writer.stalled_s()),
            (f"{name}_backlog_segments", backlog.segments),
            (f"{name}_backlog_bytes", backlog.num_bytes),
            (f"{name}_shipping_lag_seconds", backlog.lag_s()),
        ):
            yield GaugeMetricFamily(metric, METRICS[metric].meaning, value=value)
