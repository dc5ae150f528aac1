# SPDX-License-Identifier: Apache-2.0
"""What one wants to see of a namespace when a scenario failed. Reads only, and never fails itself."""

from e2e.cluster.errors import ClusterError
from e2e.support.kube import Kube
from e2e.support.stack import OPERATOR, OPERATOR_NAMESPACE

LOG_LINES = 60


def diagnose(kube: Kube, namespace: str) -> str:
    """Return conditions, pods, events, logs of the namespace's containers and the operator's log."""
    inside = f"--namespace={namespace}"
    columns = "jsonpath={range .items[*]}{.kind} {.metadata.name} generation {.metadata.generation}{'\\n'}"
    columns += "{range .status.conditions[*]}  {.type}={.status} {.reason}: {.message}{'\\n'}{end}{end}"
    parts = [
        ("conditions", ("get", "compactmodels,retrievalindexes,assistants", inside, f"--output={columns}")),
        ("pods", ("get", "pods,jobs,deployments,statefulsets", inside, "--output=wide")),
        ("events", ("get", "events", inside, "--sort-by=.lastTimestamp")),
        ("pod logs", _logs("--selector=app.kubernetes.io/managed-by=nimblet", inside)),
        ("operator log", _logs(f"deployment/{OPERATOR}", f"--namespace={OPERATOR_NAMESPACE}")),
    ]
    return "\n\n".join(f"--- {title} of {namespace} ---\n{_told(kube, argv)}" for title, argv in parts)


def _logs(what: str, inside: str) -> tuple[str, ...]:
    return ("logs", what, inside, "--all-containers", "--prefix", f"--tail={LOG_LINES}")


def _told(kube: Kube, argv: tuple[str, ...]) -> str:
    try:
        return kube.run(*argv).strip()
    except ClusterError as error:
        return f"({error})"
