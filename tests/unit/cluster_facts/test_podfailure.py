# SPDX-License-Identifier: Apache-2.0
"""What the kubelet, the scheduler and the eviction record, and what we call it."""

from dataclasses import dataclass

import pytest

from nimblet.cluster.observed import Pod
from nimblet.cluster.podfailure import MAX_TAIL, pod_failure, tail
from nimblet.plan.facts import ContainerFailure, FailureKind
from tests.unit.cluster_facts.builders import Json, condition, container, pod, running, terminated, waiting

UNFIT = "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available."
DENIED = 'failed to pull and unpack image "r.example/x:1": failed to resolve reference: not found'
LOADER_SAYS = '{"version":1,"error":{"reason":"DigestMismatch","message":"model.gguf differs."}}'
STORE_SAYS = '{"version":1,"error":{"reason":"StoreUnavailable","message":"no answer"}}'
OOM = "killed for using more memory than its limit"
DONE = container("loader", terminated(0, "Completed"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A pod's status and what must come of it."""

    name: str
    status: Json
    expected: tuple[FailureKind, str, str, int | None, bool] | None


def status(*containers: Json, init: tuple[Json, ...] = (DONE,), **extra: object) -> Json:
    return {
        "phase": "Running",
        "initContainerStatuses": list(init),
        "containerStatuses": list(containers),
        **extra,
    }


CASES = (
    Case(
        name="gate that was asked to end",
        status=status(container("server", running()), init=(container("attest", terminated(143)), DONE)),
        expected=None,
    ),
    Case(
        name="gate that found a flaw in a guest without words",
        status=status(
            container("server", waiting("PodInitializing")),
            init=(container("attest", running(), last=terminated(90)), DONE),
        ),
        expected=(FailureKind.EXITED, "attest", "ended with exit code 90", 90, True),
    ),
    Case(name="healthy", status=status(container("server", running(), ready=True)), expected=None),
    Case(name="not scheduled yet", status={"phase": "Pending"}, expected=None),
    Case(
        name="being created",
        status=status(
            container("server", waiting("PodInitializing")),
            init=(container("loader", waiting("ContainerCreating")),),
        ),
        expected=None,
    ),
    Case(
        name="downloading",
        status=status(container("server", waiting("PodInitializing")), init=(container("loader", running()),)),
        expected=None,
    ),
    Case(
        name="unschedulable",
        status={"phase": "Pending", "conditions": [condition("PodScheduled", "False", "Unschedulable", UNFIT)]},
        expected=(FailureKind.UNSCHEDULABLE, "", UNFIT, None, False),
    ),
    Case(
        name="image pull try",
        status=status(container("server", waiting("ErrImagePull", DENIED))),
        expected=(FailureKind.IMAGE_PULL, "server", DENIED, None, False),
    ),
    Case(
        name="image pull back-off says the same",
        status=status(
            container(
                "server",
                waiting("ImagePullBackOff", f'Back-off pulling image "r.example/x:1": ErrImagePull: {DENIED}'),
            )
        ),
        expected=(FailureKind.IMAGE_PULL, "server", DENIED, None, False),
    ),
    Case(
        name="image pull back-off of an old kubelet",
        status=status(container("server", waiting("ImagePullBackOff", 'Back-off pulling image "x:1"'))),
        expected=(FailureKind.IMAGE_PULL, "server", 'Back-off pulling image "x:1"', None, False),
    ),
    Case(
        name="image of the loader",
        status=status(
            container("server", waiting("PodInitializing")),
            init=(container("loader", waiting("InvalidImageName", 'invalid reference "X"')),),
        ),
        expected=(FailureKind.IMAGE_PULL, "loader", 'InvalidImageName: invalid reference "X"', None, False),
    ),
    Case(
        name="image that may not be pulled",
        status=status(container("server", waiting("ErrImageNeverPull", "not present"))),
        expected=(FailureKind.IMAGE_PULL, "server", "ErrImageNeverPull: not present", None, False),
    ),
    Case(
        name="missing Secret",
        status=status(container("server", waiting("CreateContainerConfigError", 'secret "k" not found'))),
        expected=(
            FailureKind.CONFIG,
            "server",
            'CreateContainerConfigError: secret "k" not found',
            None,
            False,
        ),
    ),
    Case(
        name="OOM, first death",
        status=status(container("server", terminated(137, "OOMKilled"))),
        expected=(FailureKind.OOM_KILLED, "server", OOM, 137, False),
    ),
    Case(
        name="OOM, waiting for the next start",
        status=status(
            container(
                "server",
                waiting("CrashLoopBackOff", "back-off 20s"),
                last=terminated(137, "OOMKilled"),
                restarts=2,
            )
        ),
        expected=(FailureKind.OOM_KILLED, "server", OOM, 137, False),
    ),
    Case(
        name="OOM, running again",
        status=status(container("server", running(), last=terminated(137, "OOMKilled"), restarts=1, ready=True)),
        expected=(FailureKind.OOM_KILLED, "server", OOM, 137, True),
    ),
    Case(
        name="OOM whose reason the runtime lost",
        status=status(container("server", terminated(137, "Error", "Memory cgroup out of memory: Killed 1"))),
        expected=(FailureKind.OOM_KILLED, "server", OOM, 137, False),
    ),
    Case(
        name="SIGKILL that was no OOM",
        status=status(container("server", terminated(137))),
        expected=(FailureKind.EXITED, "server", "ended with exit code 137", 137, False),
    ),
    Case(
        name="first crash",
        status=status(container("server", terminated(1, message="error: bad flag\nusage: server\n"))),
        expected=(FailureKind.EXITED, "server", "error: bad flag usage: server", 1, False),
    ),
    Case(
        name="second crash",
        status=status(container("server", terminated(1), last=terminated(1), restarts=1)),
        expected=(FailureKind.CRASH_LOOP, "server", "ended with exit code 1", 1, False),
    ),
    Case(
        name="crash loop",
        status=status(
            container(
                "server",
                waiting("CrashLoopBackOff", "back-off 2m40s restarting failed container"),
                last=terminated(3, message="cannot load"),
                restarts=5,
            )
        ),
        expected=(FailureKind.CRASH_LOOP, "server", "cannot load", 3, False),
    ),
    Case(
        name="crash loop without a last state",
        status=status(container("server", waiting("CrashLoopBackOff", "back-off"))),
        expected=(FailureKind.CRASH_LOOP, "server", "back-off", None, False),
    ),
    Case(
        name="running again after one crash",
        status=status(container("server", running(), last=terminated(1), restarts=1, ready=True)),
        expected=(FailureKind.EXITED, "server", "ended with exit code 1", 1, True),
    ),
    Case(
        name="a server that ends well ends too",
        status=status(container("server", running(), last=terminated(0, "Completed"), restarts=1)),
        expected=(FailureKind.EXITED, "server", "ended with exit code 0", 0, True),
    ),
    Case(
        name="loader says why",
        status=status(
            container("server", waiting("PodInitializing")),
            init=(container("loader", terminated(44, message=LOADER_SAYS)),),
        ),
        expected=(FailureKind.LOADER, "loader", LOADER_SAYS, 44, False),
    ),
    Case(
        name="retriever says why",
        status=status(container("retriever", waiting("CrashLoopBackOff"), last=terminated(1, message=STORE_SAYS))),
        expected=(FailureKind.LOADER, "retriever", STORE_SAYS, 1, False),
    ),
    Case(
        name="retriever that says nothing",
        status=status(container("retriever", terminated(1, message="a traceback"))),
        expected=(FailureKind.EXITED, "retriever", "a traceback", 1, False),
    ),
    Case(
        name="loader in back-off",
        status=status(
            container("server", waiting("PodInitializing")),
            init=(
                container(
                    "loader", waiting("CrashLoopBackOff"), last=terminated(44, message=LOADER_SAYS), restarts=3
                ),
            ),
        ),
        expected=(FailureKind.LOADER, "loader", LOADER_SAYS, 44, False),
    ),
    Case(
        name="loader tries again",
        status=status(
            container("server", waiting("PodInitializing")),
            init=(container("loader", running(), last=terminated(44, message=LOADER_SAYS), restarts=3),),
        ),
        expected=(FailureKind.LOADER, "loader", LOADER_SAYS, 44, True),
    ),
    Case(
        name="loader that made it in the end is no failure",
        status=status(
            container("server", running(), ready=True),
            init=(container("loader", terminated(0, "Completed"), last=terminated(44), restarts=1),),
        ),
        expected=None,
    ),
    Case(
        name="loader out of memory",
        status=status(
            container("server", waiting("PodInitializing")),
            init=(container("loader", terminated(137, "OOMKilled")),),
        ),
        expected=(FailureKind.OOM_KILLED, "loader", OOM, 137, False),
    ),
    Case(
        name="loader without a message",
        status=status(container("server", waiting("PodInitializing")), init=(container("loader", terminated(1)),)),
        expected=(FailureKind.EXITED, "loader", "ended with exit code 1", 1, False),
    ),
    Case(
        name="evicted by the kubelet",
        status={"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
        expected=(FailureKind.EVICTED, "", "Evicted: The node was low on resource: memory.", None, False),
    ),
    Case(
        name="about to be disrupted",
        status=status(
            container("server", running(), ready=True),
            conditions=[condition("DisruptionTarget", "True", "EvictionByEvictionAPI", "Eviction API: evicting")],
        ),
        expected=(FailureKind.EVICTED, "", "Eviction API: evicting", None, False),
    ),
    Case(
        name="refused by the kubelet",
        status={"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu"},
        expected=(FailureKind.REFUSED, "", "OutOfcpu: Node didn't have enough resource: cpu", None, False),
    ),
    Case(
        name="resolver that succeeded",
        status={"phase": "Succeeded", "containerStatuses": [container("resolver", terminated(0, "Completed"))]},
        expected=None,
    ),
)


def told(failure: ContainerFailure | None) -> tuple[FailureKind, str, str, int | None, bool] | None:
    if failure is None:
        return None
    return (failure.kind, failure.container, failure.message, failure.exit_code, failure.running_again)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_failure(case: Case) -> None:
    assert told(pod_failure(Pod.model_validate(pod(status=case.status)))) == case.expected


def test_the_time_of_a_failure_is_the_clusters() -> None:
    crashed = pod(status=status(container("server", terminated(1))))
    failure = pod_failure(Pod.model_validate(crashed))
    assert failure is not None
    assert failure.at is not None
    assert failure.at.isoformat() == "2026-01-01T10:05:00+00:00"


def test_a_pod_that_is_being_deleted_ends_its_containers_itself() -> None:
    leaving = pod(status=status(container("server", terminated(143))), deletionTimestamp="2026-01-01T11:00:00Z")
    assert pod_failure(Pod.model_validate(leaving)) is None


def test_a_present_failure_goes_before_one_that_is_history() -> None:
    both = pod(
        status=status(
            container("server", running(), last=terminated(137, "OOMKilled"), restarts=1),
            container("side", waiting("ErrImagePull", DENIED)),
        )
    )
    assert told(pod_failure(Pod.model_validate(both))) == (FailureKind.IMAGE_PULL, "side", DENIED, None, False)


def test_last_words_are_cut_at_their_beginning() -> None:
    words = tail("start " + "x" * 2000 + " end")
    assert words.endswith(" end")
    assert len(words) == MAX_TAIL + 2
