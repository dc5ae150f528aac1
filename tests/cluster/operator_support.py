# SPDX-License-Identifier: Apache-2.0
"""A stub model server, kwok Stages that play resolver and model pods, and operator processes. Only for tests."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Final

from e2e.cluster.api import Api, Manifest
from e2e.cluster.errors import ApiError
from e2e.cluster.kwok import POD_COMPLETE_STATUS, POD_READY_STATUS, requirement, stage_manifest
from e2e.cluster.paths import cache_of
from nimblet import labels
from nimblet.cluster.permissions import ISSUER_PERMISSIONS, PERMISSIONS, Permission, Scope
from nimblet.cluster.resources import resource_of
from tests.builders import artifact_text
from tests.cluster.stub_server import Stub

ROOT = Path(__file__).parents[2]
RESYNC_SECONDS = 5
TIMING = {"resyncSeconds": RESYNC_SECONDS, "probeRetrySeconds": 1, "retryBaseSeconds": 2, "stableSeconds": 1}
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 120.0
"""For what nothing promises a time: on a busy machine the start of a process alone may take a minute."""
NAMESPACE = "nimblet-system"
OPERATOR_USER = "operator"
RBAC = "rbac.authorization.k8s.io"
MISSING_REPOSITORY = "missing"
"""A CompactModel of this name has a resolver that finds no repository."""
NOT_FOUND = '{"version":1,"error":{"reason":"RepositoryNotFound","message":"No repository org/repo."}}'
BUILT = '{"version":1,"documents":2,"passages":12,"sources":[{"name":"docs","hash":"h1","documents":2}]}'
"""What an indexer tells of a build that ended well."""
COLLECTIONS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "Pod": "/api/v1/namespaces/{}/pods",
}
DEFECTS = ("Traceback", " ERROR ", " CRITICAL ", "Warning:", "never awaited", "Unclosed")
RETRY = "ERROR   Request attempt #"
"""How kopf tells that it tries a request again: no defect where the API server is away."""


FAILING: Final[Mapping[str, str]] = {labels.MODEL: MISSING_REPOSITORY, labels.INDEX: MISSING_REPOSITORY}


NO_ARTIFACTS: Final[Mapping[str, str]] = {}


def stages(
    *, failing: Mapping[str, str] = FAILING, artifacts: Mapping[str, str] = NO_ARTIFACTS
) -> tuple[dict[str, object], ...]:
    """Return Stages: pods that show a container id, and Jobs' pods that end with a loader's or an indexer's words.

    A Job whose pod has one of the labels `failing` with that value finds no repository; one of a model in
    `artifacts` finds that, any other SmolLM2.
    """
    alive = requirement(".metadata.deletionTimestamp", "DoesNotExist")
    of_job = requirement(".metadata.ownerReferences.[].kind", "In", "Job")

    def either(bad: str, good: str) -> str:
        # Stages see a pod's container only inside a range, so `$` names the pod.
        values = (
            f'(eq (printf "%v" (index $.metadata.labels "{key}")) "{value}")' for key, value in failing.items()
        )
        return f"{{{{ if or {' '.join(values)} }}}}{bad}{{{{ else }}}}{good}{{{{ end }}}}"

    resolved = artifact_text()
    for name, text in artifacts.items():
        of_model = f'eq (printf "%v" (index $.metadata.labels "{labels.MODEL}")) "{name}"'
        resolved = f"{{{{ if {of_model} }}}}{text}{{{{ else }}}}{resolved}{{{{ end }}}}"
    found = f'{{{{ if index $.metadata.labels "{labels.INDEX}" }}}}{BUILT}{{{{ else }}}}{resolved}{{{{ end }}}}'
    code, words = either("20", "0"), either(NOT_FOUND, found)
    completed = POD_COMPLETE_STATUS.replace("Succeeded", either("Failed", "Succeeded")).replace(
        "exitCode: 0, reason: Completed,", f"exitCode: {code}, reason: Completed, message: '{words}',"
    )
    ready = POD_READY_STATUS.replace(
        "  started: true\n  state: {running", "  containerID: stub://1\n  started: true\n  state: {running"
    )
    not_ready = requirement('.status.conditions.[] | select( .type == "Ready" ) | .status', "NotIn", "True")
    pending = requirement(".status.phase", "In", "Pending")
    placed = requirement(".spec.nodeName", "Exists")
    running = requirement(".status.phase", "In", "Running")
    return (
        stage_manifest(
            name="pod-ready",
            kind="Pod",
            selector=[alive, pending, not_ready, placed],
            following={"statusTemplate": ready},
        ),
        stage_manifest(
            name="pod-complete",
            kind="Pod",
            selector=[alive, running, of_job],
            following={"statusTemplate": completed},
        ),
    )


def grant_least_rights(api: Api) -> None:
    """Give OPERATOR_USER what permissions.py lists and nothing else."""
    grant_wide_rights(api)
    grant_own_rights(api, NAMESPACE)


def grant_wide_rights(api: Api) -> None:
    """Give OPERATOR_USER its rights outside of its own namespace."""
    listed = (*PERMISSIONS, *ISSUER_PERMISSIONS)
    _grant(api, "ClusterRole", "", [each for each in listed if each.scope is not Scope.OWN])


def grant_own_rights(api: Api, namespace: str) -> None:
    """Give OPERATOR_USER the rights in the namespace that the operator runs in."""
    _grant(api, "Role", f"/namespaces/{namespace}", [each for each in PERMISSIONS if each.scope is Scope.OWN])


def _grant(api: Api, kind: str, base: str, permissions: Sequence[Permission]) -> None:
    root = f"/apis/{RBAC}/v1{base}/{kind.lower()}"
    head: dict[str, object] = {"apiVersion": f"{RBAC}/v1", "metadata": {"name": OPERATOR_USER}}
    rules = [
        {
            "apiGroups": [each.group],
            "resources": [each.resource],
            "verbs": list(each.verbs),
            "resourceNames": list(each.names),
        }
        for each in permissions
    ]
    subject = {"kind": "User", "name": OPERATOR_USER, "apiGroup": RBAC}
    reference = {"apiGroup": RBAC, "kind": kind, "name": OPERATOR_USER}
    api.create(f"{root}s", {**head, "kind": kind, "rules": rules})
    api.create(f"{root}bindings", {**head, "kind": f"{kind}Binding", "roleRef": reference, "subjects": [subject]})


ANSWER_SECONDS: Final = 60.0
"""For an answer of the operator's own port: who takes none for a 0 counts resyncs from nothing."""
PORT_LINE: Final = re.compile(r"metrics and probes on port (\d+)")


@dataclass
class Process:
    """A running operator."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def port(self) -> int:
        """The port that it listens on, as its log tells; 0 while it does not say.

        The operator takes a free one itself: one that is chosen before may be anybody's when it is bound.
        """
        found = PORT_LINE.search(self.log.read_text(encoding="utf-8"))
        return int(found.group(1)) if found is not None else 0

    def metric(self, line: str) -> float:
        """Return the value of a metric's sample, 0 where it is not exposed yet."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/metrics", timeout=ANSWER_SECONDS
            ) as response:
                text = response.read().decode()
        except OSError:
            return 0.0
        found = [row for row in text.splitlines() if row.startswith(f"{line} ")]
        return float(found[0].split()[-1]) if found else 0.0

    def probe(self, path: str) -> int:
        """Return the HTTP status of a probe, 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=ANSWER_SECONDS) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def terminate(self, seconds: float = 30.0) -> int:
        """Ask it to stop; return the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(seconds)

    def kill(self) -> None:
        """End it as a crash would."""
        self.popen.kill()
        self.popen.wait(10)


@dataclass
class Launcher:
    """Starts operators against one control plane, and ends those that are left."""

    kubeconfig: Path
    stub: Stub
    directory: Path
    namespace: str = NAMESPACE
    timing: Mapping[str, int] = field(default_factory=lambda: TIMING)
    more: Mapping[str, object] = field(default_factory=dict)
    """Further settings."""
    started: list[tuple[Process, IO[bytes]]] = field(default_factory=list)

    def start(self, *flags: str, elect: bool = False) -> Process:
        """Start one operator; its log lies in the test's folder."""
        number = len(self.started)
        settings = self.directory / "settings.yaml"
        access = {"operatorNamespace": self.namespace}
        settings.write_text(
            json.dumps({"timing": dict(self.timing), "access": access, **self.more}), encoding="utf-8"
        )
        log = self.directory / f"operator-{number}.log"
        argv = [sys.executable, "-m", "tests.cluster.operator_process", self.stub.url]
        argv += ["--settings", str(settings), "--kubeconfig", str(self.kubeconfig), "--metrics-port", "0"]
        argv += [*(() if elect else ("--no-leader-election",)), *flags]
        output = log.open("wb")
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}",
            "PYTHONWARNINGS": "default",
            # dozens of starts: compile once, whatever the caller's environment says, and not into the tree
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(cache_of(os.environ).root / "pycache"),
        }
        popen = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        process = Process(popen=popen, log=log)
        self.started.append((process, output))
        return process

    def end_all(self) -> None:
        """End what still runs."""
        for process, output in self.started:
            if process.popen.poll() is None:
                process.kill()
            output.close()

    def flaws(self) -> list[str]:
        """Return the lines of all logs that tell of a defect."""
        logs = [process.log.read_text(encoding="utf-8") for process, _ in self.started]
        lines = [line for log in logs for line in log.splitlines() if RETRY not in line]
        return [line for line in lines if any(word in line for word in DEFECTS)]


SMALLEST: Mapping[str, Mapping[str, object]] = {
    "Assistant": {"modelRef": {"name": "small"}, "grounding": "Off"},
    "CompactModel": {"source": {"uri": "hf://org/repo"}},
    "RetrievalIndex": {
        "store": {"type": "External", "url": "https://huggingface.co/qdrant"},
        "embedding": {"url": "https://huggingface.co/v1", "model": "minilm"},
        "sources": [{"name": "docs", "configMap": {"name": "handbook"}}],
    },
}
"""Kind → a spec that is enough."""


@dataclass(frozen=True)
class View:
    """The API server's view of one namespace, and of our resources of one kind there."""

    api: Api
    namespace: str
    kind: str = "CompactModel"

    def of(self, kind: str) -> "View":
        """Return the view of another kind."""
        return View(api=self.api, namespace=self.namespace, kind=kind)

    def models(self) -> str:
        return f"/apis/{labels.API_VERSION}/namespaces/{self.namespace}/{resource_of(self.kind).plural}"

    def create(self, name: str, **spec: object) -> None:
        manifest: dict[str, object] = {
            "apiVersion": labels.API_VERSION,
            "kind": self.kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {**SMALLEST[self.kind], **spec},
        }
        self.api.create(self.models(), manifest)

    def respec(self, name: str, spec: Mapping[str, object]) -> None:
        """Replace the whole spec but what `create` needs: a field that is not named is absent from then on."""
        whole = {**SMALLEST[self.kind], **spec}
        self.change(f"{self.models()}/{name}", lambda seen: {**seen, "spec": whole})

    def edit(self, name: str, *, annotations: Mapping[str, str] | None = None, **spec: object) -> None:
        """Set top-level fields of the spec, and annotations, as `kubectl edit` does: read, replace."""

        def edited(seen: Any) -> Manifest:
            metadata = {**seen["metadata"], "annotations": dict(annotations or {})}
            return {**seen, "metadata": metadata, "spec": {**seen["spec"], **spec}}

        self.change(f"{self.models()}/{name}", edited)

    def scale(self, name: str, replicas: int) -> None:
        """Set the replicas as `kubectl scale` and an HPA do: read /scale, replace /scale."""
        self.change(f"{self.models()}/{name}/scale", lambda seen: {**seen, "spec": {"replicas": replicas}})

    def change(self, path: str, edited: Callable[[Any], Manifest]) -> None:
        """Read and replace; again where somebody wrote between the two."""
        change(self.api, path, edited)

    def model(self, name: str) -> Any:
        return self.api.get(f"{self.models()}/{name}")

    def condition(self, name: str, type_: str) -> tuple[str, str] | None:
        """Return a condition's status and reason, None while there is none."""
        return condition_of(self.model(name), type_)

    def is_ready(self, name: str) -> bool:
        """Tell whether the model is Ready as it is written now: by one read, for between two it may change."""
        model = self.model(name)
        fresh = (model.get("status") or {}).get("observedGeneration") == model["metadata"]["generation"]
        return fresh and condition_of(model, "Ready") == ("True", "Ready")

    def children(self, kind: str) -> dict[str, Any]:
        """Return our objects of a kind by name."""
        path = COLLECTIONS[kind].format(self.namespace)
        listed: Any = self.api.get(f"{path}?labelSelector={labels.MANAGED_SELECTOR}")
        return {item["metadata"]["name"]: item for item in listed["items"]}

    def objects(self) -> Mapping[str, Any]:
        """Return all our objects and resources, by kind and name."""
        found: dict[str, Any] = {}
        for own in SMALLEST:
            listed: Any = self.api.get(self.of(own).models())
            found |= {f"{own}/{item['metadata']['name']}": item for item in listed["items"]}
        for kind in COLLECTIONS:
            found |= {f"{kind}/{name}": item for name, item in self.children(kind).items()}
        return dict(sorted(found.items()))

    def versions(self) -> Mapping[str, str]:
        """Return the resourceVersions of all our objects and resources."""
        return {name: item["metadata"]["resourceVersion"] for name, item in self.objects().items()}

    def path(self, kind: str, name: str) -> str:
        return f"{COLLECTIONS[kind].format(self.namespace)}/{name}"

    def is_gone(self, path: str) -> bool:
        try:
            self.api.get(path)
        except ApiError as error:
            return error.status == HTTPStatus.NOT_FOUND
        return False


def change(api: Api, path: str, edited: Callable[[Any], Manifest], *, part: str = "") -> None:
    """Read and replace an object, or a part of it such as /status; again where somebody wrote between the two."""
    while True:
        try:
            api.replace(f"{path}{part}", edited(api.get(path)))
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
        else:
            return


def condition_of(model: Any, type_: str) -> tuple[str, str] | None:
    """Return a condition's status and reason, None while there is none."""
    found = [item for item in (model.get("status") or {}).get("conditions", ()) if item["type"] == type_]
    return (found[0]["status"], found[0]["reason"]) if found else None


def eventually(condition: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS, what: str) -> None:
    """Return once `condition` holds; AssertionError names `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"expected {what} within {seconds:g} s"
        time.sleep(POLL_SECONDS)
