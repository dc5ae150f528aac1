# SPDX-License-Identifier: Apache-2.0
"""What the key Secret and the pods say of the key's versions."""

from datetime import UTC, datetime

import pytest

from nimblet import labels
from nimblet.cluster.keyfacts import key_facts, key_versions
from nimblet.plan.facts import KeyFacts
from tests.unit.cluster_facts.builders import Json, metadata, owner

AT = "2026-01-02T03:04:05+00:00"


def secret(**annotations: str) -> Json:
    ours = owner("CompactModel", "small", "uid-small", "nimblet.dev/v1alpha1")
    return {"metadata": metadata("small-key", annotations=annotations, ownerReferences=[ours])}


@pytest.mark.parametrize(
    ("label", "versions"), [(None, (1,)), ("1-2", (1, 2)), ("12-3", (3, 12)), ("nonsense", (1,)), ("", (1,))]
)
def test_versions_of_a_template(label: str | None, versions: tuple[int, ...]) -> None:
    assert key_versions({labels.KEY_VERSIONS: label} if label is not None else {}) == versions


def test_the_secret_tells_its_version_and_since_when() -> None:
    body = secret(**{labels.KEY_VERSION: "2", labels.KEY_PUBLISHED_AT: AT})
    wanted = KeyFacts(version=2, published_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert key_facts(body, uid="uid-small") == wanted


@pytest.mark.parametrize("at", ["", "yesterday", "2026-01-02T03:04:05"])
def test_a_time_that_is_not_ours_is_none(at: str) -> None:
    body = secret(**{labels.KEY_VERSION: "2", labels.KEY_PUBLISHED_AT: at})
    assert key_facts(body, uid="uid-small") == KeyFacts(version=2)


def test_a_secret_of_others_tells_nothing() -> None:
    assert key_facts(secret(**{labels.KEY_VERSION: "2"}), uid="uid-other") is None
    assert key_facts(secret(), uid="uid-small") is None
