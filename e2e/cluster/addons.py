# SPDX-License-Identifier: Apache-2.0
"""What runs inside the native cluster from the start: its images, CoreDNS and the default StorageClass.

Pure manifests; the images are FROM scratch, out of the cached binaries and the system's static busybox.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster.nodeplan import CLUSTER_DOMAIN, DNS_ADDRESS
from e2e.cluster.ociarchive import ScratchImage

REGISTRY = "nimblet.test"
"""No such host exists: these images are only ever imported."""
PAUSE_IMAGE = f"{REGISTRY}/pause:1"
BUSYBOX_IMAGE = f"{REGISTRY}/busybox:1"
COREDNS_IMAGE = f"{REGISTRY}/coredns:v1.12.4"
LOCAL_PATH_IMAGE = f"{REGISTRY}/local-path-provisioner:v0.0.30"

DNS_NAMESPACE = "kube-system"
STORAGE_NAMESPACE = "local-path-storage"
STORAGE_CLASS = "local-path"
SHARED_CLASS = "shared-path"
"""ReadWriteMany: one folder that all nodes share, which a single node has for nothing."""
LATER_CLASS = "made-later"
"""The provisioner knows it, but nobody has made the StorageClass: for tests that make it."""

COREFILE = f"""
.:53 {{
    errors
    health :8080
    ready :8181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }}
    cache 5
    loadbalance
}}
"""
"""No `forward`: nothing outside the cluster is asked, so an unknown name is refused at once."""


def system_images(
    *, busybox: bytes, applets: tuple[str, ...], coredns: bytes, local_path: bytes
) -> list[ScratchImage]:
    """Return the images; `applets` are the names under which busybox is linked in /bin."""
    programs = {"/bin/busybox": busybox}
    links = {f"/bin/{each}": "busybox" for each in applets if each != "busybox"}
    return [
        ScratchImage(PAUSE_IMAGE, programs, ("/bin/busybox", "sleep", "2147483647")),
        ScratchImage(BUSYBOX_IMAGE, programs, (), command=("/bin/sh",), links=links),
        ScratchImage(COREDNS_IMAGE, {"/coredns": coredns}, ("/coredns",)),
        ScratchImage(LOCAL_PATH_IMAGE, {"/local-path-provisioner": local_path}, ("/local-path-provisioner",)),
    ]


def addon_manifests(*, volumes: Path) -> list[dict[str, object]]:
    """Return all objects to apply; `volumes` is the folder on the node for the volumes."""
    return [*dns_manifests(), *storage_manifests(volumes=volumes)]


def dns_manifests() -> list[dict[str, object]]:
    """Return CoreDNS behind the Service kube-dns."""
    rules = [
        {
            "apiGroups": [""],
            "resources": ["endpoints", "services", "pods", "namespaces"],
            "verbs": ["list", "watch"],
        },
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    labels = {"k8s-app": "kube-dns"}
    config = _meta("coredns", DNS_NAMESPACE)
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": config},
        *_cluster_role("coredns", namespace=DNS_NAMESPACE, rules=rules),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": config, "data": {"Corefile": COREFILE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**_meta("kube-dns", DNS_NAMESPACE), "labels": labels},
            "spec": {"clusterIP": DNS_ADDRESS, "selector": labels, "ports": ports},
        },
        _deployment("coredns", namespace=DNS_NAMESPACE, labels=labels, pod=_dns_pod()),
    ]


def storage_manifests(*, volumes: Path) -> list[dict[str, object]]:
    """Return the local-path provisioner, the default StorageClass and a shared one."""
    name = "local-path-provisioner"
    everything = ["get", "list", "watch", "create", "patch", "update", "delete"]
    rules = [
        {
            "apiGroups": [""],
            "resources": ["nodes", "persistentvolumeclaims", "configmaps"],
            "verbs": everything[:3],
        },
        {"apiGroups": [""], "resources": ["pods", "persistentvolumes", "endpoints"], "verbs": everything},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": everything},
        {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": everything[:3]},
    ]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STORAGE_NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(name, STORAGE_NAMESPACE)},
        *_cluster_role(name, namespace=STORAGE_NAMESPACE, rules=rules),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _meta("local-path-config", STORAGE_NAMESPACE),
            "data": _storage_config(volumes),
        },
        _deployment(name, namespace=STORAGE_NAMESPACE, labels={"app": name}, pod=_storage_pod(name)),
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": STORAGE_CLASS,
                "annotations": {
                    "storageclass.kubernetes.io/is-default-class": "true",
                    # `local` volumes get the pod's fsGroup, as a cloud's disks do; hostPath ones don't
                    "defaultVolumeType": "local",
                },
            },
            "provisioner": "rancher.io/local-path",
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Delete",
        },
        shared_class(SHARED_CLASS),
    ]


def shared_class(name: str) -> dict[str, object]:
    """Return a StorageClass of shared folders, bound at once."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "rancher.io/local-path",
        "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Delete",
    }


def _dns_pod() -> dict[str, object]:
    return {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            {
                "name": "coredns",
                "image": COREDNS_IMAGE,
                "imagePullPolicy": "Never",
                "args": ["-conf", "/etc/coredns/Corefile"],
                "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
                "readinessProbe": {
                    "httpGet": {"path": "/ready", "port": 8181},
                    "periodSeconds": 1,
                },
                "resources": {"requests": {"cpu": "50m", "memory": "40Mi"}, "limits": {"memory": "170Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                },
            }
        ],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }


def _storage_pod(name: str) -> dict[str, object]:
    return {
        "serviceAccountName": name,
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            {
                "name": name,
                "image": LOCAL_PATH_IMAGE,
                "imagePullPolicy": "Never",
                "args": [
                    "start",
                    "--config=/etc/config/config.json",
                    f"--service-account-name={name}",
                    f"--helper-image={BUSYBOX_IMAGE}",
                ],
                "env": [
                    {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                    {"name": "CONFIG_MOUNT_PATH", "value": "/etc/config/"},
                ],
                "volumeMounts": [{"name": "config", "mountPath": "/etc/config", "readOnly": True}],
                "resources": {"requests": {"cpu": "10m", "memory": "30Mi"}},
            }
        ],
        "volumes": [{"name": "config", "configMap": {"name": "local-path-config"}}],
    }


def _storage_config(volumes: Path) -> dict[str, str]:
    paths = [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(volumes)]}]
    classes: dict[str, dict[str, object]] = {
        STORAGE_CLASS: {"nodePathMap": paths},
        SHARED_CLASS: {"sharedFileSystemPath": str(volumes)},
        LATER_CLASS: {"sharedFileSystemPath": str(volumes)},
    }
    helper = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper-pod"},
        "spec": {
            "containers": [{"name": "helper-pod", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never"}],
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
        },
    }
    return {
        "config.json": json.dumps({"storageClassConfigs": classes}),
        "setup": '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n',
        "teardown": '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
        "helperPod.yaml": json.dumps(helper),
    }


def _deployment(name: str, *, namespace: str, labels: dict[str, str], pod: dict[str, object]) -> dict[str, object]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(name, namespace),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _cluster_role(
    name: str, *, namespace: str, rules: Sequence[Mapping[str, object]]
) -> tuple[dict[str, object], dict[str, object]]:
    """Return a ClusterRole and its binding to the ServiceAccount of the same name."""
    role_name = f"nimblet-test:{name}"
    group = "rbac.authorization.k8s.io"
    return (
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role_name},
            "rules": list(rules),
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role_name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role_name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    )


def _meta(name: str, namespace: str) -> dict[str, str]:
    return {"name": name, "namespace": namespace}
