# SPDX-License-Identifier: Apache-2.0
"""kopf's part: watches. Every handler puts an event into the mirror and a key on the queue, and nothing more.

Only on.event handlers: kopf then writes nothing, neither finalizers, annotations, status nor events. A handler's
error would be logged and never tried again, so that none may do work that can fail.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import kopf

from nimblet import labels
from nimblet.cluster.facts import is_ready
from nimblet.cluster.key import Key, owner_key
from nimblet.cluster.login import Login
from nimblet.cluster.mirror import OWN_KINDS, WAKING_KINDS, Change, Mirror
from nimblet.cluster.observed import Pod, conditions_of, metadata_of
from nimblet.cluster.resources import Resource, resource_of
from nimblet.cluster.resync import UNSELECTED
from nimblet.cluster.trim import WATCHED, Object
from nimblet.conditions import ConditionType
from nimblet.shell.queue import Queue

SERVER_TIMEOUT_SECONDS: Final = 240
"""The API server ends a watch after this; bookmarks and kopf's inactivity limit find dead ones earlier."""
CLIENT_TIMEOUT_SECONDS: Final = 300
CONNECT_TIMEOUT_SECONDS: Final = 5
REQUEST_TIMEOUT_SECONDS: Final = 30
RETRY_SECONDS: Final = (1, 1, 2, 3, 5, 5, 5, 5)
"""Waits between tries of a request; a watch begins anew after them, so the last is how late it may come back."""
CHUNK: Final = 500
"""Objects a page of kopf's first listing: bounds its memory."""
PLACED_KINDS: Final = frozenset({"CompactModel"})
"""Kinds whose plan chooses nodes, and tells it by the condition Placed."""
STREAM: Final = "watcher for "
"""How the names of kopf's tasks begin that read a watch."""
END_SECONDS: Final = 0.8
"""How long a cancelled task of kopf's may take; a stream hands its last events on for `exit_timeout`."""
CANCELLATIONS: Final = 3

log = logging.getLogger(__name__)


class NoDiff(kopf.DiffBaseStorage):
    """Spares kopf its copy of every object: on.event handlers look at no difference, and nothing is stored."""

    def build(self, **_: object) -> kopf.BodyEssence:
        """Return nothing to compare."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, **_: object) -> None:
        """Return that nothing was stored."""

    def store(self, **_: object) -> None:
        """Store nothing."""


class NoProgress(kopf.ProgressStorage):
    """Spares kopf the look for a progress that on.event handlers never have."""

    def fetch(self, **_: object) -> None:
        """Return that nothing was stored."""

    def store(self, **_: object) -> None:
        """Store nothing."""

    def purge(self, **_: object) -> None:
        """Remove nothing."""

    def touch(self, **_: object) -> None:
        """Change nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Return what came."""
        return essence


@dataclass(frozen=True, kw_only=True)
class Intake:
    """Where events go."""

    mirror: Mirror
    queue: Queue
    listing: Callable[[], None] = lambda: None
    """Called for each object that a watch lists before it watches, at its start and when it begins anew."""

    def take(self, kind: str, event: Mapping[str, object]) -> None:
        """Record one watch event and wake whom it concerns."""
        body = cast("Object", event["object"])
        if event["type"] is None:
            self.listing()
        deleted = event["type"] == "DELETED"
        change = self.mirror.remove(kind, body) if deleted else self.mirror.put(kind, body)
        for key in self._concerned(kind, change, body):
            self.queue.add(key)

    def _concerned(self, kind: str, change: Change, body: Object) -> Sequence[Key]:
        referrers = self.mirror.referrers(change.owner) if change.told and change.owner is not None else ()
        if not change.changed:
            return referrers
        if kind in WAKING_KINDS:
            return bound_by(self.mirror, kind, metadata_of(body).name)
        if kind == "Node":
            return (*unplaced(self.mirror), *residents(self.mirror, node=metadata_of(body).name))
        if change.owner is None or change.owner.kind not in OWN_KINDS:
            return referrers
        return (change.owner, *referrers)


def bound_by(mirror: Mirror, kind: str, name: str) -> tuple[Key, ...]:
    """Return the resources that a TEEPolicy, or the labels of a namespace, may concern."""
    found = (key for own in sorted(OWN_KINDS) for key in mirror.keys(own))
    return tuple(key for key in found if kind != "Namespace" or key.namespace == name)


def unplaced(mirror: Mirror) -> tuple[Key, ...]:
    """Return the resources that wait for a node: only to these does a node's change matter."""
    return tuple(
        key
        for kind in sorted(OWN_KINDS)
        for key in mirror.keys(kind)
        if _waits(kind, mirror.get(kind, key.namespace, key.name) or {})
    )


def _waits(kind: str, body: Object) -> bool:
    return (kind in PLACED_KINDS and not _is_placed(body)) or _is_unenforced(body)


def _is_unenforced(body: Object) -> bool:
    """Tell whether a TEEPolicy asks for what was not there."""
    return any(
        item.type == ConditionType.POLICY_ENFORCED and item.status != "True" for item in conditions_of(body)
    )


def residents(mirror: Mirror, *, node: str) -> tuple[Key, ...]:
    """Return the resources that a change of a node concerns, for they have a pod there.

    One that is not ready: whether the node is away tells why. One of a resource that TEEPolicies bind: its node
    may be a place no more.
    """
    pods = (Pod.model_validate(body) for body in mirror.of_kind("Pod"))
    there = [(owner_key(pod.metadata), pod) for pod in pods if pod.spec.node_name == node]
    found = {
        owner
        for owner, pod in there
        if owner is not None and owner.kind in OWN_KINDS and (not is_ready(pod) or _is_bound(mirror, owner))
    }
    return tuple(sorted(found))


def _is_bound(mirror: Mirror, key: Key) -> bool:
    """Tell whether a TEEPolicy binds a resource, as its status says."""
    body = mirror.get(key.kind, key.namespace, key.name) or {}
    return any(item.type == ConditionType.POLICY_ENFORCED for item in conditions_of(body))


def _is_placed(body: Object) -> bool:
    return any(item.type == ConditionType.PLACED and item.status == "True" for item in conditions_of(body))


def registry_for(intake: Intake, *, login: Callable[[], Awaitable[Login]]) -> kopf.OperatorRegistry:
    """Return a registry of its own with a handler for each kind of the mirror; `login` as for our client."""
    registry = kopf.OperatorRegistry()

    async def log_in(**_: object) -> kopf.ConnectionInfo:
        return connection_of(await login())

    kopf.on.login(id="login", registry=registry)(log_in)
    for kind in sorted(WATCHED):
        _register(registry, intake, resource_of(kind))
    return registry


def connection_of(login: Login) -> kopf.ConnectionInfo:
    """Return a log-in in kopf's form."""
    return kopf.ConnectionInfo(
        server=login.server,
        ca_path=login.authority,
        certificate_path=login.certificate,
        private_key_path=login.private_key,
        insecure=login.insecure,
        scheme="Bearer" if login.token else None,
        token=login.token,
    )


def _register(registry: kopf.OperatorRegistry, intake: Intake, resource: Resource) -> None:
    async def handle(event: kopf.RawEvent, **_: object) -> None:
        intake.take(resource.kind, cast("Mapping[str, object]", event))

    selector = (resource.group, resource.version, resource.plural)
    kopf.on.event(*selector, id=f"watch-{resource.plural}", registry=registry)(handle)


def watch_settings() -> kopf.OperatorSettings:
    """Return kopf's settings: server-side selectors, every time limit set, nothing ever written."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.diffbase_storage = NoDiff()
    settings.persistence.progress_storage = NoProgress()
    settings.watching.server_timeout = SERVER_TIMEOUT_SECONDS
    settings.watching.client_timeout = CLIENT_TIMEOUT_SECONDS
    settings.watching.connect_timeout = CONNECT_TIMEOUT_SECONDS
    settings.watching.chunk_size = CHUNK
    settings.networking.request_timeout = REQUEST_TIMEOUT_SECONDS
    settings.networking.connect_timeout = CONNECT_TIMEOUT_SECONDS
    settings.networking.error_backoffs = RETRY_SECONDS
    settings.networking.enforce_retry_after = True
    settings.queueing.exit_timeout = 0.5
    settings.queueing.idle_timeout = 1.0
    for kind in WATCHED:
        if kind not in UNSELECTED:
            resource = resource_of(kind)
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = (
                labels.MANAGED_SELECTOR
            )
    return settings


async def watch(
    registry: kopf.OperatorRegistry,
    *,
    settings: kopf.OperatorSettings,
    namespaces: Sequence[str],
    stop: asyncio.Event,
    started: Callable[[], None],
) -> None:
    """Run the watches until `stop` is set; a watch that the API server breaks for good raises.

    `started` is called when kopf has set up its own signal handlers, for the caller to take signals back.
    """
    others = asyncio.all_tasks()
    roots = await kopf.spawn_tasks(
        registry=registry,
        settings=settings,
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
        # unused without peering, but kopf would look the user's name up, and a numeric user has none
        identity=cast("Any", labels.FIELD_MANAGER),
    )
    started()
    try:
        ended, _ = await asyncio.wait(roots, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(roots, others=others)
    for task in ended:
        task.result()


async def _end(roots: Collection["asyncio.Task[Any]"], *, others: Collection["asyncio.Task[Any]"]) -> None:
    """End kopf's tasks: the streams, then its roots, which close its connections, then whatever it left.

    Not by `kopf.run_tasks`: it cancels each task once and waits for ever, and a stream that begins anew at that
    moment loses the cancellation (kopf ends the stream's pause waiter with cancellations suppressed) and runs on.
    """

    def rest() -> set["asyncio.Task[Any]"]:
        return asyncio.all_tasks() - {*others, asyncio.current_task()}

    await _cancel(lambda: {task for task in rest() if task.get_name().startswith(STREAM)})
    await _cancel(lambda: {task for task in roots if not task.done()})
    await _cancel(rest)
    left = rest()
    if left:
        log.error("tasks of the watches did not end: %s", ", ".join(sorted(task.get_name() for task in left)))


async def _cancel(wanted: Callable[[], set["asyncio.Task[Any]"]]) -> None:
    """Cancel the tasks, and again those that went on."""
    for _ in range(CANCELLATIONS):
        tasks = wanted()
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=END_SECONDS)
