# SPDX-License-Identifier: Apache-2.0
"""Reads the files of a source in order, several at a time. Memory is bounded by those under way.

A file that can't be read becomes a refusal; only what is wrong with the source itself is raised.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from typing import Self

from nimblet_indexer.config import IndexerConfig, SourceModel
from nimblet_indexer.document import FileRefused, Refusal
from nimblet_indexer.parse.worker import Limits, ParsedFile, ParserProcess
from nimblet_indexer.passage import Budget, CountTokens, plan_passages
from nimblet_indexer.report import FileError
from nimblet_indexer.source.listing import SourceFile, SourceReader, refusal

THREADS_PER_PARSER = 2
"""While one file is being parsed, another's tokens are counted or its bytes fetched."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Read:
    """What became of one file."""

    file: SourceFile
    digest: str = ""
    passages: tuple[dict[str, object], ...] = ()
    refused: FileError | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A source and what reads it."""

    source: SourceModel
    reader: SourceReader
    files: Sequence[SourceFile]


class Parsers:
    """As many parser processes as the configuration says, each used by one thread at a time."""

    def __init__(self, config: IndexerConfig, count: CountTokens) -> None:
        limits = Limits(
            file_bytes=config.limits.file_bytes,
            memory_bytes=config.limits.memory_bytes,
            seconds=config.limits.seconds,
        )
        self._budget = Budget(tokens=config.chunking.tokens, overlap=config.chunking.overlap)
        self._count = count
        self._all = [ParserProcess(limits) for _ in range(config.parsers)]
        self._free: SimpleQueue[ParserProcess] = SimpleQueue()
        for parser in self._all:
            self._free.put(parser)
        self._workers = THREADS_PER_PARSER * config.parsers
        self._threads = ThreadPoolExecutor(max_workers=self._workers, thread_name_prefix="read")

    def __enter__(self) -> Self:
        """Processes start with their first file."""
        return self

    def __exit__(self, *_: object) -> None:
        """End threads and processes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for parser in self._all:
            parser.__exit__()

    def read(self, job: Job) -> Iterator[Read]:
        """Yield files in order, while the next few are being read."""
        rest = iter(job.files)
        running: deque[Future[Read]] = deque()
        for file in islice(rest, 2 * self._workers):
            running.append(self._threads.submit(self._one, job, file))
        while running:
            yield running.popleft().result()
            for file in islice(rest, 1):
                running.append(self._threads.submit(self._one, job, file))

    def _one(self, job: Job, file: SourceFile) -> Read:
        try:
            parsed = self._parsed(job.reader, file)
        except FileRefused as refused:
            return _left_out(job.source, file, refused)
        except OSError as error:
            message = f"it can't be read ({type(error).__name__}); check its permissions"
            return _left_out(job.source, file, FileRefused(Refusal.UNREADABLE, message))
        document = parsed.document
        passages = plan_passages(document, name=file.name, budget=self._budget, count=self._count)
        return Read(
            file=file,
            digest=parsed.sha256,
            passages=tuple(
                {
                    "document": file.document,
                    "position": passage.position,
                    "text": passage.text,
                    "embedded": passage.embedded,
                    "source": job.source.name,
                    "title": document.title or file.name,
                    "location": passage.location,
                    "labels": dict(job.source.labels),
                    "access": list(job.source.access),
                }
                for passage in passages
            ),
        )

    def _parsed(self, reader: SourceReader, file: SourceFile) -> ParsedFile:
        with reader.fetch(file) as fetched:
            parser = self._free.get()
            try:
                return parser.parse(fetched.path, name=fetched.parse_as)
            finally:
                self._free.put(parser)


def _left_out(source: SourceModel, file: SourceFile, refused: FileRefused) -> Read:
    log.warning("%s: %s: %s", file.document, refused.reason, refused.message)
    return Read(file=file, refused=refusal(source, file.name, refused))
