# SPDX-License-Identifier: Apache-2.0
"""The API server's verbs on plain JSON objects, for the kinds of resources.py.

Every request has a time limit; every error is one of errors.py; nothing is tried again here. Before each write
the guard runs: it raises LeadershipLost where the lease would not outlive the request.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from nimblet.cluster.errors import Changed, Conflict, Gone, Invalid, NotFound, Transient, is_object_missing
from nimblet.cluster.resources import LEASE, Resource, path, resource_for
from nimblet.cluster.transport import (
    APPLY_PATCH,
    JSON,
    METADATA,
    METADATA_LIST,
    Json,
    Request,
    Timeouts,
    Transport,
    load_configuration,
)
from nimblet.labels import FIELD_MANAGER
from nimblet.plan.result import Manifest

__all__ = ["Client", "Guard", "Json", "Page", "Timeouts", "connect"]

PAGE_SIZE: Final = 500
"""Objects per LIST request: bounds memory on both sides."""
MAX_RESTARTS: Final = 3
"""How often one list begins anew after a 410 before it is given up for now."""

NO_VERSION: Final = "1"
"""A resourceVersion that no object has: etcd counts from 1, so that the first write ever makes revision 2.

An apply bound to it can't change an object that exists, and makes one that doesn't (test_apply_ownership).
"""

Guard = Callable[[], Awaitable[None]]
Query = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One part of a list. All parts of one list show the same `resource_version`.

    `restarted`: the list began anew with this page; what came before it is void.
    """

    items: tuple[Json, ...]
    resource_version: str
    restarted: bool = False


class Client:
    """Reads and writes objects. A guarded client shares its connections with the one it was made from."""

    def __init__(self, transport: Transport, *, guard: Guard | None = None) -> None:
        self._transport = transport
        self._guard = guard

    @property
    def timeouts(self) -> Timeouts:
        """The limits of every request, in seconds."""
        return self._transport.timeouts

    def guarded(self, guard: Guard) -> "Client":
        """Return a client whose writes wait for `guard` first. Lease writes are exempt: they are its base."""
        return Client(self._transport, guard=guard)

    async def close(self) -> None:
        """Close the connections, of guarded clients too."""
        await self._transport.close()

    async def server_minor(self) -> int:
        """Return the API server's minor version, 32 for v1.32."""
        version = await self._transport.send(Request(method="GET", path="/version"))
        return int(str(version["minor"]).rstrip("+"))

    async def get(
        self, resource: Resource, *, namespace: str | None = None, name: str, metadata_only: bool = False
    ) -> Json | None:
        """Return the object, or None. NotFound is raised where the kind itself is not served."""
        target = path(resource, namespace=namespace, name=name)
        accept = METADATA if metadata_only else JSON
        try:
            return await self._transport.send(
                Request(method="GET", path=target, accept=accept, urgent=resource is LEASE)
            )
        except NotFound as error:
            if is_object_missing(error):
                return None
            raise

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[Json]:
        """Yield the objects, in chunks. After a restart (410) some come twice: key them by name."""
        pages = self.pages(
            resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector
        )
        async for page in pages:
            for item in page.items:
                yield item

    async def pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> AsyncIterator[Page]:
        """Yield the list page by page, each item with its apiVersion and kind. Transient after three 410s."""
        target = path(resource, namespace=namespace)
        accept = METADATA_LIST if metadata_only else JSON
        token = ""
        restarts = 0
        restarted = False
        while True:
            query = [("limit", str(PAGE_SIZE))]
            query += [("labelSelector", label_selector)] if label_selector else []
            query += [("fieldSelector", field_selector)] if field_selector else []
            query += [("continue", token)] if token else []
            try:
                answer = await self._transport.send(Request(method="GET", path=target, query=query, accept=accept))
            except Gone as error:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise Transient(f"list of {resource.plural} expired {restarts} times: {error}") from error
                token, restarted = "", True
                continue
            header = cast("Mapping[str, str]", answer["metadata"])
            yield Page(
                items=tuple(_typed(item, resource) for item in answer.get("items") or ()),
                resource_version=header.get("resourceVersion", ""),
                restarted=restarted,
            )
            restarted = False
            token = header.get("continue", "")
            if not token:
                return

    async def apply(
        self, manifest: Manifest, *, force: bool = False, uid: str | None = None, dry_run: bool = False
    ) -> Json:
        """Server-side apply and return the result. `uid` binds it to that very object: Conflict otherwise."""
        return await self._apply(manifest, force=force, uid=uid, dry_run=dry_run, subresource=None)

    async def apply_new(self, manifest: Manifest) -> Json:
        """Server-side apply that only makes: Conflict where an object has the name already, whoever made it."""
        bound = {**manifest, "metadata": {**_metadata(manifest), "resourceVersion": NO_VERSION}}
        return await self._apply(bound, force=False, uid=None, dry_run=False, subresource=None)

    async def apply_status(self, manifest: Manifest, *, resource_version: str) -> Json:
        """Server-side apply of `status`, by force: it is ours. Conflict where the object changed since.

        Bound to a version, for in status writes of custom resources the server ignores a uid.
        """
        bound = {**manifest, "metadata": {**_metadata(manifest), "resourceVersion": resource_version}}
        return await self._apply(bound, force=True, uid=None, dry_run=False, subresource="status")

    async def create(self, manifest: Manifest) -> Json:
        """Create an object. Conflict (reason AlreadyExists) where the name is taken."""
        resource = resource_for(manifest)
        namespace, _ = _identity(manifest)
        return await self._write(
            Request(
                method="POST",
                path=path(resource, namespace=namespace),
                query=self._write_query(),
                body=manifest,
                urgent=resource is LEASE,
            )
        )

    async def replace(self, manifest: Manifest) -> Json:
        """Replace an object at its metadata.resourceVersion. Conflict where it has changed since."""
        resource = resource_for(manifest)
        namespace, name = _identity(manifest)
        return await self._write(
            Request(
                method="PUT",
                path=path(resource, namespace=namespace, name=name),
                query=self._write_query(),
                body=manifest,
                urgent=resource is LEASE,
            )
        )

    async def delete(
        self, resource: Resource, *, namespace: str | None = None, name: str, uid: str, version: str = ""
    ) -> bool:
        """Delete that very object, its dependents in the background; with `version` only as that one.

        False where it is gone already, or another one has its name. Changed where it is no more that version.
        """
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid, **({"resourceVersion": version} if version else {})},
            "propagationPolicy": "Background",
        }
        target = path(resource, namespace=namespace, name=name)
        try:
            await self._write(Request(method="DELETE", path=target, body=options))
        except NotFound as error:
            if is_object_missing(error):
                return False
            raise
        except Conflict as error:
            if version:
                raise Changed(f"{resource.kind} {name} changed since it was seen: {error.detail}") from error
            return False
        return True

    async def _apply(
        self, manifest: Manifest, *, force: bool, uid: str | None, dry_run: bool, subresource: str | None
    ) -> Json:
        resource = resource_for(manifest)
        namespace, name = _identity(manifest)
        body = {**manifest, "metadata": {**_metadata(manifest), "uid": uid}} if uid else manifest
        query = [*self._write_query(), ("force", str(force).lower())]
        query += [("dryRun", "All")] if dry_run else []
        target = path(resource, namespace=namespace, name=name, subresource=subresource)
        try:
            return await self._write(
                Request(method="PATCH", path=target, query=query, body=body, content_type=APPLY_PATCH)
            )
        except Invalid as error:
            # for an object made anew the server calls our uid an attempt to change its immutable uid
            if uid and any(cause.field == "metadata.uid" for cause in error.causes):
                text = f"{resource.kind} {name} is another object than the one with uid {uid}"
                raise Conflict(text, status=error.status, reason="Conflict") from error
            raise

    def _write_query(self) -> Query:
        # `timeout` bounds the work on the server as well: a write that we gave up must not land much later
        seconds = f"{self.timeouts.of('PATCH'):.0f}s"
        return (("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict"), ("timeout", seconds))

    async def _write(self, request: Request) -> Json:
        if self._guard is not None and not request.urgent:
            await self._guard()
        return await self._transport.send(request)


async def connect(
    kubeconfig: Path | None = None, *, context: str | None = None, timeouts: Timeouts | None = None
) -> Client:
    """Return a client for a kubeconfig, or for the pod's own service account where there is none."""
    return Client(Transport(await load_configuration(kubeconfig, context=context), timeouts=timeouts))


def _metadata(manifest: Manifest) -> Mapping[str, object]:
    metadata = manifest.get("metadata")
    if not isinstance(metadata, Mapping):
        raise TypeError(f"expected metadata in a manifest of {manifest.get('kind')!r}, found {metadata!r}")
    return metadata


def _identity(manifest: Manifest) -> tuple[str | None, str]:
    metadata = _metadata(manifest)
    namespace = metadata.get("namespace")
    return (namespace if isinstance(namespace, str) else None, str(metadata["name"]))


def _typed(item: Json, resource: Resource) -> Json:
    # items of typed lists come without their type
    return {**item, "apiVersion": resource.api_version, "kind": resource.kind}
