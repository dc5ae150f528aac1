# SPDX-License-Identifier: Apache-2.0
"""A rendered manifest made ready for apply: owner, namespace, hash. Pure."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nimblet.cluster.contest import ChildKey
from nimblet.cluster.observed import Deployment
from nimblet.cluster.resources import CLAIM, DEPLOYMENT, SECRET, STATEFUL_SET, Resource, resource_for
from nimblet.labels import APPLIED_HASH, APPLIED_IMAGES, ISSUED_FOR, RETAINED_FOR, retained_for
from nimblet.names import content_hash
from nimblet.plan.result import Manifest

KEEPS_IMAGES: Final = frozenset({DEPLOYMENT, STATEFUL_SET})
"""Kinds whose images an upgrade of the operator leaves as they are."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The resource whose children are applied."""

    api_version: str
    kind: str
    name: str
    uid: str
    namespace: str
    deleting: bool = False
    """It has a deletionTimestamp."""
    known: bool = False
    """It has a status: an earlier pass may have made its children."""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Controller:
    """The controller ownerReference of a live object."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, kw_only=True)
class Child:
    """A manifest as it is sent; `hash` is of all that we render, and stands in its annotation too."""

    resource: Resource
    name: str
    manifest: Manifest
    hash: str
    key: ChildKey

    @property
    def kind(self) -> str:
        """The object's kind."""
        return self.resource.kind

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def prepare(manifest: Manifest, owner: Owner) -> Child:
    """Return the child with namespace, controller ownerReference and hash. ValueError for a foreign namespace.

    What is retained for its resource gets no owner: it must outlive it.
    """
    resource = resource_for(manifest)
    metadata = _mapping(manifest.get("metadata"))
    name = str(metadata["name"])
    if metadata.get("namespace", owner.namespace) != owner.namespace:
        raise ValueError(
            f"expected {resource.kind} {name} in its owner's namespace {owner.namespace}, "
            f"found {metadata['namespace']}; an owner can't own across namespaces"
        )
    body = _with_data(manifest)
    given = _mapping(metadata.get("annotations"))
    meta = {**metadata, "namespace": owner.namespace}
    if RETAINED_FOR not in given:
        meta["ownerReferences"] = [_reference(owner)]
    if resource in KEEPS_IMAGES:
        template = Deployment.model_validate(manifest).spec.template
        given = meta["annotations"] = {**given, APPLIED_IMAGES: ",".join(sorted(template.images))}
    hash_ = content_hash({**body, "metadata": meta})
    annotations = {**given, APPLIED_HASH: hash_}
    return Child(
        resource=resource,
        name=name,
        manifest={**body, "metadata": {**meta, "annotations": annotations}},
        hash=hash_,
        key=ChildKey(owner_uid=owner.uid, kind=resource.kind, name=name),
    )


def stored_hash(live: Mapping[str, object]) -> str | None:
    """Return the hash that the last apply left on a live object."""
    annotations = _mapping(_mapping(live.get("metadata")).get("annotations"))
    value = annotations.get(APPLIED_HASH)
    return value if isinstance(value, str) else None


def known_images(live: Deployment) -> frozenset[str]:
    """Return the images of a live workload's template, as it is and as it was applied."""
    told = live.metadata.annotations.get(APPLIED_IMAGES, "")
    return live.spec.template.images.union(told.split(",") if told else ())


def controller_of(live: Mapping[str, object]) -> Controller | None:
    """Return the controller ownerReference of a live object, if it has one."""
    references = _mapping(live.get("metadata")).get("ownerReferences")
    for item in references if isinstance(references, list) else ():
        if item.get("controller"):
            return Controller(kind=str(item["kind"]), name=str(item["name"]), uid=str(item["uid"]))
    return None


def is_ours(live: Mapping[str, object], *, kind: str, name: str, uid: str) -> bool:
    """Tell whether a live object belongs to a resource: controlled by its uid, or by nobody and for its name.

    One that has a controller is that one's, whatever its annotations say.
    """
    holder = controller_of(live)
    if holder is not None:
        return holder.uid == uid
    return is_retained(live, kind=kind, name=name) or _is_issued(live, kind=kind, name=name)


def is_retained(live: Mapping[str, object], *, kind: str, name: str) -> bool:
    """Tell whether a claim is kept for the resource of a kind and name; no other kind is ever retained."""
    annotations = _mapping(_mapping(live.get("metadata")).get("annotations"))
    return live.get("kind") == CLAIM.kind and annotations.get(RETAINED_FOR) == retained_for(kind, name)


def _is_issued(live: Mapping[str, object], *, kind: str, name: str) -> bool:
    """Tell whether cert-manager made a Secret for the Certificate of a resource: it gives it no owner."""
    annotations = _mapping(_mapping(live.get("metadata")).get("annotations"))
    return live.get("kind") == SECRET.kind and annotations.get(ISSUED_FOR) == retained_for(kind, name)


def _reference(owner: Owner) -> dict[str, object]:
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _with_data(manifest: Manifest) -> dict[str, object]:
    """Return the manifest with `stringData` as `data`, which is what the server keeps and we compare."""
    body = dict(manifest)
    text = _mapping(body.pop("stringData", None))
    if text:
        encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in text.items()}
        body["data"] = {**_mapping(body.get("data")), **encoded}
    return body


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
