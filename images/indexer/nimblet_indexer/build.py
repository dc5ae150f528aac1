# SPDX-License-Identifier: Apache-2.0
"""One build: lists the sources, has their files read and handed over, seals, asks the gate, swaps, drops old ones.

Nothing that serves changes before the swap: whatever fails, the old generation answers on. The retriever decides
what must be embedded; a build that was cut off runs again from the start and finds its vectors there.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nimblet_egress.errors import SourceError
from nimblet_indexer.config import IndexerConfig, Source, SourceModel
from nimblet_indexer.golden import gate_request
from nimblet_indexer.handover import Counts, HandOver
from nimblet_indexer.outcome import BuildFailed, Outcome, from_retriever, from_source
from nimblet_indexer.pipeline import Job, Parsers, Read
from nimblet_indexer.progress import BuildProgress, Phase
from nimblet_indexer.report import (
    HASH_DIGITS,
    MAX_ERRORS,
    Failure,
    FileError,
    GateReport,
    Report,
    SourceReport,
    crossed,
)
from nimblet_indexer.retention import Ended, Kept, Store, plan_drops
from nimblet_indexer.retriever import RetrieverClient, RetrieverError
from nimblet_indexer.source.listing import Listing, SourceReader
from nimblet_indexer.source.readers import Readers

SEALED: Final = "GenerationSealed"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The report, and the reason where not all that was asked for was done."""

    report: Report
    failed: BuildFailed | None = None


@dataclass(kw_only=True)
class _Tally:
    """Counts of a source while it is read."""

    documents: int = 0
    refused: int = 0
    errors: list[FileError] = field(default_factory=list)
    hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def refuse(self, error: FileError) -> None:
        """Count a file that is left out; the first ones are told."""
        self.refused += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(error)

    def take(self, read: Read) -> None:
        """Count one file."""
        if read.refused is not None:
            self.refuse(read.refused)
            return
        self.documents += 1
        self.hash.update(f"{read.file.name}\0{read.digest}\0".encode())


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """A source with what it listed."""

    source: SourceModel
    reader: SourceReader
    listing: Listing


@dataclass(kw_only=True)
class Build:
    """A build under way; what it did is in `report` at any time."""

    config: IndexerConfig
    client: RetrieverClient
    readers: Readers
    progress: BuildProgress
    counts: Counts = field(default_factory=Counts)
    sources: list[SourceReport] = field(default_factory=list)
    errors: list[FileError] = field(default_factory=list)
    gate: GateReport | None = None
    served: bool = False

    def run(self) -> Ending:
        """Do all of it. Raises nothing that it knows: every failure is an ending."""
        try:
            self._run()
        except BuildFailed as failed:
            return Ending(report=self.report(failed), failed=failed)
        except RetrieverError as error:
            refused = from_retriever(error.reason, str(error))
            return Ending(report=self.report(refused), failed=refused)
        self.progress.enter(Phase.DONE)
        return Ending(report=self.report(None))

    def report(self, failed: BuildFailed | None) -> Report:
        """Return the report as of now."""
        error = None
        if failed is not None:
            error = Failure(reason=failed.reason.name, message=failed.message, source=failed.source)
        return Report(
            generation=self.config.generation,
            documents=sum(source.documents for source in self.sources),
            passages=self.counts.passages,
            embedded=self.counts.embedded,
            reused=self.counts.reused,
            sources=tuple(self.sources),
            refused=sum(source.refused for source in self.sources),
            errors=tuple(self.errors[:MAX_ERRORS]),
            gate=self.gate,
            served=self.served,
            error=error,
        )

    def _run(self) -> None:
        request = gate_request(self.config.gate) if self.config.gate is not None else None
        before = self.client.generations()
        done = any(item.name == self.config.generation and item.sealed for item in before.generations)
        if done:
            log.info("%s is complete already: an earlier try got so far", self.config.generation)
        else:
            self._fill()
        ended = self._judged(request)
        if ended is Ended.SERVED:
            self.progress.enter(Phase.SERVING)
            self.client.serve(self.config.generation)
            self.served = True
        self._drop(before.serving, ended)
        if ended is Ended.HELD_BY_GATE:
            raise self._gate_failed()

    def _fill(self) -> None:
        listed = [self._list(source) for source in self.config.sources]
        self.progress.listed(sum(len(item.listing.files) for item in listed))
        self.progress.enter(Phase.READING)
        with (
            HandOver(self.config, self.client, self.progress) as hand_over,
            Parsers(self.config, self.client.count) as parsers,
        ):
            self.counts = hand_over.counts
            hand_over.begin()
            for item in listed:
                self._read(item, parsers, hand_over)
            hand_over.finish()
            self._check_not_empty()
            self.progress.enter(Phase.SEALING)
            hand_over.seal()

    def _list(self, source: Source) -> _Listed:
        try:
            reader = self.readers.reader(source)
            listing = reader.list()
        except SourceError as error:
            raise from_source(error, source=source.name) from error
        except OSError as error:
            raise BuildFailed(
                Outcome.VolumeMissing,
                f"Expected the source's volume; it can't be read ({type(error).__name__}). Check the ConfigMap or "
                "claim and its permissions.",
                source=source.name,
            ) from error
        self._check_shrink(source, len(listing.files), "lists")
        log.info("%s: %d files, %d left out by name", source.name, len(listing.files), len(listing.refused))
        return _Listed(source=source, reader=reader, listing=listing)

    def _read(self, item: _Listed, parsers: Parsers, hand_over: HandOver) -> None:
        tally = _Tally()
        for refused in item.listing.refused:
            tally.refuse(refused)
        try:
            for read in parsers.read(Job(source=item.source, reader=item.reader, files=item.listing.files)):
                tally.take(read)
                hand_over.put(read.passages)
                self._tell(refused=read.refused is not None)
        except SourceError as error:
            raise from_source(error, source=item.source.name) from error
        self.errors += tally.errors
        self.sources.append(
            SourceReport(
                name=item.source.name,
                revision=item.reader.revision(item.listing),
                hash=tally.hash.hexdigest()[:HASH_DIGITS],
                documents=tally.documents,
                refused=tally.refused,
            )
        )
        self._check_shrink(item.source, tally.documents, "gave")

    def _check_shrink(self, source: SourceModel, now: int, verb: str) -> None:
        """Hold the swap where a source lost more than it may: emptied by mistake, it would empty the index."""
        before = source.previous_documents
        if before is None or now * 100 >= before * (100 - self.config.max_shrink):
            return
        raise BuildFailed(
            Outcome.SourceShrunk,
            f"Expected the source to have lost at most {self.config.max_shrink} % of {before} documents; it "
            f"{verb} {now}. Nothing was swapped. Check the source; if it is right so, raise maxShrinkPercent.",
            source=source.name,
        )

    def _check_not_empty(self) -> None:
        if self.counts.passages == 0:
            raise BuildFailed(
                Outcome.IndexEmpty,
                "Expected text in the sources; there is none to index. Check include and exclude, and the files "
                "that were left out.",
            )

    def _tell(self, *, refused: bool) -> None:
        before, after = self.progress.file(refused=refused)
        for percent in crossed(before, after):
            log.info("%d %%: %d of %d files, %d passages", percent, after.done, after.total, self.counts.passages)

    def _judged(self, request: Mapping[str, object] | None) -> Ended:
        if request is not None:
            self.progress.enter(Phase.GATING)
            gated = self.client.gate(self.config.generation, request)
            self.gate = GateReport.model_validate(gated.model_dump())
            if not gated.passed:
                return Ended.HELD_BY_GATE
        return Ended.SERVED if self.config.serve else Ended.HELD_BY_PIN

    def _drop(self, before: str | None, ended: Ended) -> None:
        if self.config.retain is None:
            return
        now = self.client.generations()
        store = Store(
            generations=[Kept(name=item.name, sealed=item.sealed) for item in now.generations],
            serving=now.serving,
            before=before,
            built=self.config.generation,
        )
        for name in plan_drops(store, ended, retain=self.config.retain):
            try:
                self.client.drop(name)
            except RetrieverError as error:  # what was built serves all the same; the next build drops it
                log.warning("%s was not dropped: %s: %s", name, error.reason, error)
            else:
                log.info("dropped %s", name)

    def _gate_failed(self) -> BuildFailed:
        gate = self.gate or GateReport(passed=False)
        return BuildFailed(
            Outcome.GateFailed,
            f"Expected the golden questions to reach their bounds; of {gate.asked}, recall is {gate.recall:.3f}, "
            f"MRR {gate.mrr:.3f}, nDCG {gate.ndcg:.3f}. The old generation serves on. See which questions fell; "
            "correct the documents, the questions or the bounds.",
        )
