# SPDX-License-Identifier: Apache-2.0
"""Rules that hold for every pod we make: restricted Pod Security, no secret in sight, no value split."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nimblet.api.compactmodel import CompactModel
from nimblet.plan.facts import KeyFacts, ModelFacts, TextFacts
from nimblet.plan.indexfacts import NamedFacts
from nimblet.plan.task import CACHELESS
from nimblet.settings import Settings
from tests.assistants import an_assistant, planned, references
from tests.builders import (
    API_KEY,
    DIGEST,
    SETTINGS,
    SMOLLM2_URI,
    a_deployment,
    a_model,
    a_secret,
    artifact_text,
    base_facts,
    child,
    plan_of,
    stored,
)
from tests.cached import RWX, a_claim, cached_facts, facts_of
from tests.hardwarepools import plan_on
from tests.indexes import DOCS, GATE, an_index, first_facts, index_plan, job_of, running_facts, workload

RESTRICTED_VOLUMES: Final = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""Volume types that the Pod Security Standards' restricted level allows."""
OLD_KEY: Final = "nk-fedcba9876543210"
HOST_FIELDS: Final = {"hostNetwork", "hostPID", "hostIPC", "hostUsers"}

WITH_SECRET = a_model(source={"uri": SMOLLM2_URI, "credentialsSecretRef": {"name": "hub"}})
RESOLVING = plan_of(WITH_SECRET, ModelFacts(secret=a_secret(), api_key=API_KEY))
RUNNING = plan_of(WITH_SECRET, base_facts(WITH_SECRET, secret=a_secret()))
ROLE = a_model(source={"uri": "s3://models/a", "roleARN": "arn:aws:iam::123456789012:role/reader"})
CLAIM = a_model(source={"uri": "pvc://weights/llm"})


def pods_of(model: CompactModel) -> dict[str, Any]:
    """Return the pod specs of a model's resolver and server."""
    return {
        "resolver": child(plan_of(model, ModelFacts()).children, "Job")["spec"]["template"]["spec"],
        "server": child(plan_of(model, base_facts(model)).children, "Deployment")["spec"]["template"]["spec"],
    }


CACHED_MODEL = a_model(**RWX)
FILLING = plan_of(CACHED_MODEL, facts_of(CACHED_MODEL, claim=a_claim()))
CACHED = plan_of(CACHED_MODEL, cached_facts(CACHED_MODEL))
EVERYTHING = a_model(
    runtime={"chatTemplate": {"name": "prompts", "key": "chat"}},
    access={"keyVersion": 2, "apiKeysSecretRef": {"name": "mine"}},
    scheduling={"tolerations": [{"operator": "Exists"}], "podLabels": {"team": "blue"}},
)
ROTATING = plan_of(
    EVERYTHING,
    base_facts(
        EVERYTHING,
        own_keys=a_secret(name="mine", keys=("api-keys",)),
        chat_template=TextFacts(name="prompts", keys=("chat",), content_hash="1"),
        key=KeyFacts(version=1),
        other_keys={1: OLD_KEY},
        deployment=a_deployment("any"),
    ),
)
INDEX = an_index(sources=[DOCS, {"name": "shared", "pvc": {"claimName": "shared"}}], qualityGate=GATE)
BUILDING = index_plan(INDEX, running_facts(INDEX, claims={"shared": NamedFacts(name="shared", usable=True)}))
EXTERNAL = index_plan(
    an_index(store={"type": "External", "url": "https://qdrant.example"}),
    first_facts(),
    settings=Settings.model_validate({"fetch": {"allow": [{"host": "qdrant.example"}]}}),
)
ON_DEVICES: Final = {"xeon": "xeon", "nvidia": "all", "partition": "all", "amd": "all", "own: shelf": "xe"}
"""Model → pool, of profiles that need no more than restricted Pod Security."""
ASSISTANT = an_assistant(replicas=2)
GATEWAY = planned(ASSISTANT, references())
PODS: Final[Mapping[str, Any]] = {
    "everything": child(ROTATING.children, "Deployment")["spec"]["template"]["spec"],
    "resolver": child(RESOLVING.children, "Job")["spec"]["template"]["spec"],
    "server": child(RUNNING.children, "Deployment")["spec"]["template"]["spec"],
    **{f"{name} with a role": pod for name, pod in pods_of(ROLE).items()},
    **{f"{name} with a claim": pod for name, pod in pods_of(CLAIM).items()},
    **{
        f"server of {name}": child(plan_on(name, pool).children, "Deployment")["spec"]["template"]["spec"]
        for name, pool in ON_DEVICES.items()
    },
    "filler": child(FILLING.children, "Job")["spec"]["template"]["spec"],
    "cached server": child(CACHED.children, "Deployment")["spec"]["template"]["spec"],
    "indexer": job_of(BUILDING)["spec"]["template"]["spec"],
    "retriever": workload(BUILDING)["spec"]["template"]["spec"],
    "external retriever": workload(EXTERNAL)["spec"]["template"]["spec"],
    "gateway": child(GATEWAY.children, "Deployment")["spec"]["template"]["spec"],
}


def containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from pod.get("initContainers", [])
    yield from pod["containers"]


@pytest.mark.parametrize("role", PODS)
def test_pod_meets_the_restricted_standard(role: str) -> None:
    pod = PODS[role]
    assert not HOST_FIELDS & set(pod)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "sysctls" not in pod["securityContext"]
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= RESTRICTED_VOLUMES
    for container in containers(pod):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert "privileged" not in security
        assert all("hostPort" not in port for port in container.get("ports", []))


@pytest.mark.parametrize("role", PODS)
def test_pod_has_no_token_and_limits_for_its_memory(role: str) -> None:
    pod = PODS[role]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    for container in containers(pod):
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]
        assert not container["image"].endswith(":latest")
        assert "command" not in container


@pytest.mark.parametrize("role", PODS)
def test_every_mount_names_a_volume(role: str) -> None:
    pod = PODS[role]
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounted = {mount["name"] for container in containers(pod) for mount in container["volumeMounts"]}
    assert mounted == volumes


def test_only_the_loader_has_the_token_of_a_role() -> None:
    for pod in pods_of(ROLE).values():
        (volume,) = [item for item in pod["volumes"] if item["name"] == "identity"]
        (source,) = volume["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == "sts.amazonaws.com"
        holders = [
            container["name"]
            for container in containers(pod)
            if any(mount["name"] == "identity" for mount in container["volumeMounts"])
        ]
        assert holders in (["resolver"], ["loader"])


def test_only_the_loader_mounts_a_claim_and_cannot_write_to_it() -> None:
    for pod in pods_of(CLAIM).values():
        claim = {"claimName": "weights", "readOnly": True}
        assert {"name": "source", "persistentVolumeClaim": claim} in pod["volumes"]
        mounts = [
            (container["name"], mount)
            for container in containers(pod)
            for mount in container["volumeMounts"]
            if mount["name"] == "source"
        ]
        assert [name for name, _ in mounts] in (["resolver"], ["loader"])
        assert all(mount["readOnly"] is True for _, mount in mounts)


def test_pods_that_read_a_claim_reach_nothing() -> None:
    plan = plan_of(CLAIM, base_facts(CLAIM))
    policies = [item["spec"] for item in plan.children if item["kind"] == "NetworkPolicy"]
    assert [policy["egress"] for policy in policies if isinstance(policy, Mapping)] == [[], []]


def test_only_the_key_secret_holds_the_key() -> None:
    for plan in (RESOLVING, RUNNING):
        secret = child(plan.children, "Secret")
        assert base64.b64decode(secret["data"]["api-key"]).decode() == API_KEY
        others = json.dumps([item for item in plan.children if item["kind"] != "Secret"])
        assert API_KEY not in others
        assert secret["data"]["api-key"] not in others
        assert API_KEY not in plan.status.model_dump_json()


def test_both_keys_of_a_rotation_are_in_the_key_secret_only() -> None:
    secret = child(ROTATING.children, "Secret")
    assert base64.b64decode(secret["data"]["api-key"]).decode() == OLD_KEY
    assert base64.b64decode(secret["data"]["keys-1-2"]).decode().split() == [OLD_KEY, API_KEY]
    others = json.dumps([item for item in ROTATING.children if item["kind"] != "Secret"])
    assert not [key for key in (OLD_KEY, API_KEY) if key in others + ROTATING.status.model_dump_json()]


def test_children_are_plain_data() -> None:
    for plan in (RESOLVING, RUNNING, ROTATING):
        assert yaml.safe_load(yaml.safe_dump(list(plan.children))) == list(plan.children)


def test_offline_plan_has_no_key_secret() -> None:
    plan = plan_of(WITH_SECRET, ModelFacts())
    assert [item["kind"] for item in plan.children if item["kind"] == "Secret"] == []


def test_two_replicas_spread_and_drain() -> None:
    pod = PODS["server"]
    assert pod["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert pod["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": 30}}
    assert pod["terminationGracePeriodSeconds"] == 40


def test_selectors_are_those_of_the_pods() -> None:
    labels_ = child(RUNNING.children, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        child(RUNNING.children, "Deployment")["spec"]["selector"]["matchLabels"],
        child(RUNNING.children, "Service")["spec"]["selector"],
        child(RUNNING.children, "NetworkPolicy", "smollm2-model")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels_.items()


HOSTILE = st.text(min_size=1, max_size=80).filter(lambda text: "\x00" not in text)


def strings(value: object) -> Iterator[str]:
    """Yield every string value of a document, without keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@settings(max_examples=100, deadline=None)
@given(path=HOSTILE, architecture=HOSTILE.filter(lambda name: name not in CACHELESS))
def test_strings_of_the_source_stay_in_one_argument(path: str, architecture: str) -> None:
    model = a_model()
    header = {**json.loads(artifact_text())["header"], "architecture": architecture}
    text = artifact_text(files=[{"path": path, "size": 1}], header=header)
    known = SETTINGS.model_copy(update={"extra_architectures": (architecture,)})
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, text),)), settings=known)
    plain = plan_of(model, base_facts(model))
    pod, before = (child(item.children, "Deployment")["spec"]["template"]["spec"] for item in (plan, plain))
    args, expected = pod["containers"][0]["args"], before["containers"][0]["args"]
    assert len(args) == len(expected)
    assert args[args.index("--model") + 1] == f"/models/{path}"
    other = [(one, two) for one, two in zip(args, expected, strict=True) if one != two]
    assert len(other) == 1
    assert pod["initContainers"] == before["initContainers"]


@settings(max_examples=50, deadline=None)
@given(
    glob=st.from_regex(r"\A[A-Za-z0-9._*?/\[\]-]{1,40}\Z"),
    revision=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._/-]{0,30}\Z"),
)
def test_strings_of_the_spec_stay_in_one_environment_value(glob: str, revision: str) -> None:
    model = a_model(source={"uri": SMOLLM2_URI, "files": [glob], "revision": revision})
    plan = plan_of(model, ModelFacts())
    container = child(plan.children, "Job")["spec"]["template"]["spec"]["containers"][0]
    [variable] = container["env"]
    assert json.loads(variable["value"]) == {
        "version": 1,
        "uri": SMOLLM2_URI,
        "files": [glob],
        "revision": revision,
        "sha256": {},
        "secret": False,
    }
    assert (
        container["args"] == child(RESOLVING.children, "Job")["spec"]["template"]["spec"]["containers"][0]["args"]
    )


def test_digests_reach_the_loader() -> None:
    model = a_model(integrity={"sha256": {"a.gguf": DIGEST}})
    [variable] = child(plan_of(model, ModelFacts()).children, "Job")["spec"]["template"]["spec"]["containers"][0][
        "env"
    ]
    assert json.loads(variable["value"])["sha256"] == {"a.gguf": DIGEST}
    assert DIGEST in "".join(strings(variable))
