# SPDX-License-Identifier: Apache-2.0
"""The generated keys of an index and their rotation without a failed request. Pure; derived from what is observed.

The retriever reads its key file again when it changes, so that no pod rolls:

1. the spec wants another version: the file accepts both;
2. the file has reached the pods: the Secrets that callers read hold the new version, and since when;
3. the grace is over: the file accepts the new version only.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nimblet import labels, names
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import Reason
from nimblet.manifests.common import Manifest
from nimblet.manifests.retriever import API_KEY, KEYS_FILE, retriever_part, secret_manifest
from nimblet.plan.indexfacts import IndexFacts, KeySet
from nimblet.plan.stage import Progress

SPREAD_SECONDS: Final = 150.0
"""A mounted Secret reaches its pod within the kubelet's sync period and its cache: about two minutes."""


@dataclass(frozen=True, kw_only=True)
class IndexKeys:
    """The Secrets; `state` is None when one version is all there is."""

    children: tuple[Manifest, ...] = ()
    state: Progress | None = None
    requeue_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What callers' Secrets hold, and what the retriever accepts, until when."""

    published: int
    published_at: datetime | None
    accepted: tuple[int, ...]
    accepted_since: datetime | None = None
    ends: datetime | None = None
    state: Progress | None = None
    requeue_after: float | None = None


def plan_index_keys(index: RetrievalIndex, facts: IndexFacts, now: datetime) -> IndexKeys:
    """Return the Secrets of the next step towards the wanted version; none while planning offline."""
    step = _step(index, facts, now)
    current = facts.keys.get(step.published)
    if current is None or not current.search:
        return IndexKeys()
    part = retriever_part(index.name, index.namespace, "key")
    annotations = {labels.KEY_VERSION: str(step.published)}
    if step.published_at is not None:
        annotations[labels.KEY_PUBLISHED_AT] = step.published_at.isoformat()
    plain = {"search": current.search, "build": current.build}
    if index.spec.access.push:
        plain["push"] = current.push
    accepted = {labels.KEY_VERSIONS: names.version_text(step.accepted)}
    if step.accepted_since is not None:
        accepted[labels.KEY_PUBLISHED_AT] = step.accepted_since.isoformat()
    hashed = secret_manifest(
        part,
        name=names.retriever_keys(index.name),
        entries={KEYS_FILE: _key_file(index, facts, step)},
        annotations=accepted,
    )
    owned = (
        secret_manifest(
            part,
            name=names.purpose_key(index.name, purpose=purpose),
            entries={API_KEY: key},
            annotations=annotations,
        )
        for purpose, key in plain.items()
    )
    return IndexKeys(children=(hashed, *owned), state=step.state, requeue_after=step.requeue_after)


def access_labels(index: RetrievalIndex) -> tuple[str, ...]:
    """Return the labels of the generated keys: all that the sources put on, and those that the spec adds."""
    found = {label for source in index.spec.sources for label in source.access}
    return tuple(sorted(found | set(index.spec.access.labels)))


def _step(index: RetrievalIndex, facts: IndexFacts, now: datetime) -> _Step:
    wanted, stored, live = index.spec.access.key_version, facts.key, facts.accepted
    published = stored.version if stored is not None else wanted
    since = stored.published_at if stored is not None else None
    versions = live.versions if live is not None else (published,)
    if published != wanted:
        both = tuple(sorted({published, wanted}))
        begun = live.since if live is not None and live.versions == both else None
        ready = begun + timedelta(seconds=SPREAD_SECONDS) if begun is not None else None
        if ready is None or now < ready:
            begun = begun or now.replace(microsecond=0)
            return _Step(
                published=published,
                published_at=since,
                accepted=both,
                accepted_since=begun,
                state=_rotating("The retriever comes to accept the new keys beside the old ones."),
                requeue_after=(begun + timedelta(seconds=SPREAD_SECONDS) - now).total_seconds(),
            )
        published, since, versions = wanted, now.replace(microsecond=0), both
    return _published(index, published=published, since=since, versions=versions, now=now)


def _published(
    index: RetrievalIndex, *, published: int, since: datetime | None, versions: tuple[int, ...], now: datetime
) -> _Step:
    """Return how it goes on once callers' Secrets hold the wanted version."""
    ends = since + timedelta(seconds=index.spec.access.key_grace_seconds) if since is not None else now
    if len(versions) > 1 and published in versions and now < ends:
        return _Step(
            published=published,
            published_at=since,
            accepted=versions,
            ends=ends,
            state=_rotating(f"The Secrets hold the new keys; older ones work until {ends:%Y-%m-%dT%H:%M:%SZ}."),
            requeue_after=(ends - now).total_seconds(),
        )
    return _Step(published=published, published_at=since, accepted=(published,))


def _rotating(message: str) -> Progress:
    return Progress(reason=Reason.ROTATING_KEY, message=message)


def _key_file(index: RetrievalIndex, facts: IndexFacts, step: _Step) -> str:
    """Return the retriever's key file: hashes, so that who reads it can use none."""
    access = list(access_labels(index))
    keys = [
        entry
        for version in step.accepted
        if (known := facts.keys.get(version)) is not None
        for entry in _entries(known, access=access, push=index.spec.access.push)
    ]
    if step.ends is not None:
        current = {item["sha256"] for item in _entries(facts.keys[step.published], access=access, push=True)}
        keys = [{**item, **({} if item["sha256"] in current else {"expires": _text(step.ends)})} for item in keys]
    return json.dumps({"keys": keys}, sort_keys=True, separators=(",", ":"))


def _text(moment: datetime) -> str:
    return moment.isoformat()


def _entries(keys: KeySet, *, access: list[str], push: bool) -> Iterable[dict[str, object]]:
    """Yield the keys of one version. An id says what a key is for: pushed documents carry it in their own id."""
    yield {"id": "search", "sha256": _sha256(keys.search), "scopes": ["search"], "access": access}
    yield {"id": "build", "sha256": _sha256(keys.build), "scopes": ["build"]}
    yield {"id": "operate", "sha256": _sha256(keys.operate), "scopes": ["operate"]}
    if push:
        yield {"id": "push", "sha256": _sha256(keys.push), "scopes": ["push"], "access": access}


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
