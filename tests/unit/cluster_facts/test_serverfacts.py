# SPDX-License-Identifier: Apache-2.0
"""A StatefulSet of Qdrant servers as facts: what it has, also while it is scaled to none."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from nimblet import labels
from nimblet.cluster.observed import StatefulSet
from nimblet.cluster.serverfacts import set_facts
from nimblet.cluster.trim import trim_workload
from nimblet.plan.facts import ChildRef
from tests.builders import child
from tests.qdrant import CERTIFICATE, SHAPE, planned


def live(replicas: int | None = None, **shape: Any) -> StatefulSet:
    """Return the StatefulSet of a plan as the API server gives it back."""
    body = child(planned(replace(SHAPE, **shape)).children, "StatefulSet")
    spec: Mapping[str, object] = {**body["spec"], **({"replicas": replicas} if replicas is not None else {})}
    return StatefulSet.model_validate(trim_workload({**body, "spec": spec}))


def test_set_tells_what_its_servers_have() -> None:
    own = ChildRef(kind="Service", name="docs-qdrant", uid="1", labels={labels.COMPONENT: "qdrant"})
    other = ChildRef(kind="Service", name="docs-retriever", uid="2", labels={labels.COMPONENT: "retriever"})
    found = set_facts(live(replicas=None, storage_class="fast", size="20Gi", retained=True), [own, other])
    assert (found.number, found.replicas, found.size, found.storage_class) == (1, 1, "20Gi", "fast")
    assert (found.retained, found.children) == (True, (own,))
    assert (found.image, found.memory, found.cpu) == (
        "docker.io/qdrant/qdrant:v1.18.2-unprivileged",
        planned(SHAPE).sizing.memory,
        planned(SHAPE).sizing.cpu,
    )


@pytest.mark.parametrize("scaled", [0, 1, 5])
def test_number_of_servers_is_what_was_planned_and_not_what_somebody_scaled_to(scaled: int) -> None:
    body = child(planned(replace(SHAPE, replicas=3)).children, "StatefulSet")
    found = StatefulSet.model_validate({**body, "spec": {**body["spec"], "replicas": scaled}})
    assert set_facts(found, ()).replicas == 3


def test_later_set_has_its_own_number_children_and_mode() -> None:
    body = child(planned(replace(SHAPE, memory="OnDisk")).children, "StatefulSet")
    metadata: Mapping[str, Any] = body["metadata"]
    renamed = {**metadata, "labels": {**metadata["labels"], labels.COMPONENT: "qdrant-s3"}}
    own = ChildRef(kind="Service", name="docs-qdrant-s3", uid="1", labels={labels.COMPONENT: "qdrant-s3"})
    other = ChildRef(kind="Service", name="docs-qdrant", uid="2", labels={labels.COMPONENT: "qdrant"})
    found = set_facts(StatefulSet.model_validate({**body, "metadata": renamed}), [own, other])
    assert (found.number, found.mode, found.children) == (3, "OnDisk", (own,))


@pytest.mark.parametrize(("replicas", "certificate"), [(1, ""), (3, CERTIFICATE[:12])])
def test_set_tells_that_it_speaks_tls_and_with_what(replicas: int, certificate: str) -> None:
    body = child(planned(replace(SHAPE, replicas=replicas, tls=True)).children, "StatefulSet")
    found = set_facts(StatefulSet.model_validate(trim_workload(body)), ())
    assert (found.tls, found.certificate) == (True, certificate)
    assert not set_facts(live(), ()).tls


def test_empty_set_asks_for_nothing() -> None:
    found = set_facts(StatefulSet(), ())
    assert (found.replicas, found.size, found.memory, found.image) == (1, "0", "0", "")
