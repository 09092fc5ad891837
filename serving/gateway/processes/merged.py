"""What several gateway processes say about themselves, as one: metrics and readiness."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from serving.answer import READY, Health
from serving.monitoring.metrics import METRICS

ANSWERS = ("nothing", "popular", "model")
"""From worst to best: clients may reach any process, so what the worst one answers with is what they can rely on."""
Key = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and labels."""


@dataclass
class Figures:
    """Samples by family: `families` holds kind and meaning, `samples` the values."""

    families: dict[str, tuple[str, str]] = field(default_factory=dict)
    samples: dict[str, dict[Key, float]] = field(default_factory=dict)

    def add(self, other: "Figures", *, only_totals: bool = False) -> None:
        """Add what another process counted, and its state too unless `only_totals`."""
        for family, (kind, meaning) in other.families.items():
            is_total = kind in ("counter", "histogram")
            if only_totals and not is_total:
                continue
            self.families[family] = (kind, meaning)
            known = self.samples.setdefault(family, {})
            for key, value in other.samples[family].items():
                if key not in known:
                    known[key] = value
                elif is_total or METRICS[family].summed:
                    known[key] += value
                else:
                    known[key] = max(known[key], value)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(_Fixed(self))
        return generate_latest(registry)

    def packed(self) -> bytes:
        """For another process."""
        samples = {
            family: [[name, labels, value] for (name, labels), value in found.items()]
            for family, found in self.samples.items()
        }
        return orjson.dumps({"families": self.families, "samples": samples})

    @classmethod
    def unpacked(cls, content: bytes) -> "Figures":
        """What another process packed."""
        document: dict[str, Any] = orjson.loads(content)
        return cls(
            {family: (kind, meaning) for family, (kind, meaning) in document["families"].items()},
            {
                family: {(name, tuple((key, text) for key, text in labels)): value for name, labels, value in found}
                for family, found in document["samples"].items()
            },
        )

    @classmethod
    def of(cls, registry: CollectorRegistry) -> "Figures":
        """What one process counts in a registry."""
        figures = cls()
        for metric in registry.collect():
            figures.families[metric.name] = (metric.type, metric.documentation)
            figures.samples[metric.name] = {
                (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value) for sample in metric.samples
            }
        return figures


class _Fixed(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        for family, (kind, meaning) in self._figures.families.items():
            metric = Metric(family, meaning, kind)
            for (name, labels), value in self._figures.samples[family].items():
                metric.add_sample(name, dict(labels), value)
            yield metric


def health(found: Iterable[Health], *, wanted: int) -> Health:
    """The health of a gateway whose serving processes say this of themselves.

    One that does not serve yet, or not any more, gets no request, so it does not count as long as another one serves.
    """
    each = list(found)
    processes = {"wanted": wanted, "serving": len(each)}
    if not each:
        return Health(status="no gateway process serves", details={"answers": ANSWERS[0], "processes": processes})
    worst = min(each, key=lambda one: ANSWERS.index(one.details["answers"]))
    status = next((one.status for one in each if one.status != READY), READY)
    return Health(status=status, details={**worst.details, "processes": processes})
