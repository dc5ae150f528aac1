# SPDX-License-Identifier: Apache-2.0
"""A repository as a source: its files are brought whole by a limited process, then read one by one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nimblet_egress.credentials import Credentials
from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.retry import with_retries
from nimblet_indexer.config import Egress, GitSource
from nimblet_indexer.limited import Died, Work, run_limited
from nimblet_indexer.source.download import Tools
from nimblet_indexer.source.gitfetch import GitFailed, GitJob, fetch_tree
from nimblet_indexer.source.listing import Fetched, Listing, SourceFile


class GitReader:
    """One revision of a repository."""

    def __init__(self, source: GitSource, egress: Egress, credentials: Credentials, tools: Tools) -> None:
        self._source, self._egress, self._credentials, self._tools = source, egress, credentials, tools

    def list(self) -> Listing:
        """Fetch the revision."""
        return with_retries(self._fetched, self._tools.pace)

    @contextmanager
    def fetch(self, file: SourceFile) -> Iterator[Fetched]:
        """Give the file where the fetch laid it."""
        path = Path(file.place)
        yield Fetched(path=path, parse_as=file.name)
        path.unlink(missing_ok=True)

    def revision(self, listing: Listing) -> str:
        """Return the commit."""
        return listing.revision

    def _fetched(self) -> Listing:
        limits = self._tools.limits
        job = GitJob(
            source=self._source,
            egress=self._egress,
            limits=limits,
            credentials=self._credentials,
            folder=Path(tempfile.mkdtemp(dir=self._tools.scratch.resolve(), prefix=f"{self._source.name}-")),
        )
        work = Work(
            function=fetch_tree, argument=job, memory_bytes=limits.memory_bytes, seconds=limits.fetch_seconds
        )
        try:
            result = run_limited(work)
        except Died as error:
            raise SourceError(
                Reason.FileTooLarge,
                f"Expected to fetch the repository within the limits of time and memory; {error}. "
                "Give a smaller one, or ask for larger limits.",
            ) from error
        if isinstance(result, GitFailed):
            raise SourceError(result.reason, result.message, retry_after=result.retry_after)
        return result
