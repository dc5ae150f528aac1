# SPDX-License-Identifier: Apache-2.0
"""One control plane for all fault runs, and two runs without faults that everything is compared with."""

from collections.abc import Iterator

import pytest

from e2e.cluster.controlplane import ControlPlane, ControlPlaneOptions
from e2e.cluster.kwok import FakeNode
from nimblet import labels
from tests.cluster.crd_support import install_all
from tests.cluster.operator_support import grant_wide_rights, stages, stub_server
from tests.faults.admin import SteadyApi
from tests.faults.rig import Outcome, Reference, Scenario, World, perform_all, upstream_of
from tests.faults.snapshot import discover
from tests.faults.story import MISSING_HASH


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("faults")
    canned = stages(label=labels.SOURCE_HASH, missing=MISSING_HASH)
    with ControlPlane(ControlPlaneOptions(scheduler=True, stages=canned)) as plane, stub_server() as stub:
        install_all(plane.api)
        grant_wide_rights(plane.api)
        plane.add_node(FakeNode("node-1"))
        api = SteadyApi(plane.api.endpoint)
        yield World(
            api=api,
            stub=stub,
            paths=discover(plane.api),
            upstream=upstream_of(plane, directory),
            directory=directory,
        )
        api.close()


@pytest.fixture(scope="module")
def references(world: World) -> tuple[Outcome, Outcome]:
    first, second = perform_all(world, [Scenario(name="first"), Scenario(name="second")], None, workers=2)
    return first, second


@pytest.fixture(scope="module")
def reference(references: tuple[Outcome, Outcome]) -> Reference:
    first, second = references
    return Reference(
        settled=first.settled,
        end=first.end,
        creates=first.creates,
        deletes=first.deletes,
        writes=min(first.writes, second.writes),
    )
