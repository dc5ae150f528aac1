# SPDX-License-Identifier: Apache-2.0
"""What other people do to a namespace: quotas, limits, Secrets, and a party that changes pods as they are made.

Each function makes a row's `spoil` or `mend`. A change of admission counts only once the API server enforces it,
which a dry run shows.
"""

import json
from collections.abc import Mapping
from typing import Final

from e2e.cluster.errors import ClusterError
from e2e.matrix.play import Act
from e2e.matrix.scene import NAME, SERVER, Scene
from e2e.support.hub import HUB_HOST
from e2e.support.manifests import Manifest
from e2e.support.wait import until
from nimblet import labels

MOUNTED_CONFIGS: Final = 2
"""The fetch policy and the artifact."""

VALID_TOKEN: Final = "hf_demo_token"
OLD_TOKEN: Final = "hf_expired_token"
MISSING_IMAGE: Final = "nimblet.local/registry-mirror:does-not-exist"
ADMISSION: Final = "admissionregistration.k8s.io/v1beta1"
ENFORCED_SECONDS: Final = 120.0
PROBE: Final[Manifest] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "probe"},
    "spec": {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "probe",
                "image": "nimblet.local/probe:1",
                "resources": {"limits": {"cpu": "50m", "memory": "192Mi"}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}
"""What a dry run makes: a pod that the namespace admits by itself."""


def _probed(scene: Scene) -> str:
    """Return the pod that a dry run gives, as JSON, or why it was refused."""
    argv = ("create", f"--namespace={scene.namespace}", "--filename=-", "--dry-run=server", "--output=json")
    try:
        return scene.kube.run(*argv, text=json.dumps(PROBE))
    except ClusterError as error:
        return str(error)


def _enforced(scene: Scene, sign: str, *, there: bool) -> None:
    """Wait until a dry run shows that an admission is enforced, or no longer."""
    what = f"{sign!r} {'in' if there else 'gone from'} the admission of pods"
    until(lambda: (sign in _probed(scene)) is there, what=what, seconds=ENFORCED_SECONDS)


def _object(version: str, kind: str, name: str, body: Mapping[str, object], *, namespace: str = "") -> Manifest:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **body}


def quota(scene: Scene) -> None:
    """Allow the namespace not one pod more."""
    spec = {"spec": {"hard": {"pods": "0"}}}
    scene.put(_object("v1", "ResourceQuota", "full", spec, namespace=scene.namespace))
    _enforced(scene, "exceeded quota", there=True)


def no_quota(scene: Scene) -> None:
    """Lift the quota."""
    scene.delete("resourcequota", "full")
    _enforced(scene, "exceeded quota", there=False)


def limits(scene: Scene) -> None:
    """Allow a container less memory than any of ours has."""
    spec = {"spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]}}
    scene.put(_object("v1", "LimitRange", "small", spec, namespace=scene.namespace))
    _enforced(scene, "maximum memory usage", there=True)


def no_limits(scene: Scene) -> None:
    """Lift the limits."""
    scene.delete("limitrange", "small")
    _enforced(scene, "maximum memory usage", there=False)


def _meddle(scene: Scene, patch: str, *, sign: str) -> None:
    """Let the API server change every pod made in the namespace, as an injector or a registry mirror does."""
    here = {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy = {
        "matchConstraints": {"namespaceSelector": here, "resourceRules": [rule]},
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
    }
    scene.kube.apply(_object(ADMISSION, "MutatingAdmissionPolicy", scene.namespace, {"spec": policy}))
    binding = {"spec": {"policyName": scene.namespace}}
    scene.kube.apply(_object(ADMISSION, "MutatingAdmissionPolicyBinding", scene.namespace, binding))
    _enforced(scene, sign, there=True)


def _left_alone(scene: Scene, *, sign: str) -> None:
    scene.delete("mutatingadmissionpolicybinding,mutatingadmissionpolicy", scene.namespace)
    _enforced(scene, sign, there=False)


def injector(scene: Scene) -> None:
    """Add a privileged sidecar to every pod: Pod Security judges what comes out."""
    sidecar = 'Object.spec.containers{name: "sidecar", image: "nimblet.local/sidecar:1", '
    sidecar += "securityContext: Object.spec.containers.securityContext{privileged: true}}"
    _meddle(scene, f'[JSONPatch{{op: "add", path: "/spec/containers/-", value: {sidecar}}}]', sign="PodSecurity")


def no_injector(scene: Scene) -> None:
    """Take the injector away."""
    _left_alone(scene, sign="PodSecurity")


def lost_image(scene: Scene) -> None:
    """Point every pod's first container to an image that does not exist, as a broken registry mirror would."""
    patch = f'[JSONPatch{{op: "replace", path: "/spec/containers/0/image", value: "{MISSING_IMAGE}"}}]'
    _meddle(scene, patch, sign=MISSING_IMAGE)


def found_image(scene: Scene) -> None:
    """Let pods have their own images again."""
    _left_alone(scene, sign=MISSING_IMAGE)


def secret(name: str, token: str = VALID_TOKEN, *, usable: bool = True) -> Act:
    """Make a Secret with a token, with the label that lets us use it or without."""

    def act(scene: Scene) -> None:
        made = _object("v1", "Secret", name, {"stringData": {"token": token}})
        marks = {"labels": {labels.USE: "true" if usable else "false"}, "annotations": {labels.HOSTS: HUB_HOST}}
        scene.put({**made, "metadata": {"name": name, "namespace": scene.namespace, **marks}})

    return act


def no_secret(name: str) -> Act:
    """Delete a Secret."""
    return lambda scene: scene.delete("secret", name)


def both(*acts: Act) -> Act:
    """Do several acts in order."""

    def act(scene: Scene) -> None:
        for each in acts:
            each(scene)

    return act


def lost_config(scene: Scene) -> None:
    """Delete every ConfigMap that the model's pods mount."""
    scene.kube.run(
        "delete",
        "configmaps",
        f"--namespace={scene.namespace}",
        f"--selector={labels.MODEL}={NAME}",
        "--wait=false",
    )


def config_is_back(scene: Scene) -> bool:
    """Tell whether the policy and the artifact are there, and not on their way out."""
    selector = f"--selector={labels.MODEL}={NAME}"
    listed = scene.kube.run(
        "get",
        "configmaps",
        f"--namespace={scene.namespace}",
        selector,
        "--output=jsonpath={.items[*].metadata.name}",
    )
    return len(listed.split()) == MOUNTED_CONFIGS


def overfilled(scene: Scene) -> None:
    """Write more into a serving pod's scratch volume than its limit allows: the kubelet evicts the pod."""
    fill = ("sh", "-c", "head -c 80000000 /dev/zero > /tmp/fill")
    inside = f"--namespace={scene.namespace}"
    scene.kube.run("exec", f"deployment/{SERVER}", inside, "--container=server", "--", *fill)
