# SPDX-License-Identifier: Apache-2.0
"""What is looked at of a resource whose spec does not parse: whether a pod that serves is ready."""

import pytest

from nimblet import labels
from nimblet.cluster.key import Key
from nimblet.cluster.mirror import Mirror
from nimblet.shell.kinds import has_ready

SMALL = Key("CompactModel", "team", "small")


def a_pod(*, component: str, ready: str) -> dict[str, object]:
    """Return a pod of the model as the API server shows it."""
    marks = {labels.MODEL: "small", labels.COMPONENT: component, labels.MANAGED_BY: labels.MANAGED_BY_VALUE}
    return {
        "metadata": {"name": "p", "namespace": "team", "uid": "u", "resourceVersion": "1", "labels": marks},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(
    ("component", "ready", "found"),
    [("model", "True", True), ("model", "False", False), ("filler", "True", False)],
)
def test_pods_that_serve_count_where_they_are_ready(component: str, ready: str, *, found: bool) -> None:
    mirror = Mirror()
    assert not has_ready(mirror, SMALL)
    mirror.put("Pod", a_pod(component=component, ready=ready))
    assert has_ready(mirror, SMALL) is found
