# SPDX-License-Identifier: Apache-2.0
"""Removes what a deleted RetrievalIndex left on a Qdrant server of the user's: its own collections, no other's.

Collections are named by the resource's uid, so that nobody else's can be meant. A resource that is still there
keeps its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final
from uuid import UUID

import aiohttp
from pydantic import BaseModel, StringConstraints, ValidationError

from nimblet.cli.errors import CommandError
from nimblet.cluster.client import Client
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.resources import RETRIEVAL_INDEX

OK: Final = 200
REFUSALS: Final = frozenset({401, 403})
TIMEOUT_SECONDS: Final = 60.0
QDRANT_PORT: Final = 6333
"""Where a server is asked whose address names no port: as the retriever does."""
_OWN: Final = r"-(g[0-9]{6}-[a-z0-9]{1,32}|push(-[0-9a-f]{16})?)"
"""What follows the uid: a generation's build, or pushed documents (the retriever's store)."""


class _Collection(BaseModel):
    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]


class _Collections(BaseModel):
    collections: list[_Collection]


class _Answer(BaseModel):
    """The part of a server's list that counts."""

    result: _Collections


@dataclass(frozen=True, kw_only=True)
class Server:
    """A Qdrant server and its key."""

    url: str
    key: str | None = field(default=None, repr=False)

    @property
    def base(self) -> str:
        """The address with its port."""
        found = re.fullmatch(r"(https?://[^/:]+)(:[0-9]+)?(/.*)?", self.url.rstrip("/"))
        if found is None:
            raise CommandError(f"expected http(s)://HOST[:PORT] for --url, found {self.url!r}")
        return f"{found[1]}{found[2] or f':{QDRANT_PORT}'}{found[3] or ''}"


def parse_uid(text: str) -> str:
    """Return a resource's uid as Kubernetes writes it."""
    try:
        return str(UUID(text))
    except ValueError as error:
        raise CommandError(
            f"expected the uid of the deleted RetrievalIndex for --uid, found {text!r}; the names of its "
            "collections begin with it"
        ) from error


def own_collections(uid: str, names: Sequence[str]) -> list[str]:
    """Return the names that only the resource with this uid gives to collections."""
    own = re.compile(re.escape(uid) + _OWN)
    return sorted(name for name in names if own.fullmatch(name))


async def check_deleted(client: Client, uid: str, *, namespace: str) -> None:
    """CommandError while the resource is there: its collections are in use."""
    async for body in client.list(RETRIEVAL_INDEX, namespace=namespace):
        metadata = metadata_of(body)
        if metadata.uid == uid:
            raise CommandError(
                f"RetrievalIndex {metadata.name} of namespace {namespace} has this uid and uses its collections; "
                "delete it first"
            )


async def purge(server: Server, uid: str, *, confirmed: bool) -> str:
    """Delete the collections, or tell which would be. Again changes nothing."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    headers = {"api-key": server.key} if server.key is not None else {}
    try:
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            text = await _answered(session, "GET", f"{server.base}/collections")
            found = own_collections(uid, _names(text))
            if confirmed:
                for name in found:
                    await _answered(session, "DELETE", f"{server.base}/collections/{name}")
    except TimeoutError as error:
        raise CommandError(
            f"expected an answer of {server.base} within {TIMEOUT_SECONDS:g} s, found none"
        ) from error
    except aiohttp.ClientError as error:
        raise CommandError(f"expected a Qdrant server at {server.base}, found: {error}") from error
    if not found:
        return f"No collection at {server.base} begins with {uid}: there is nothing to delete."
    listed = "\n".join(f"  {name}" for name in found)
    if confirmed:
        return f"Deleted {len(found)} collection(s) at {server.base}:\n{listed}"
    return f"Would delete {len(found)} collection(s) at {server.base}; give --yes to do so:\n{listed}"


async def _answered(session: aiohttp.ClientSession, method: str, url: str) -> str:
    async with session.request(method, url, allow_redirects=False) as response:
        if response.status in REFUSALS:
            raise CommandError(
                f"the Qdrant server refuses the key (HTTP {response.status}); give one that may write by "
                "--key-secret or --key-file"
            )
        if response.status != OK:
            raise CommandError(f"expected HTTP 200 of {method} {url}, found {response.status}")
        return await response.text()


def _names(text: str) -> list[str]:
    try:
        return [item.name for item in _Answer.model_validate_json(text).result.collections]
    except ValidationError as error:
        raise CommandError("expected a Qdrant server's list of collections, found something else") from error
