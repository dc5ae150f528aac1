# SPDX-License-Identifier: Apache-2.0
"""Leader election on real Lease objects, with a clock of the test: nothing here waits for real seconds."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from e2e.cluster.controlplane import ControlPlane
from nimblet.cluster.client import Client
from nimblet.cluster.errors import LeadershipLost
from nimblet.cluster.lease import Clocks, Lease, LeaseOptions
from nimblet.cluster.resources import CONFIG_MAP, LEASE

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio]


@dataclass
class Time:
    """Seconds that pass when somebody sleeps, or when the test says so."""

    seconds: float = 1000.0

    def read(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class Patience(Time):
    """Nobody wakes who sleeps: who does not lead at the first look is not there for a second one."""

    async def sleep(self, seconds: float) -> None:
        del seconds
        await asyncio.Event().wait()


@dataclass(kw_only=True)
class Overtaken(Time):
    """Something comes in between when the clock is looked at: each time the next of `between`."""

    between: Iterator[object]

    def read(self) -> float:
        next(self.between, None)
        return self.seconds


def candidate(client: Client, namespace: str, identity: str, time: Time) -> Lease:
    options = LeaseOptions(namespace=namespace, identity=identity)
    return Lease(client, options, Clocks(monotonic=time.read, sleep=time.sleep))


async def holder(client: Client, namespace: str) -> str:
    found = await client.get(LEASE, namespace=namespace, name="nimblet-operator")
    assert found is not None
    return str(found["spec"]["holderIdentity"])


async def test_the_first_candidate_leads_and_its_lease_lasts_fifteen_seconds(
    client: Client, namespace: str
) -> None:
    time = Time()
    lease = candidate(client, namespace, "first", time)

    await lease.acquire()

    assert lease.remaining() == 15
    assert await holder(client, namespace) == "first"
    time.seconds += 15
    assert lease.remaining() <= 0


async def test_a_standby_takes_over_only_after_the_lease_ran_out_by_its_own_clock(
    client: Client, namespace: str
) -> None:
    time = Time()
    await candidate(client, namespace, "first", time).acquire()
    standby = candidate(client, namespace, "second", time)
    began = time.seconds

    await standby.acquire()

    assert time.seconds - began >= 15
    assert await holder(client, namespace) == "second"
    assert standby.silence() <= 5


async def test_a_leader_that_woke_late_learns_that_it_lost_and_writes_nothing(
    client: Client, namespace: str
) -> None:
    frozen, running = Time(), Time()
    leader = candidate(client, namespace, "first", frozen)
    await leader.acquire()
    guarded = client.guarded(leader.guard)
    await candidate(client, namespace, "second", running).acquire()
    frozen.seconds += 60

    with pytest.raises(LeadershipLost):
        await guarded.create(_config_map(namespace))
    with pytest.raises(LeadershipLost):
        await leader.keep()

    assert await client.get(CONFIG_MAP, namespace=namespace, name="child") is None
    assert await holder(client, namespace) == "second"


async def test_a_leader_whose_lease_was_taken_loses_at_its_next_renewal(client: Client, namespace: str) -> None:
    time = Time()
    leader = candidate(client, namespace, "first", time)
    await leader.acquire()
    taken = await client.get(LEASE, namespace=namespace, name="nimblet-operator")
    assert taken is not None
    await client.replace({**taken, "spec": {**taken["spec"], "holderIdentity": "second"}})

    with pytest.raises(LeadershipLost, match="another holder"):
        await leader.keep()


async def test_writes_wait_for_the_renewal_when_the_lease_would_end_before_them(
    client: Client, namespace: str
) -> None:
    time = Time()
    lease = candidate(client, namespace, "first", time)
    await lease.acquire()
    time.seconds += 10  # 5 s are left, a write may take 8
    write = asyncio.create_task(client.guarded(lease.guard).create(_config_map(namespace)))
    await asyncio.sleep(0)
    assert not write.done()

    await lease.acquire()

    assert (await write)["metadata"]["name"] == "child"


async def test_released_leases_are_taken_at_once(client: Client, namespace: str) -> None:
    time = Time()
    lease = candidate(client, namespace, "first", time)
    await lease.acquire()
    began = time.seconds

    await lease.release()
    await candidate(client, namespace, "second", time).acquire()

    assert time.seconds == began
    assert lease.remaining() == 0
    assert await holder(client, namespace) == "second"


async def test_a_lease_is_released_though_a_renewal_arrives_meanwhile(
    client: Client, control_plane: ControlPlane, namespace: str
) -> None:
    # Given a leader, one of whose renewals is still on its way
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/nimblet-operator"

    def arriving() -> Iterator[object]:
        yield None  # the first look at the clock comes before the Lease is read, the second after
        metadata = {"name": "nimblet-operator", "annotations": {"arrived": "late"}}
        yield control_plane.api.apply(
            path, {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata}
        )

    time = Overtaken(between=iter(()))
    lease = candidate(client, namespace, "first", time)
    await lease.acquire()
    # When it arrives between the look at the Lease and the write that gives it up
    time.between = arriving()
    await lease.release()
    # Then it is given up all the same
    assert await holder(client, namespace) == ""


async def test_two_candidates_at_once_make_one_leader(client: Client, namespace: str) -> None:
    # by a clock that looking again moves on, the one that came second would soon outlive the other's lease
    first = candidate(client, namespace, "first", Patience())
    second = candidate(client, namespace, "second", Patience())
    tasks = [asyncio.create_task(each.acquire()) for each in (first, second)]

    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    leading = [each.remaining() > 0 for each in (first, second)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert sorted(leading) == [False, True]


def _config_map(namespace: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "child", "namespace": namespace}}
