# SPDX-License-Identifier: Apache-2.0
"""Objects of a bucket as a source. What an object holds is hashed as it is read; its ETag only tells of change."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nimblet_egress.bucket import Bucket
from nimblet_egress.client import Client
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.policy import S3Policy
from nimblet_egress.retry import with_retries
from nimblet_indexer.config import S3Source
from nimblet_indexer.document import FileRefused, Refusal
from nimblet_indexer.source.download import Tools, check_size, save, scratch_file
from nimblet_indexer.source.listing import Chooser, Fetched, Listing, SourceFile

_OK = 200


class S3Reader:
    """All objects below a prefix."""

    def __init__(self, source: S3Source, policy: S3Policy, client: Client, tools: Tools) -> None:
        folder = source.prefix.strip("/")
        self._prefix = f"{folder}/" if folder else ""
        self._source, self._client, self._tools = source, client, tools
        self._bucket = Bucket(client, policy, name=source.bucket, asked=self._prefix)

    def list(self) -> Listing:
        """List the bucket."""
        return with_retries(self._listed, self._tools.pace)

    @contextmanager
    def fetch(self, file: SourceFile) -> Iterator[Fetched]:
        """Download an object."""
        check_size(file.size or 0, self._tools.limits)
        with scratch_file(self._tools.scratch) as path:
            with_retries(lambda: self._download(file, path), self._tools.pace)
            yield Fetched(path=path, parse_as=file.name)

    def revision(self, listing: Listing) -> str:
        """Return the hash of the listing."""
        return listing.revision

    def _listed(self) -> Listing:
        chooser = Chooser(source=self._source, most=self._tools.limits.source_files)
        digest = hashlib.sha256()
        for item in self._bucket.objects():
            if chooser.offer(item.key.removeprefix(self._prefix), place=item.key, size=item.size):
                digest.update(f"{item.key}\0{item.tag}\0".encode())
        return chooser.listing(f"etags:{digest.hexdigest()[:16]}")

    def _download(self, file: SourceFile, path: Path) -> None:
        url = self._bucket.url(file.place)
        try:
            with self._client.get(url, sign=self._bucket.sign) as answer:
                if answer.last.status != _OK:
                    raise self._bucket.error(answer, f"{quoted(file.name)} of {self._bucket.shown}")
                save(answer, path, self._tools)
        except SourceError as error:
            if error.reason is Reason.FileNotFound:
                raise FileRefused(Refusal.NOT_FOUND, "it was deleted while it was to be read") from error
            if error.reason is Reason.AccessDenied:
                raise FileRefused(
                    Refusal.ACCESS_DENIED, "the access key may not read it; grant s3:GetObject"
                ) from error
            raise
