# SPDX-License-Identifier: Apache-2.0
"""The normalised state of a namespace: every object of every kind, without what differs between equal runs.

Masked: uids, resourceVersions, generations, times, addresses, managedFields, generated name suffixes, namespaces,
hashes over an owner's uid and what is named by them, and the bytes of Secrets (whether they are there is kept).
Only for tests.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from e2e.cluster.api import Api
from nimblet import labels
from nimblet.manifests.gateway import COMPONENT as GATEWAY
from nimblet.manifests.indexer import COMPONENT as INDEXER
from nimblet.plan.index_build import BUILD

SKIPPED: Final = frozenset({"events", "endpoints", "leases"})
"""Events are told at most once by design; Endpoints repeat EndpointSlices; Leases are renewed for ever."""
METADATA: Final = frozenset(
    {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"}
)
MASKS: Final = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uid>"),
    (re.compile(r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b(?!/)"), "<ip>"),
)
REVISION_OF_DEPLOYMENT: Final = "deployment.kubernetes.io/revision"
TEMPLATE_HASH: Final = "pod-template-hash"
HASHED: Final = re.compile(rf"(-{GATEWAY})-[0-9a-f]+$")
"""A gateway's configuration is named by a hash over a key, which hangs on the Assistant's uid."""

Snapshot = Mapping[str, object]
"""Kind/name → normalised object."""


def discover(api: Api) -> tuple[str, ...]:
    """Return the path templates of every namespaced kind that can be listed."""
    groups: Any = api.get("/apis")
    roots = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups["groups"])]
    found: list[str] = []
    for root in roots:
        listed: Any = api.get(root)
        found += [
            f"{root}/namespaces/{{}}/{item['name']}"
            for item in listed["resources"]
            if item["namespaced"]
            and "list" in item["verbs"]
            and "/" not in item["name"]
            and item["name"] not in SKIPPED
        ]
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads one namespace; `names` maps what is specific to the run to what stands for it."""

    api: Api
    paths: tuple[str, ...]
    namespace: str
    names: Mapping[str, str]

    def objects(self) -> list[dict[str, Any]]:
        """Return all objects, as the server has them."""
        found: list[dict[str, Any]] = []
        for path in self.paths:
            listed: Any = self.api.get(path.format(self.namespace))
            kind = str(listed["kind"]).removesuffix("List")
            found += [{**item, "kind": kind, "apiVersion": listed["apiVersion"]} for item in listed["items"]]
        return found

    def read(self) -> Snapshot:
        """Return the normalised state."""
        objects = self.objects()
        names = {**self.names, **generated_names(objects), **hashed_names(objects)}
        pairs = [(f"{item['kind']}/{item['metadata']['name']}", normalised(item)) for item in objects]
        text = json.dumps(sorted(pairs, key=lambda pair: pair[0]))
        for real, masked in sorted(names.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(real, masked)
        found: dict[str, object] = dict(json.loads(text))
        return found


def generated_names(objects: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the masks of names that the server made up, numbered per prefix."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for item in objects:
        metadata = item["metadata"]
        prefix = metadata.get("generateName")
        if prefix:
            counts[prefix] = counts.get(prefix, 0) + 1
            names[metadata["name"]] = f"{prefix}<{counts[prefix]}>"
    return names


def hashed_names(objects: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the masks of hashes: of templates by number where a run's own names go into them, tokens, keys."""
    objects = list(objects)
    names: dict[str, str] = {}
    replica_sets = [item for item in objects if item["kind"] == "ReplicaSet" and is_of_this_run(item)]
    for item in sorted(replica_sets, key=revision_number):
        number, head = revision_number(item), item["spec"]["template"]["metadata"]["labels"]
        names.setdefault(head[TEMPLATE_HASH], f"<template {number}>")
        names.setdefault(head[labels.REVISION], f"<revision {number}>")
        for volume in item["spec"]["template"]["spec"]["volumes"]:
            found = HASHED.search(volume.get("configMap", {}).get("name", ""))
            if found is not None:
                names.setdefault(found.group().rpartition("-")[2], f"<configuration {number}>")
    for item in objects:
        if item["kind"] == "ConfigMap" and component(item) in (BUILD, GATEWAY):
            config = json.loads(item["data"]["config.json"])
            hashed = config["token"] if component(item) == BUILD else config["operatorKey"]["sha256"]
            names[hashed] = "<hash>"
    return names


def is_of_this_run(item: Mapping[str, Any]) -> bool:
    """Tell whether pods are made by what no other run has: an Assistant's uid, or a confidential place's label."""
    return component(item) == GATEWAY or "runtimeClassName" in item["spec"]["template"]["spec"]


def component(item: Mapping[str, Any]) -> str:
    """Return what of ours an object is part of."""
    return str(item["metadata"].get("labels", {}).get(labels.COMPONENT, ""))


def revision_number(item: Mapping[str, Any]) -> int:
    """Return which template of its Deployment a ReplicaSet has."""
    return int(item["metadata"]["annotations"][REVISION_OF_DEPLOYMENT])


def unhashed(name: str) -> str:
    """Return a child's name without a hash over its owner's uid."""
    return HASHED.sub(r"\1-<hash>", name)


def normalised(item: Mapping[str, Any]) -> object:
    """Return an object without what differs between equal runs."""
    metadata = {key: value for key, value in item["metadata"].items() if key not in METADATA}
    annotations = metadata.get("annotations")
    if annotations and labels.APPLIED_HASH in annotations:
        metadata["annotations"] = {**annotations, labels.APPLIED_HASH: "<hash>"}
    if item["kind"] == "Job" and component(item) == INDEXER:
        # takes in the room that the claim told when the build began, which it may not have told yet
        metadata["annotations"] = {**metadata["annotations"], labels.CREDENTIALS_HASH: "<hash>"}
    rest = {key: value for key, value in item.items() if key != "metadata"}
    if item["kind"] == "Secret":
        rest["data"] = {key: "<set>" if value else "" for key, value in item.get("data", {}).items()}
    return _masked({**rest, "metadata": metadata}, own=item["apiVersion"])


def _masked(value: object, *, own: str) -> object:
    if isinstance(value, Mapping):
        hidden = () if own == labels.API_VERSION else ("observedGeneration",)
        return {key: _masked(each, own=own) for key, each in sorted(value.items()) if key not in hidden}
    if isinstance(value, list):
        masked = [_masked(each, own=own) for each in value]
        typed = all(isinstance(each, Mapping) and "type" in each and "status" in each for each in masked)
        return sorted(masked, key=_type_of) if typed else masked
    if isinstance(value, str):
        for pattern, mask in MASKS:
            value = pattern.sub(mask, value)
    return value


def _type_of(value: object) -> str:
    return str(value["type"]) if isinstance(value, Mapping) else ""


def difference(expected: Snapshot, found: Snapshot) -> list[str]:
    """Return a unified diff of what differs, object by object; empty when equal."""
    lines: list[str] = []
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            before, after = _text(expected.get(name)), _text(found.get(name))
            lines += [f"--- {name}", *list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]]
    return lines


def _text(item: object) -> list[str]:
    return json.dumps(item, indent=1, sort_keys=True).splitlines()
