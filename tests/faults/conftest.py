# SPDX-License-Identifier: Apache-2.0
"""One control plane for all fault runs, and of each story two runs without faults that all are compared with."""

from collections.abc import Iterator

import pytest

from e2e.cluster.controlplane import ControlPlane, ControlPlaneOptions
from e2e.cluster.kwok import FakeNode
from nimblet import labels
from tests.cluster.crd_support import install_all
from tests.cluster.operator_support import grant_wide_rights, stages
from tests.cluster.tee_support import install_classes
from tests.faults.access import upstream_of
from tests.faults.admin import SteadyApi
from tests.faults.grounded import BROKEN_INPUTS, GroundedStory, storage_class
from tests.faults.rig import Outcome, Reference, Scenario, World, perform_all
from tests.faults.snapshot import discover
from tests.faults.story import MISSING_HASH, ModelStory, Story


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("faults")
    canned = stages(failing={labels.SOURCE_HASH: MISSING_HASH, labels.BUILD_INPUTS: BROKEN_INPUTS})
    with ControlPlane(ControlPlaneOptions(scheduler=True, stages=canned)) as plane:
        install_all(plane.api)
        grant_wide_rights(plane.api)
        storage_class(plane.api)
        install_classes(plane.api)
        plane.add_node(FakeNode("node-1"))
        api = SteadyApi(plane.api.endpoint)
        yield World(
            api=api,
            paths=discover(plane.api),
            upstream=upstream_of(plane, directory),
            directory=directory,
        )
        api.close()


@pytest.fixture(scope="module")
def references(world: World) -> tuple[Outcome, Outcome]:
    return twice(world, ModelStory)


@pytest.fixture(scope="module")
def reference(references: tuple[Outcome, Outcome]) -> Reference:
    return reference_of(*references)


@pytest.fixture(scope="module")
def grounded_references(world: World) -> tuple[Outcome, Outcome]:
    return twice(world, GroundedStory)


@pytest.fixture(scope="module")
def grounded_reference(grounded_references: tuple[Outcome, Outcome]) -> Reference:
    return reference_of(*grounded_references)


def twice(world: World, story: type[Story]) -> tuple[Outcome, Outcome]:
    """Tell a story two times without faults."""
    scenarios = [Scenario(name="first", story=story), Scenario(name="second", story=story)]
    first, second = perform_all(world, scenarios, None, workers=2)
    return first, second


def reference_of(first: Outcome, second: Outcome) -> Reference:
    """Return what other runs of the story are compared with."""
    return Reference(
        settled=first.settled,
        end=first.end,
        creates=first.creates,
        deletes=first.deletes,
        writes=min(first.writes, second.writes),
    )
