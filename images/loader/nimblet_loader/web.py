# SPDX-License-Identifier: Apache-2.0
"""The connector for `https://host/path/file.gguf`: one file that a web server holds.

A web server has no commits, so the user's digest is the pin; without one nothing is fetched.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from nimblet_loader.client import Answer, Client
from nimblet_loader.connector import Body, Snapshot, Span, open_http, status_error
from nimblet_loader.contract import url_file_name
from nimblet_loader.errors import LoaderError, Reason, quoted
from nimblet_loader.selection import Entry
from nimblet_loader.target import parse_target


class WebConnector:
    """One URL; its only file is named by the end of its path."""

    def __init__(self, client: Client, *, uri: str) -> None:
        if "#" in uri:
            raise LoaderError(
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
                raise LoaderError(
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

        def explain(answer: Answer) -> LoaderError:
            return status_error(answer, what=quoted(path))

        with open_http(self._client, self._url, span=span, explain=explain) as (_, body):
            yield body
