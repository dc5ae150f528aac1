# SPDX-License-Identifier: Apache-2.0
"""Plays cert-manager: its definition with the fields that we use, and what it writes for a Certificate. For tests.

What cert-manager itself makes of our Certificates is shown by e2e/certmanager, which takes long to build.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from nimblet.cluster.pki import ENTROPY_BYTES, Authority, issue, make_authority, secret_data
from nimblet.manifests.certificate import API_VERSION, GROUP, ISSUER_NAME
from tests.cluster.crd_support import CRDS, Object, install
from tests.cluster.operator_support import View, change

DEFINITION: Final = f"certificates.{GROUP}"
TEXT: Final = {"type": "string"}
TEXTS: Final = {"type": "array", "items": TEXT}


def _object(**properties: object) -> Object:
    return {"type": "object", "properties": properties}


SPEC: Final = _object(
    secretName=TEXT,
    dnsNames=TEXTS,
    duration=TEXT,
    renewBefore=TEXT,
    privateKey=_object(algorithm=TEXT, size={"type": "integer"}, rotationPolicy=TEXT),
    usages=TEXTS,
    issuerRef=_object(name=TEXT, kind=TEXT, group=TEXT),
    secretTemplate=_object(annotations={"type": "object", "additionalProperties": TEXT}),
)
CONDITION: Final = _object(
    type=TEXT,
    status=TEXT,
    reason=TEXT,
    message=TEXT,
    lastTransitionTime=TEXT,
    observedGeneration={"type": "integer"},
)
STATUS: Final = _object(conditions={"type": "array", "items": CONDITION}, revision={"type": "integer"})


def install_definition(view: View) -> None:
    """Make the cluster know Certificates."""
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": _object(spec=SPEC, status=STATUS)},
    }
    names = {
        "kind": "Certificate",
        "plural": "certificates",
        "singular": "certificate",
        "listKind": "Certificates",
    }
    manifest: Object = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": DEFINITION},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }
    install(view.api, manifest)


def remove_definition(view: View) -> None:
    """Take the definition away, and all Certificates with it."""
    view.api.delete(f"{CRDS}/{DEFINITION}")


@dataclass
class Issuing:
    """What cert-manager does for the Certificates of one namespace."""

    view: View
    authority: Authority = field(
        default_factory=lambda: make_authority(
            entropy=os.urandom(ENTROPY_BYTES), now=datetime.now(UTC), seconds=365 * 86400
        )
    )
    revision: int = 0

    def path(self, name: str) -> str:
        return f"/apis/{API_VERSION}/namespaces/{self.view.namespace}/certificates/{name}"

    def certificate(self, name: str) -> Any:
        return self.view.api.get(self.path(name))

    def tell(self, name: str, *conditions: Mapping[str, object]) -> None:
        """Write a status about the spec as it is."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

        def told(found: Any) -> Object:
            common = {"lastTransitionTime": now, "observedGeneration": found["metadata"]["generation"]}
            status = {"conditions": [{**common, **item} for item in conditions], "revision": self.revision}
            return {**found, "status": status}

        change(self.view.api, self.path(name), told, part="/status")

    def fail(self, name: str, words: str) -> None:
        """Tell that issuing failed."""
        missing = {"type": "Ready", "status": "False", "reason": "DoesNotExist", "message": "no Secret"}
        self.tell(name, missing, {"type": "Issuing", "status": "False", "reason": "Failed", "message": words})

    def issue(self, name: str, *, leaving_out: Sequence[str] = ()) -> None:
        """Fill the Secret as cert-manager does, and tell of it."""
        spec = self.certificate(name)["spec"]
        leaf = issue(
            self.authority,
            names=spec["dnsNames"],
            entropy=os.urandom(ENTROPY_BYTES),
            now=datetime.now(UTC),
            seconds=90 * 86400,
        )
        data = secret_data(leaf, self.authority.certificate)
        annotations = {**spec["secretTemplate"]["annotations"], ISSUER_NAME: spec["issuerRef"]["name"]}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "annotations": annotations},
            "type": "kubernetes.io/tls",
            "data": {key: text for key, text in data.items() if key not in leaving_out},
        }
        self.view.api.apply(self.view.path("Secret", name), secret, manager="cert-manager")
        self.revision += 1
        message = "Certificate is up to date and has not expired"
        self.tell(name, {"type": "Ready", "status": "True", "reason": "Ready", "message": message})
