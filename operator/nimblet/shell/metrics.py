# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of the operator, in a registry of their own. Labels never carry names or user text."""

from collections import Counter as Count
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from nimblet.cluster.mirror import OWN_KINDS, Mirror
from nimblet.cluster.observed import IndexedObject, conditions_of
from nimblet.shell.queue import Queue

BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: a pass without writes takes about ten milliseconds, one that asks a pod up to its patience."""


class Metrics:
    """The counters that the loop itself moves; everything else is read when scraped."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconcile_seconds = Histogram(
            "nimblet_reconcile_duration_seconds",
            "Time of one reconcile pass.",
            ["kind"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.reconcile_errors = Counter(
            "nimblet_reconcile_errors_total",
            "Reconcile passes that raised, by the error's class.",
            ["kind", "error"],
            registry=self.registry,
        )
        self.writes = Counter(
            "nimblet_writes_total",
            "Requests that changed the cluster.",
            ["verb", "kind"],
            registry=self.registry,
        )
        self.resyncs = Counter(
            "nimblet_resyncs_total", "Full reads of the cluster, by outcome.", ["outcome"], registry=self.registry
        )
        self.leader = Gauge("nimblet_leader", "1 while this process holds the lease.", registry=self.registry)

    def wrote(self, verb: str, kind: str) -> None:
        """Count one write: verb is apply, delete or status."""
        self.writes.labels(verb=verb, kind=kind).inc()


@dataclass(frozen=True, kw_only=True, eq=False)
class StateCollector(Collector):
    """Reads the queue's and the mirror's state at the time of the scrape."""

    queue: Queue
    mirror: Mirror
    clock: Callable[[], float]
    resync_age: Callable[[], float | None]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauges; called by the registry."""
        yield GaugeMetricFamily("nimblet_queue_depth", "Keys that wait for a turn.", value=self.queue.depth)
        yield GaugeMetricFamily(
            "nimblet_queue_oldest_seconds",
            "Age of the key that waits longest.",
            value=self.queue.oldest_age(self.clock()),
        )
        age = self.resync_age()
        if age is not None:
            yield GaugeMetricFamily(
                "nimblet_resync_age_seconds", "Seconds since the last finished resync.", value=age
            )
        yield self._sizes()
        yield self._conditions()
        yield self._indexed()

    def _sizes(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("nimblet_mirror_objects", "Objects in memory.", labels=["kind"])
        for kind, size in sorted(self.mirror.sizes().items()):
            family.add_metric([kind], size)
        return family

    def _conditions(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "nimblet_conditions", "Resources by condition and status.", labels=["kind", "type", "status"]
        )
        for (kind, type_, status), count in sorted(self.conditions().items()):
            family.add_metric([kind, type_, status], count)
        return family

    def _indexed(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "nimblet_index_last_indexed_timestamp_seconds",
            "When the last good build of an index began; the time since then is its lag.",
            labels=["namespace", "name"],
        )
        for body in self.mirror.of_kind("RetrievalIndex"):
            found = IndexedObject.model_validate(body)
            if found.status.last_indexed_time is not None:
                names = [found.metadata.namespace, found.metadata.name]
                family.add_metric(names, found.status.last_indexed_time.timestamp())
        return family

    def conditions(self) -> Mapping[tuple[str, str, str], int]:
        """Return the number of our resources by kind, condition type and status."""
        counted: Count[tuple[str, str, str]] = Count()
        for kind in OWN_KINDS:
            for body in self.mirror.of_kind(kind):
                counted.update((kind, item.type, item.status) for item in conditions_of(body))
        return counted
