# SPDX-License-Identifier: Apache-2.0
"""Rotation of an endpoint's generated key, so that no request fails. Pure; derived from what is observed.

Four steps, each told from the cluster alone, so that a crash between any two writes changes nothing:

1. the spec wants another version: pods roll to a template that accepts both keys;
2. no pod is left that knows only one: the Secret holds the new key, and since when;
3. the grace is over: pods roll to a template that accepts the new key only;
4. no older pod is left: entries of the Secret that no pod mounts go.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from nimblet import names
from nimblet.conditions import Reason
from nimblet.plan.facts import FIRST_KEY, DeploymentFacts, WorkloadFacts
from nimblet.plan.stage import Progress

MAX_ACCEPTED: Final = 6
"""Keys at once: they stand in a label of 63 characters; more only where keys rotate within their own grace."""


@dataclass(frozen=True, kw_only=True)
class KeyPlan:
    """What the Secret holds and the pods accept; `state` is None when one version is all there is."""

    published: int
    published_at: datetime | None
    accepted: tuple[int, ...]
    api_key: str
    entries: Mapping[str, str]
    """Entries that pods mount: the keys of a set of versions, one a line."""
    mounted: Mapping[int, str]
    """The same keys by version, for pods that mount each by itself."""
    state: Progress | None = None
    requeue_after: float | None = None


def plan_keys(facts: WorkloadFacts, *, wanted: int, grace_seconds: int, now: datetime) -> KeyPlan:
    """Return the next step towards the wanted version."""
    deployment, stored = facts.deployment, facts.key
    published = stored.version if stored is not None else _safest(facts, wanted)
    since = stored.published_at if stored is not None else None
    live = deployment.key_versions if deployment is not None else ()
    ends = since + timedelta(seconds=grace_seconds) if since is not None else now
    if published != wanted and _all_accept(facts, deployment, {published, wanted}):
        published, since, ends = wanted, now.replace(microsecond=0), now + timedelta(seconds=grace_seconds)
    if published != wanted:
        both = {published, wanted}
        graced = set(live[-(MAX_ACCEPTED - len(both)) :]) if now < ends else set()
        accepted = live if both <= set(live) else tuple(sorted(both | graced))
        message = "Pods roll to accept the new key beside the old one."
        return _key_plan(facts, (published, wanted), accepted, since=since, message=message)
    if len(live) > 1 and wanted in live and now < ends:
        message = f"The Secret holds the new key; older ones work until {ends:%Y-%m-%dT%H:%M:%SZ}."
        wait = (ends - now).total_seconds()
        return replace(
            _key_plan(facts, (published, wanted), live, since=since, message=message), requeue_after=wait
        )
    message = "Pods roll to accept the new key only." if live not in ((), (wanted,)) else ""
    return _key_plan(facts, (published, wanted), (wanted,), since=since, message=message)


def _safest(facts: WorkloadFacts, wanted: int) -> int:
    """Return what a Secret that is lost, or was never rotated, must hold: a version that no pod refuses."""
    common = set.intersection(*(set(pod.key_versions) for pod in facts.pods)) if facts.pods else {wanted}
    return wanted if wanted in common or not common else max(common)


def _all_accept(facts: WorkloadFacts, deployment: DeploymentFacts | None, versions: set[int]) -> bool:
    """Tell whether every pod, those that drain too, accepts all of these versions, and so will each new one."""
    if deployment is None or not versions <= set(deployment.key_versions):
        return False
    rolled = (
        deployment.observed_generation == deployment.generation
        and deployment.updated_replicas == deployment.replicas
    )
    return rolled and all(versions <= set(pod.key_versions) for pod in facts.pods)


def _key_plan(
    facts: WorkloadFacts,
    versions: tuple[int, int],
    accepted: tuple[int, ...],
    *,
    since: datetime | None,
    message: str,
) -> KeyPlan:
    published, wanted = versions
    keys = {**facts.other_keys, wanted: facts.api_key}
    mounted = {accepted, *(pod.key_versions for pod in facts.pods)}
    if facts.deployment is not None:
        mounted.add(facts.deployment.key_versions)
    known = [item for item in sorted(mounted - {FIRST_KEY}) if all(version in keys for version in item)]
    return KeyPlan(
        published=published,
        published_at=since,
        accepted=accepted,
        api_key=keys.get(published, ""),
        mounted={version: keys[version] for item in known for version in item},
        entries={names.key_entry(item): "".join(f"{keys[version]}\n" for version in item) for item in known},
        state=Progress(reason=Reason.ROTATING_KEY, message=message) if message else None,
    )
