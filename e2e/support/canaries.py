# SPDX-License-Identifier: Apache-2.0
"""Looks for what Secrets hold wherever somebody can read who may not read Secrets. Only for tests.

Every Secret of a scenario's namespace counts, what users gave and what the operator made: in clear, in base64 at
any offset (as in `user:password`), and as part of a URL. It decides nothing else.
"""

import base64
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from e2e.cluster.errors import ClusterError
from e2e.support.kube import CHILD_KINDS, Kube
from e2e.support.needles import forms, spilled, words
from e2e.support.stack import NOBODY, OPERATOR, OPERATOR_NAMESPACE, operator_metrics

PUBLIC_KEYS: Final = ("ca.crt", "tls.crt")
"""Keys of Secrets whose values are for everybody."""
KINDS: Final = f"compactmodels,retrievalindexes,assistants,statefulsets,events,{CHILD_KINDS}"
ENDPOINTS: Final = ("gateway", "retriever")
"""Components whose /metrics needs no key."""
KIND_LOGS, KIND_VOLUMES = "/var/log/pods", "/var/local-path-provisioner"


class _Object(BaseModel):
    model_config = ConfigDict(extra="allow")

    kind: str
    metadata: dict[str, JsonValue]
    data: dict[str, str] | None = None
    spec: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.kind} {self.metadata['name']}"

    @property
    def proxied(self) -> str:
        """A Service of ours, as the API server's proxy wants it named."""
        name = self.metadata["name"]
        return f"https:{name}:https" if '"name": "https"' in json.dumps(self.spec.get("ports")) else f"{name}:http"


class _Objects(BaseModel):
    items: list[_Object]


@dataclass
class Canaries:
    """Looks at namespaces before they go; `needles` is what all of them held so far."""

    kube: Kube
    needles: dict[str, str] = field(default_factory=dict)

    def look(self, namespace: str) -> list[str]:
        """Return where values of this namespace's Secrets are seen that should stand nowhere else."""
        listed = self.kube.run("get", KINDS, f"--namespace={namespace}", "--output=json")
        objects = _Objects.model_validate_json(listed).items
        own = {form: where for where, word in _secrets(objects, namespace) for form in forms(word)}
        self.needles |= own
        texts = {
            f"{item.title} of {namespace}": item.model_dump_json() for item in objects if item.kind != "Secret"
        }
        texts[f"the logs of {namespace}"] = self._logs(namespace)
        texts["the operator's log"] = self._logs(OPERATOR_NAMESPACE)
        texts["the command line of a process"] = self._run(
            ("find", "/proc", "-maxdepth", "2", "-name", "cmdline", "-exec", "cat", "{}", "+")
        )
        texts |= {f"the metrics of {name}": text for name, text in self._metrics(objects, namespace)}
        return [*spilled(own, texts), *self._volumes(own, namespace)]

    def finish(self) -> list[str]:
        """Return where values of any namespace are seen in what the operator tells of all of them."""
        self.kube.rolled_out(OPERATOR, OPERATOR_NAMESPACE)
        listed = self.kube.run("get", "events", "--all-namespaces", "--output=json")
        told = {
            "the operator's log": self._logs(OPERATOR_NAMESPACE),
            "the operator's metrics": operator_metrics(self.kube),
            "the cluster's events": listed,
        }
        print(f"canaries: looked for {len(self.needles)} forms of what Secrets held")
        return spilled(self.needles, told)

    def _logs(self, namespace: str) -> str:
        """Return the logs of all containers of a namespace that the node still has."""
        folder = KIND_LOGS if self.kube.cluster.on_kind else str(self.kube.cluster.plan.pod_logs)
        named = ("-path", f"{folder}/{namespace}_*", "-name", "*.log")
        return self._run(("find", folder, *named, "-exec", "cat", "{}", "+"))

    def _volumes(self, needles: Mapping[str, str], namespace: str) -> list[str]:
        """Return which files on claims of a namespace hold one of these."""
        root = KIND_VOLUMES if self.kube.cluster.on_kind else str(self.kube.cluster.plan.volumes)
        found = self._run(("find", root, "-maxdepth", "1", "-name", f"*_{namespace}_*")).split()
        if not (found and needles):
            return []
        argv = ("grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", "--file=-", *found)
        return [f"a Secret's value in {name}" for name in self._run(argv, text="\n".join(needles)).splitlines()]

    def _metrics(self, objects: Sequence[_Object], namespace: str) -> Iterator[tuple[str, str]]:
        for item in objects:
            labels = item.metadata.get("labels")
            component = labels.get("app.kubernetes.io/component") if isinstance(labels, dict) else None
            if item.kind == "Service" and component in ENDPOINTS:
                path = f"/api/v1/namespaces/{namespace}/services/{item.proxied}/proxy/metrics"
                try:
                    yield str(item.metadata["name"]), self.kube.run("get", "--raw", path)
                except ClusterError as error:  # a test may leave nobody there, and nothing is read then
                    if not any(phrase in str(error) for phrase in NOBODY):
                        raise

    def _run(self, argv: Sequence[str], *, text: str = "") -> str:
        """Run a program on the node; files that vanish meanwhile are no failure."""
        argv = self.kube.cluster.nsenter(argv)
        return subprocess.run(
            argv, input=text, capture_output=True, text=True, errors="replace", check=False
        ).stdout


def _secrets(objects: Sequence[_Object], namespace: str) -> Iterator[tuple[str, str]]:
    """Yield where a word of a Secret is from, and the word."""
    for item in objects:
        if item.kind == "Secret":
            for key, encoded in (item.data or {}).items():
                if key not in PUBLIC_KEYS:
                    # what is no text is looked for as its own base64
                    for word in words(_text(encoded)):
                        yield f"{namespace}/{item.metadata['name']}/{key}", word


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode()
    except UnicodeDecodeError:
        return encoded


def none_seen(found: Sequence[str]) -> None:
    """Fail where anything was found, without a value in the words."""
    if found:
        raise AssertionError(json.dumps({"values of Secrets are seen": list(found)}, indent=1))
