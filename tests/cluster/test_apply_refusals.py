# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses: named in the failure, never worked around."""

import pytest

from nimblet.cluster.errors import Forbidden, Invalid
from nimblet.cluster.resources import DEPLOYMENT
from tests.cluster.apply_support import Rig, config_map, deployment
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio]


async def test_an_immutable_field_is_named_and_the_object_not_made_anew(rig: Rig) -> None:
    await rig.apply(deployment(app="one"))
    uid = (await rig.read("server", DEPLOYMENT))["metadata"]["uid"]

    failures = await rig.apply(deployment(app="two"))

    assert [each.category for each in failures] == ["ImmutableField"]
    assert "spec.selector" in failures[0].message
    assert (await rig.read("server", DEPLOYMENT))["metadata"]["uid"] == uid


async def test_an_immutable_config_map_is_an_immutable_field(rig: Rig) -> None:
    await rig.apply({**config_map(a="1"), "immutable": True})

    failures = await rig.apply({**config_map(a="2"), "immutable": True})

    assert [each.category for each in failures] == ["ImmutableField"]
    assert "data" in failures[0].message


async def test_a_quota_refuses_in_the_servers_words(rig: Rig) -> None:
    namespace = rig.owner.namespace
    quota_path = f"/api/v1/namespaces/{namespace}/resourcequotas/tight"
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "tight"},
        "spec": {"hard": {"count/deployments.apps": "0"}},
    }
    rig.rival.apply(quota_path, quota)
    tried = {**deployment(), "metadata": {"name": "tried", "namespace": namespace}}

    async def counted() -> bool:
        # the server's admission learns of the count after its storage does, and until then has other words
        try:
            await rig.client.apply(tried, dry_run=True)
        except Forbidden as refusal:
            return "exceeded quota" in str(refusal)
        return False

    await until(counted, seconds=60, what="the quota to be counted")

    failures = await rig.apply(deployment())

    assert [each.category for each in failures] == ["Refused"]
    assert "exceeded quota: tight" in failures[0].message


async def test_an_unknown_field_is_refused_by_strict_validation(rig: Rig) -> None:
    failures = await rig.apply({**config_map(), "dta": {"a": "1"}})

    assert [each.category for each in failures] == ["Refused"]
    assert "dta" in failures[0].message


async def test_an_invalid_dry_run_is_told_with_its_causes(rig: Rig) -> None:
    manifest = deployment()
    manifest["metadata"] = {"name": "Not_A_Name", "namespace": rig.owner.namespace}

    with pytest.raises(Invalid) as caught:
        await rig.client.apply(manifest, dry_run=True)

    assert "metadata.name" in {cause.field for cause in caught.value.causes}
