# SPDX-License-Identifier: Apache-2.0
"""Makes the reader of a source, with its own client and its own credential. Wires; decides nothing."""

from collections.abc import Sequence

from nimblet_egress.bucket import s3_endpoint
from nimblet_egress.client import Client
from nimblet_egress.credentials import Credentials, read_credentials
from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.target import parse_target
from nimblet_indexer.config import Credentials as Mounted
from nimblet_indexer.config import Egress, FolderSource, GitSource, S3Source, Source
from nimblet_indexer.source.download import Tools
from nimblet_indexer.source.folder import FolderReader
from nimblet_indexer.source.listing import SourceReader
from nimblet_indexer.source.s3 import S3Reader
from nimblet_indexer.source.web import WebReader

NOBODY = Credentials(None, ())


class Readers:
    """The readers of a build's sources. Close it when the build has ended."""

    def __init__(self, egress: Egress, tools: Tools) -> None:
        self._egress, self._tools = egress, tools
        self._clients: list[Client] = []
        self._secrets: list[str] = []

    @property
    def secrets(self) -> Sequence[str]:
        """Return what must not occur in any output."""
        return tuple(self._secrets)

    def reader(self, source: Source) -> SourceReader:
        """Return a source's reader. SourceError when its credential can't be read."""
        if isinstance(source, FolderSource):
            return FolderReader(source, self._tools.limits)
        credentials = self._credentials(source)
        if isinstance(source, GitSource):
            # dulwich takes a quarter of the program's start, which other sources need not pay
            from nimblet_indexer.source.git import GitReader  # noqa: PLC0415

            return GitReader(source, self._egress, credentials, self._tools)
        client = Client(self._egress, credentials)
        self._clients.append(client)
        if isinstance(source, S3Source):
            return S3Reader(source, self._egress.s3, client, self._tools)
        return WebReader(source, client, self._tools)

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()

    def _credentials(self, source: Source) -> Credentials:
        mounted: Mounted | None = None if isinstance(source, FolderSource) else source.credentials
        if mounted is None:
            return NOBODY
        scheme = "s3" if isinstance(source, S3Source) else None
        required = not isinstance(source, GitSource)
        found = read_credentials(mounted.folder, hosts=mounted.hosts, required=required, scheme=scheme)
        if isinstance(source, GitSource) and found.token is None and found.login is None:
            raise SourceError(
                Reason.ConfigInvalid,
                "Expected the referenced Secret to have `username` and `password`, or a `token`; it has neither. "
                "Add them to the Secret.",
            )
        self._secrets += found.secrets
        if isinstance(source, S3Source):
            _require_named(parse_target(s3_endpoint(self._egress.s3)).authority, mounted)
        return found


def _require_named(authority: str, mounted: Mounted) -> None:
    """Refuse a Secret for another service, which would be asked without a key and say no more than 403."""
    if authority not in mounted.hosts and authority.partition(":")[0] not in mounted.hosts:
        raise SourceError(
            Reason.AccessDenied,
            f"Expected the Secret to name {authority}, the administrator's S3 service, among its hosts; it does "
            "not. Add it to the Secret's annotation nimblet.dev/hosts.",
        )
