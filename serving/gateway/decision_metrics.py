"""Metrics of the decision log: what waits for the disk, what was lost, and what is not shipped yet."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from recommender.decisions.log import DecisionLog


class DecisionMetrics(Collector):
    """Reads the state of a decision log at each scrape, without touching a disk."""

    def __init__(self, log: DecisionLog) -> None:
        self.log = log

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        writer, backlog, name = self.log.writer, self.log.backlog, "recommender_decision_log"
        yield CounterMetricFamily(f"{name}_lost", "Decisions and events that were not recorded", value=writer.lost)
        for metric, meaning, value in (
            ("waiting", "Decisions and events that wait for the disk", writer.waiting),
            ("stalled_seconds", "How long the disk has not taken the present batch", writer.stalled_s()),
            ("backlog_segments", "Closed segments that are not shipped yet", backlog.segments),
            ("backlog_bytes", "Bytes of closed segments that are not shipped yet", backlog.num_bytes),
            ("shipping_lag_seconds", "How long the oldest closed segment has waited to be shipped", backlog.lag_s()),
        ):
            yield GaugeMetricFamily(f"{name}_{metric}", meaning, value=value)
