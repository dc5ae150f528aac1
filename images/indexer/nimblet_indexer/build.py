# SPDX-License-Identifier: Apache-2.0
"""One build: lists the sources, parses and cuts files in parallel, hands passages over in batches, seals.

A file that can't be read is reported and left out. The retriever decides what must be embedded; a build that was
cut off runs again from the start and finds its vectors there. Memory is bounded by the files under way.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from typing import Final, Self

from nimblet_indexer.config import FolderSource, IndexerConfig
from nimblet_indexer.document import FileRefused
from nimblet_indexer.parse.worker import Limits, ParserProcess
from nimblet_indexer.passage import Budget, plan_passages
from nimblet_indexer.report import FileError, Progress, Report, SourceReport, crossed
from nimblet_indexer.retriever import Begun, RetrieverClient
from nimblet_indexer.source.folder import SourceFile, list_files

BATCH: Final = 64
"""Passages in one request: enough to keep an embedding server busy, little to do again after a failure."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What became of one file."""

    file: SourceFile
    digest: str = ""
    passages: tuple[dict[str, object], ...] = ()
    refused: FileError | None = None


@dataclass(kw_only=True)
class _Tally:
    """Counts of a source while it is read."""

    documents: int = 0
    errors: list[FileError] = field(default_factory=list)
    hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def take(self, read: _Read) -> None:
        """Count one file."""
        if read.refused is not None:
            self.errors.append(read.refused)
            return
        self.documents += 1
        self.hash.update(f"{read.file.name}\0{read.digest}\0".encode())


def run_build(config: IndexerConfig, client: RetrieverClient) -> Report:
    """Build and seal one generation. OSError when a source is not there, RetrieverError as the client says."""
    listed = [(source, list_files(source)) for source in config.sources]
    total = sum(len(files) for _, files in listed)
    begun = client.begin(config.generation, config.token)
    build = _Build(config=config, client=client, begun=begun, total=total)
    with _Parsers(config) as parsers:
        reports = tuple(build.source(source, parsers.read(source, files, client)) for source, files in listed)
    client.seal(begun, config.token)
    return Report(
        generation=config.generation,
        documents=sum(report.documents for report in reports),
        passages=build.passages,
        embedded=build.embedded,
        reused=build.reused,
        sources=reports,
        refused=sum(report.refused for report in reports),
        errors=tuple(build.errors),
    )


@dataclass(kw_only=True)
class _Build:
    """A build under way."""

    config: IndexerConfig
    client: RetrieverClient
    begun: Begun
    total: int
    done: int = 0
    passages: int = 0
    embedded: int = 0
    reused: int = 0
    errors: list[FileError] = field(default_factory=list)

    def source(self, source: FolderSource, files: Iterator[_Read]) -> SourceReport:
        """Hand over all of one source."""
        tally = _Tally()
        waiting: list[dict[str, object]] = []
        for read in files:
            tally.take(read)
            waiting += read.passages
            while len(waiting) >= BATCH:
                self._hand_over(waiting[:BATCH])
                waiting = waiting[BATCH:]
            self._tell()
        if waiting:
            self._hand_over(waiting)
        self.errors += tally.errors
        return SourceReport(
            name=source.name, hash=tally.hash.hexdigest(), documents=tally.documents, refused=len(tally.errors)
        )

    def _hand_over(self, batch: Sequence[dict[str, object]]) -> None:
        added = self.client.add(self.begun, self.config.token, batch)
        self.passages += len(batch)
        self.embedded += added.embedded
        self.reused += added.reused

    def _tell(self) -> None:
        before = Progress(done=self.done, total=self.total)
        self.done += 1
        for percent in crossed(before, Progress(done=self.done, total=self.total)):
            log.info("%d %%: %d of %d files, %d passages", percent, self.done, self.total, self.passages)


class _Parsers:
    """As many parser processes as the configuration says, each used by one thread at a time."""

    def __init__(self, config: IndexerConfig) -> None:
        limits = Limits(
            file_bytes=config.limits.file_bytes,
            memory_bytes=config.limits.memory_bytes,
            seconds=config.limits.seconds,
        )
        self._budget = Budget(tokens=config.chunking.tokens, overlap=config.chunking.overlap)
        self._all = [ParserProcess(limits) for _ in range(config.parsers)]
        self._free: SimpleQueue[ParserProcess] = SimpleQueue()
        for parser in self._all:
            self._free.put(parser)
        self._threads = ThreadPoolExecutor(max_workers=config.parsers, thread_name_prefix="parse")

    def __enter__(self) -> Self:
        """Processes start with their first file."""
        return self

    def __exit__(self, *_: object) -> None:
        """End threads and processes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for parser in self._all:
            parser.__exit__()

    def read(self, source: FolderSource, files: Sequence[SourceFile], client: RetrieverClient) -> Iterator[_Read]:
        """Yield files in order, while the next few are being parsed."""
        ahead = 2 * len(self._all)
        rest = iter(files)
        running = [self._threads.submit(self._one, source, file, client) for file in islice(rest, ahead)]
        while running:
            yield running.pop(0).result()
            running += [self._threads.submit(self._one, source, file, client) for file in islice(rest, 1)]

    def _one(self, source: FolderSource, file: SourceFile, client: RetrieverClient) -> _Read:
        parser = self._free.get()
        try:
            parsed = parser.parse(file.path, name=file.name)
        except FileRefused as refused:
            log.warning("%s: %s: %s", file.document, refused.reason, refused.message)
            return _Read(
                file=file,
                refused=FileError(file=file.document, reason=refused.reason, message=refused.message),
            )
        except OSError as error:
            message = f"it can't be read ({type(error).__name__}); check its permissions"
            return _Read(file=file, refused=FileError(file=file.document, reason="Unreadable", message=message))
        finally:
            self._free.put(parser)
        passages = plan_passages(parsed.document, name=file.name, budget=self._budget, count=client.count)
        return _Read(
            file=file,
            digest=parsed.sha256,
            passages=tuple(
                {
                    "document": file.document,
                    "position": passage.position,
                    "text": passage.text,
                    "embedded": passage.embedded,
                    "source": source.name,
                    "title": parsed.document.title or file.name,
                    "location": passage.location,
                    "labels": dict(source.labels),
                    "access": list(source.access),
                }
                for passage in passages
            ),
        )
