# SPDX-License-Identifier: Apache-2.0
"""Has the pods of a finished manifest speak TLS. Pure: a manifest in, another one out.

Like confine.py it works on any manifest with a pod template: what serves is known by its component. Which
certificate there is, and when another one comes, is decided in plan/transport.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nimblet import labels
from nimblet.manifests.common import Manifest, Part, metadata
from nimblet.manifests.template import content_revision

SECRET_TYPE: Final = "kubernetes.io/tls"  # noqa: S105 - a type, not a secret
TLS_DIR: Final = "/etc/nimblet/tls"
CERTIFICATE_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"
AUTHORITIES_FILE: Final = "ca.crt"
VOLUME: Final = "tls"
TLS: Final = "tls"
"""Value of the label TRANSPORT."""
HTTPS: Final = "https"
HTTPS_PORT: Final = 443
PLAIN_PORT: Final = 80
DIGITS: Final = 12
"""Of a certificate's fingerprint in an annotation."""
PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
_LLAMA_SERVER: Final = (
    "--ssl-key-file",
    f"{TLS_DIR}/{KEY_FILE}",
    "--ssl-cert-file",
    f"{TLS_DIR}/{CERTIFICATE_FILE}",
)
"""tools/server/README.md of llama.cpp; it reads them once."""
_OURS: Final = ("--tls", TLS_DIR)
_VLLM: Final = ("--ssl-keyfile", f"{TLS_DIR}/{KEY_FILE}", "--ssl-certfile", f"{TLS_DIR}/{CERTIFICATE_FILE}")
"""vllm/entrypoints/openai/cli_args.py; left to read them once, as its refresh can't be tried here."""
ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "LlamaCpp": _LLAMA_SERVER,
    "VLLM": _VLLM,
    "gateway": _OURS,
    "retriever": _OURS,
    "indexer": _OURS,
    "qdrant": (),
}
"""What a program is told: a model's by its runtime, any other by its component. TGI has no such option; Qdrant is
told by its environment."""
READS_ONCE: Final = frozenset({"model"})
"""Components whose program never looks at its certificate again: another certificate rolls their pods."""
CLIENTS: Final = frozenset({"indexer"})
"""Components that only ask: they see the authorities, and neither key nor certificate."""


@dataclass(frozen=True, kw_only=True)
class Secured:
    """The Secret with the certificate, and the fingerprint of what it holds."""

    secret: str
    certificate: str


def tls_secret_manifest(
    part: Part, *, name: str, data: Mapping[str, str], annotations: Mapping[str, str]
) -> Manifest:
    """Return the Secret with key, certificate and trusted authorities, in base64."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(name, part.namespace, labels_=part.labels, annotations=annotations),
        "type": SECRET_TYPE,
        "data": dict(data),
    }


def secured_service(service: Manifest) -> Manifest:
    """Return a Service whose port says that it speaks TLS."""
    spec = _part(service, "spec")
    ports = [
        {**port, "name": HTTPS, "port": HTTPS_PORT if port["port"] == PLAIN_PORT else port["port"]}
        for port in _list(spec, "ports")
    ]
    return {**service, "spec": {**spec, "ports": ports}}


def secured(manifest: Manifest, tls: Secured, *, runtime: str = "") -> Manifest:
    """Return a workload whose pods serve HTTPS, or ask servers that do. `runtime`: of a model's or a set's pods.

    Its pods' REVISION is new, where it has one. The program is that of the first container.
    """
    spec, meta = _part(manifest, "spec"), _part(manifest, "metadata")
    template = _part(spec, "template")
    head, pod = _part(template, "metadata"), _part(template, "spec")
    component = str(_part(head, "labels")[labels.COMPONENT])
    pod = _pod(pod, tls, client=component in CLIENTS, arguments=ARGUMENTS[runtime or component])
    own = {key: value for key, value in _part(head, "labels").items() if key != labels.REVISION}
    marks: Manifest = {}
    annotations = _part(head, "annotations") if "annotations" in head else {}
    if component not in CLIENTS:
        own[labels.TRANSPORT] = TLS
    if component in READS_ONCE:
        annotations = {**annotations, labels.CERTIFICATE: tls.certificate[:DIGITS]}
    if labels.REVISION in _part(head, "labels"):
        marks[labels.REVISION] = content_revision(labels_=own, annotations=annotations, spec=pod)
        meta = {**meta, "labels": {**_part(meta, "labels"), **marks}}
    new_head: Manifest = {**head, "labels": {**own, **marks}}
    if annotations:
        new_head["annotations"] = annotations
    return {
        **manifest,
        "metadata": meta,
        "spec": {**spec, "template": {**template, "metadata": new_head, "spec": pod}},
    }


def _pod(pod: Manifest, tls: Secured, *, client: bool, arguments: Sequence[str]) -> Manifest:
    source: Manifest = {"secretName": tls.secret, "defaultMode": 0o440}
    if client:
        source["items"] = [{"key": AUTHORITIES_FILE, "path": AUTHORITIES_FILE}]
    server, *others = _list(pod, "containers")
    return {
        **pod,
        "containers": [_container(server, arguments), *others],
        "volumes": [*_list(pod, "volumes"), {"name": VOLUME, "secret": source}],
    }


def _container(server: Manifest, arguments: Sequence[str]) -> Manifest:
    done: Manifest = {
        **server,
        "args": [*_texts(server, "args"), *arguments],
        "volumeMounts": [
            *_list(server, "volumeMounts"),
            {"name": VOLUME, "mountPath": TLS_DIR, "readOnly": True},
        ],
    }
    for name in PROBES:
        if name in server:
            probe = _part(server, name)
            done[name] = {**probe, "httpGet": {**_part(probe, "httpGet"), "scheme": "HTTPS"}}
    return done


def _part(whole: Mapping[str, object], key: str) -> Manifest:
    part = whole[key]
    if not isinstance(part, dict):
        raise TypeError(f"expected {key} to be a dict, found {type(part).__name__}")
    return part


def _list(whole: Mapping[str, object], key: str) -> list[Manifest]:
    listed = whole[key]
    if not isinstance(listed, list):
        raise TypeError(f"expected {key} to be a list, found {type(listed).__name__}")
    return listed


def _texts(whole: Mapping[str, object], key: str) -> list[str]:
    return [str(item) for item in _list(whole, key)]
