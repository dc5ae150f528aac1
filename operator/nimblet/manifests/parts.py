# SPDX-License-Identifier: Apache-2.0
"""Takes finished manifests apart and puts other pods into them. Pure: a manifest in, another one out."""

from collections.abc import Mapping

from nimblet import labels
from nimblet.manifests.common import Manifest
from nimblet.manifests.template import content_revision


def part(whole: Mapping[str, object], key: str) -> Manifest:
    """Return an object inside of a manifest."""
    found = whole[key]
    if not isinstance(found, dict):
        raise TypeError(f"expected {key} to be a dict, found {type(found).__name__}")
    return found


def optional(whole: Mapping[str, object], key: str) -> Manifest:
    """Return an object inside of a manifest; an empty one where it is absent."""
    return part(whole, key) if key in whole else {}


def listed(whole: Mapping[str, object], key: str) -> list[Manifest]:
    """Return a list of objects inside of a manifest; an empty one where it is absent."""
    found = whole.get(key, [])
    if not isinstance(found, list):
        raise TypeError(f"expected {key} to be a list, found {type(found).__name__}")
    return found


def with_pod(manifest: Manifest, pod: Manifest, *, annotations: Mapping[str, object]) -> Manifest:
    """Return what makes pods with another pod in its template, and annotations added to the pods'.

    Its pods' REVISION is new, where it has one: they are made anew.
    """
    spec, meta = part(manifest, "spec"), part(manifest, "metadata")
    template = part(spec, "template")
    head = part(template, "metadata")
    told = {**optional(head, "annotations"), **annotations}
    own = {key: value for key, value in part(head, "labels").items() if key != labels.REVISION}
    marks: Manifest = {}
    if labels.REVISION in part(head, "labels"):
        marks[labels.REVISION] = content_revision(labels_=own, annotations=told, spec=pod)
        meta = {**meta, "labels": {**part(meta, "labels"), **marks}}
    new_head = {**head, "labels": {**own, **marks}, **({"annotations": told} if told else {})}
    new_spec = {**spec, "template": {**template, "metadata": new_head, "spec": pod}}
    return {**manifest, "metadata": meta, "spec": new_spec}
