# SPDX-License-Identifier: Apache-2.0
"""The connector for `https://host/path/file.gguf`: one file that a web server holds.

A web server has no commits, so the user's digest is the pin; without one nothing is fetched.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from nimblet_egress.client import Answer, Client
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.status import status_error
from nimblet_egress.target import parse_target
from nimblet_loader.connector import Body, Snapshot, Span, open_http
from nimblet_loader.contract import url_file_name
from nimblet_loader.selection import Entry


class WebConnector:
    """One URL; its only file is named by the end of its path."""

    def __init__(self, client: Client, *, uri: str) -> None:
        if "#" in uri:
            raise SourceError(
                Reason.ConfigInvalid, "Expected a URL without a fragment; found one with '#'. Remove it."
            )
        self._client = client
        self._url = uri
        self._shown = parse_target(uri).shown
        self.file = url_file_name(uri)

    def snapshot(self) -> Snapshot:
        """Ask for the first byte, which tells the size."""
        with self.open(self.file, commit="", span=Span(0, 1)) as body:
            if body.total is None:
                raise SourceError(
                    Reason.UnexpectedResponse,
                    f"Expected {self._shown} to tell the file's length; it does not. Use a server that does.",
                )
            return Snapshot(None, (Entry(self.file, body.total, None),))

    def measure(self, entry: Entry) -> Entry:
        """Return the entry as it is: a web server tells no digest."""
        return entry

    @contextmanager
    def open(self, path: str, *, commit: str, span: Span) -> Iterator[Body]:  # noqa: ARG002 - a URL has none
        """Open the file."""

        def explain(answer: Answer) -> SourceError:
            return status_error(answer, what=quoted(path))

        with open_http(self._client, self._url, span=span, explain=explain) as (_, body):
            yield body
