# SPDX-License-Identifier: Apache-2.0
"""The retriever's Prometheus metrics, in a registry of their own. Labels are fixed words: no name, text or key."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from nimblet_retriever.status import Contents, PushStatus

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds; a search of some thousand passages takes a few milliseconds, a model on a CPU up to seconds."""


class Metrics:
    """All of them. `registry` holds this process's memory and CPU, too."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "nimblet_retriever_requests",
            "Requests by route and outcome: ok, or the reason of the error.",
            ["route", "reason"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "nimblet_retriever_request_seconds",
            "Time of a request, from its headers to its answer.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.stages = Histogram(
            "nimblet_retriever_stage_seconds",
            "Time of a stage of a question: embed, search, rerank.",
            ["stage"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.fallbacks = Counter(
            "nimblet_retriever_rerank_fallbacks",
            "Questions answered in the search's own order because the reranker failed.",
            ["reason"],
            registry=self.registry,
        )
        self._store_up = self._gauge("nimblet_index_store_up", "1 where the store answers.")
        self._chunks = self._gauge("nimblet_index_chunks", "Chunks of the serving generation.")
        self._documents = self._gauge("nimblet_index_documents", "Documents of the serving generation.")
        self._generation = self._gauge("nimblet_index_generation", "Number of the serving generation, 0 without.")
        self._indexed = self._gauge(
            "nimblet_index_last_indexed_seconds",
            "Unix time at which the serving generation was complete; the lag is time() minus this.",
        )
        self._free = self._gauge("nimblet_index_free_bytes", "Free on the store's volume, where it is known.")
        self._pushed = self._gauge("nimblet_index_pushed_documents", "Documents that were pushed and stand.")

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    def holds(self, contents: Contents, pushes: PushStatus) -> None:
        """Set the gauges of an index."""
        served = contents.served
        counts = served.counts if served is not None else None
        self._store_up.set(1)
        self._chunks.set(counts.chunks if counts is not None else 0)
        self._documents.set(counts.documents if counts is not None else 0)
        self._generation.set(int(served.name.removeprefix("g")) if served is not None else 0)
        indexed = (served.notes.sealed_at or served.notes.served_at) if served is not None else None
        self._indexed.set(indexed.timestamp() if indexed is not None else 0)
        self._pushed.set(pushes.documents)
        if contents.room.free is not None:
            self._free.set(contents.room.free)

    def store_down(self) -> None:
        """Tell that the store does not answer; the other gauges stay as they were last."""
        self._store_up.set(0)

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)
