# SPDX-License-Identifier: Apache-2.0
"""What runs in the native cluster from the start."""

import json
from pathlib import Path

from e2e.cluster import addons

MANIFESTS = addons.addon_manifests(volumes=Path("/state/volumes"))


def of_kind(kind: str) -> list[dict[str, object]]:
    return [each for each in MANIFESTS if each["kind"] == kind]


def test_there_is_one_default_storage_class() -> None:
    found, shared = of_kind("StorageClass")
    metadata = found["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    assert found["volumeBindingMode"] == "WaitForFirstConsumer"
    assert "is-default-class" not in str(shared["metadata"])


def test_no_image_is_ever_pulled() -> None:
    text = json.dumps(of_kind("Deployment"))
    assert text.count('"imagePullPolicy": "Never"') == text.count('"image": ') == 2
    images = addons.system_images(busybox=b"b", applets=("sh", "busybox"), coredns=b"c", local_path=b"l")
    assert all(
        f'"{each.name}"' in text + json.dumps(of_kind("ConfigMap")).replace("\\", "") for each in images[1:]
    )


def test_busybox_is_linked_under_its_applets_but_not_over_itself() -> None:
    images = addons.system_images(busybox=b"b", applets=("sh", "busybox"), coredns=b"c", local_path=b"l")
    assert [dict(each.links) for each in images] == [{}, {"/bin/sh": "busybox"}, {}, {}]


def test_dns_answers_at_the_address_that_pods_are_told() -> None:
    (service,) = of_kind("Service")
    spec = service["spec"]
    assert isinstance(spec, dict)
    assert spec["clusterIP"] == "10.96.0.10"
    assert "forward" not in addons.COREFILE


def test_the_helper_pod_is_valid_and_volumes_are_in_the_state_folder() -> None:
    config = next(each["data"] for each in of_kind("ConfigMap") if "data" in each and "setup" in str(each["data"]))
    assert isinstance(config, dict)
    assert json.loads(config["helperPod.yaml"])["kind"] == "Pod"
    classes = json.loads(config["config.json"])["storageClassConfigs"]
    assert classes[addons.STORAGE_CLASS]["nodePathMap"][0]["paths"] == ["/state/volumes"]
    assert classes[addons.SHARED_CLASS] == {"sharedFileSystemPath": "/state/volumes"}
