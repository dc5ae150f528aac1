# SPDX-License-Identifier: Apache-2.0
"""The stack for all scenarios, a namespace for each test, and diagnostics where one fails.

A cluster that runs already is used and left; one that was started here is removed after the last scenario.
`NIMBLET_E2E_CLUSTER` names it (default `dev`), `NIMBLET_E2E_KEEP=1` keeps it and the namespaces of failed tests.
"""

import os
import re
from collections.abc import Generator, Iterator

import pytest

from e2e.cluster import cluster as clusters
from e2e.cluster.paths import cache_of
from e2e.cluster.progress import Progress
from e2e.support.canaries import Canaries, none_seen
from e2e.support.diagnostics import diagnose
from e2e.support.kube import Kube
from e2e.support.manifests import namespace_manifest
from e2e.support.stack import Stack, bring_up, start_cluster

_FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every scenario; its time counts without the session's fixtures, which may build Kubernetes."""
    mine = [item for item in items if "e2e/scenarios" in str(item.path)]
    for item in mine:
        item.add_marker(pytest.mark.e2e)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a failure for the namespace's fixture, and show what the cluster says about it."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[_FAILED] = True
        stack, namespace = (_fixture(item, name) for name in ("stack", "namespace"))
        if isinstance(stack, Stack) and isinstance(namespace, str):
            report.sections.append((f"cluster, namespace {namespace}", diagnose(stack.kube, namespace)))
    return report


def _fixture(item: pytest.Item, name: str) -> object:
    return item.funcargs.get(name) if isinstance(item, pytest.Function) else None


@pytest.fixture(scope="package")
def stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """The cluster with the hubs and the operator, made ready once."""
    name = os.environ.get("NIMBLET_E2E_CLUSTER", clusters.DEFAULT_NAME)
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        progress = Progress()
        kube, started = start_cluster(name, progress=progress)
    try:
        with capture.global_and_fixture_disabled():
            made = bring_up(kube, progress=progress)
        yield made
    finally:
        if started and not _keeps():
            clusters.down(name, cache=cache_of(os.environ), progress=Progress())


@pytest.fixture(scope="package")
def kube(stack: Stack) -> Kube:
    """Return kubectl on the cluster of the scenarios."""
    return stack.kube


@pytest.fixture(scope="package")
def canaries(kube: Kube) -> Iterator[Canaries]:
    """Look for what the Secrets of all namespaces held; the last scenario fails where any is seen at the end."""
    made = Canaries(kube)
    yield made
    none_seen(made.finish())


@pytest.fixture
def namespace(kube: Kube, canaries: Canaries, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own that admits restricted pods only; gone afterwards.

    The test fails where a value of one of its Secrets is seen anywhere else.
    """
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))[:50].strip("-")
    kube.run("delete", "namespace", name, "--ignore-not-found", "--timeout=120s")
    kube.apply(namespace_manifest(name))
    yield name
    seen = canaries.look(name)
    if not (request.node.stash.get(_FAILED, False) and _keeps()):
        kube.run("delete", "namespace", name, "--ignore-not-found", "--wait=false")
    none_seen(seen)


def _keeps() -> bool:
    return os.environ.get("NIMBLET_E2E_KEEP") == "1"
