# SPDX-License-Identifier: Apache-2.0
"""The scheduling part of pod specs, as the user wrote it. Pure; what is absent in the spec is absent here."""

from collections.abc import Mapping

from nimblet.api.common import SpecModel
from nimblet.api.scheduling import Scheduling
from nimblet.manifests.common import Manifest


def pool_fields(scheduling: Scheduling) -> Manifest:
    """Return what every pod of a resource needs to run in a restricted pool."""
    fields: Manifest = {}
    if scheduling.node_selector:
        fields["nodeSelector"] = dict(scheduling.node_selector)
    if scheduling.tolerations:
        fields["tolerations"] = [written(item) for item in scheduling.tolerations]
    return fields


def server_fields(scheduling: Scheduling, *, selector: Mapping[str, str]) -> Manifest:
    """Return what the server's pods have: the pool, affinity, priority and spread."""
    fields = pool_fields(scheduling)
    if scheduling.affinity is not None and (affinity := written(scheduling.affinity)):
        fields["affinity"] = affinity
    if scheduling.priority_class_name is not None:
        fields["priorityClassName"] = scheduling.priority_class_name
    return {**fields, "topologySpreadConstraints": _spread(scheduling, selector)}


def _spread(scheduling: Scheduling, selector: Mapping[str, str]) -> list[Manifest]:
    """Return the constraints over our own pods; by default over hosts, as far as possible."""
    chosen = [(item.max_skew, item.topology_key, item.when_unsatisfiable) for item in scheduling.spread or ()]
    return [
        {
            "maxSkew": skew,
            "topologyKey": key,
            "whenUnsatisfiable": otherwise,
            "labelSelector": {"matchLabels": dict(selector)},
        }
        for skew, key, otherwise in chosen or [(1, "kubernetes.io/hostname", "ScheduleAnyway")]
    ]


def written(part: SpecModel) -> Manifest:
    """Return a part in Kubernetes' words, without what stands at its default: absent means the same there."""
    return part.model_dump(mode="json", by_alias=True, exclude_defaults=True)
