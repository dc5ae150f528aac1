# SPDX-License-Identifier: Apache-2.0
"""What the operator renders for the loader is what the loader reads, and the other way round."""

import json
import re
from pathlib import Path

import pytest

from nimblet.api.compactmodel import MAX_ARTIFACT_FILES, CompactModelSpec
from nimblet.conditions import Reason
from nimblet.manifests import loader as manifests
from nimblet.nextstep import NEXT_STEP
from nimblet.plan import artifact as operator_artifact
from nimblet.plan import source
from nimblet.plan.artifact import Signer as ReadSigner
from nimblet.plan.artifact import parse_artifact, parse_digests, unpacked
from nimblet.plan.exitcodes import LOADER_REASONS
from nimblet.plan.facts import ModelFacts, TrustTextFacts
from nimblet.plan.integrity import known_trust, method_of
from nimblet.plan.source import policy_text, source_text
from nimblet.settings import OCI, S3, AllowEntry, Fetch, Proxy, Settings
from nimblet_egress.credentials import LOGIN_KEYS, S3_KEYS, SESSION_KEY, TOKEN_KEY
from nimblet_egress.errors import Reason as LoaderReason
from nimblet_egress.policy import S3Policy
from nimblet_loader.cache import check_folder
from nimblet_loader.cli import _parser
from nimblet_loader.connectors import CLAIM_DIR, SCHEMES
from nimblet_loader.contract import (
    MAX_FILES,
    MAX_MESSAGE_BYTES,
    Artifact,
    ArtifactFile,
    FetchReport,
    HeaderFacts,
    Quantization,
    Signer,
    encode,
    parse_policy,
    parse_source,
)
from nimblet_loader.message import to_message
from nimblet_loader.sealed import MANIFEST
from nimblet_loader.webidentity import IDENTITY_PATH
from nimblet_loader.weightskey import KEY_PATH
from tests.builders import SETTINGS, a_model, plan_of
from tests.unit.manifests.test_pods import PODS

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    "spec",
    [
        {"source": {"uri": "hf://org/repo"}},
        {"source": {"uri": "hf://org/repo", "revision": "v1.0", "quantization": "Q4_K_M"}},
        {"source": {"uri": "hf://org/repo", "files": ["*.gguf"], "credentialsSecretRef": {"name": "hub"}}},
        {"source": {"uri": "s3://bucket/a/b=c", "credentialsSecretRef": {"name": "store"}}},
        {"source": {"uri": "ollama://tiny:q4"}},
        {"source": {"uri": "oci://registry.example/model:v1", "credentialsSecretRef": {"name": "login"}}},
        {"source": {"uri": "pvc://weights/llm"}},
        {"source": {"uri": "s3://bucket/a", "roleARN": "arn:aws:iam::123456789012:role/reader"}},
        {"source": {"uri": "https://h.example/a/m.gguf"}, "integrity": {"sha256": {"m.gguf": DIGEST}}},
    ],
)
def test_the_loader_reads_the_source_that_the_operator_renders(spec: dict[str, object]) -> None:
    parsed = CompactModelSpec.model_validate(spec)

    trust = known_trust(a_model().model_copy(update={"spec": parsed}), {})
    source = parse_source(source_text(parsed, trust, SETTINGS))

    assert source.uri == parsed.source.uri
    assert source.secret == (parsed.source.credentials_secret_ref is not None)
    assert source.role_arn == parsed.source.role_arn
    assert source.sha256 == (parsed.integrity.sha256 if parsed.integrity else {})


@pytest.mark.parametrize(
    "method",
    [
        {"key": {"publicKeyRef": {"name": "t", "key": "k"}}},
        {"certificate": {"rootsRef": {"name": "t", "key": "k"}, "identity": "a@b.example"}},
        {
            "sigstore": {
                "identity": "a@b.example",
                "issuer": "https://issuer.example",
                "trustRootRef": {"name": "t", "key": "k"},
            }
        },
    ],
)
def test_the_loader_reads_the_trust_that_the_operator_renders(method: dict[str, object]) -> None:
    signature = {"bundleRef": {"name": "t", "key": "b"}, **method}
    model = a_model(integrity={"manifestRef": {"name": "t", "key": "m"}, "signature": signature})
    texts = {"b": "{}", "k": "PEM", "m": f"{DIGEST}  m.gguf\n"}
    found = {f"t/{key}": TrustTextFacts(usable=True, text=text) for key, text in texts.items()}

    source = parse_source(source_text(model.spec, known_trust(model, found), SETTINGS))

    assert source.sha256 == {"m.gguf": DIGEST}
    assert source.signature is not None
    assert source.signature.method == method_of(model.spec.integrity)
    assert (source.signature.bundle, source.signature.trust) == ("{}", "PEM")


def test_the_operator_reads_the_signer_that_the_loader_writes() -> None:
    written = Signer(method="Key", name="sha256:00")
    assert ReadSigner.model_validate_json(encode(written)).model_dump() == written.model_dump()


def test_the_loader_reads_every_field_of_the_policy_that_the_operator_renders() -> None:
    entry = AllowEntry(host="hub.example", cidr="10.0.0.0/8", allow_private=True, allow_http=True, ca="pem")
    fetch = Fetch(allow=(entry,), proxy=Proxy(https="http://p:3128", no_proxy=("a",)), ca_bundle="pem")

    policy = parse_policy(policy_text(Settings(fetch=fetch), credential_hosts=("hub.example",), scheme="hf"))

    assert policy.allow[0].allow_http
    assert policy.allow[0].cidr == "10.0.0.0/8"
    assert policy.credential_hosts == ("hub.example",)
    assert policy.hf_endpoint == fetch.hf_endpoint


def test_the_policy_names_a_service_only_to_the_loaders_of_its_sources() -> None:
    fetch = Fetch(s3=S3(endpoint="http://s3.example", region="eu-1"), ollama_registry="http://registry.example")
    texts = {
        scheme: policy_text(Settings(fetch=fetch), credential_hosts=(), scheme=scheme)
        for scheme in ("hf", "https", "s3", "ollama")
    }

    assert parse_policy(texts["s3"]).s3 == S3Policy(endpoint="http://s3.example", region="eu-1")
    assert parse_policy(texts["ollama"]).ollama_registry == "http://registry.example"
    assert not any("example" in texts[scheme] for scheme in ("hf", "https"))


def test_the_policy_tells_of_roles_and_plain_registries_only_where_they_matter() -> None:
    """A loader that models keep over an upgrade refuses keys that it does not know."""
    fetch = Fetch(s3=S3(sts_endpoint="http://sts.example"), oci=OCI(plain_http=("registry.example:5000",)))
    texts = {
        scheme: policy_text(Settings(fetch=fetch), credential_hosts=(), scheme=scheme)
        for scheme in ("hf", "s3", "oci", "pvc")
    }
    with_role = policy_text(Settings(fetch=fetch), credential_hosts=(), scheme="s3", with_role=True)

    assert parse_policy(texts["oci"]).oci.plain_http == ("registry.example:5000",)
    assert parse_policy(with_role).s3.sts_endpoint == "http://sts.example"
    assert "example" not in texts["hf"] + texts["s3"] + texts["pvc"]
    assert "audience" not in with_role


def test_the_loader_reads_the_keys_that_the_operator_mounts() -> None:
    assert (source.TOKEN_KEY, source.S3_KEYS, source.SESSION_KEY) == (TOKEN_KEY, S3_KEYS, SESSION_KEY)
    assert source.LOGIN_KEYS == LOGIN_KEYS


def test_the_loader_looks_where_the_operator_mounts() -> None:
    assert (Path(manifests.CLAIM_DIR), Path(manifests.IDENTITY_DIR)) == (CLAIM_DIR, IDENTITY_PATH.parent)
    model = a_model(source={"uri": "s3://bucket/a", "roleARN": "arn:aws:iam::1:role/r"})
    (job,) = [item for item in plan_of(model, ModelFacts()).children if item["kind"] == "Job"]
    assert f'"path": "{IDENTITY_PATH.name}"' in json.dumps(job)


def test_every_scheme_of_the_loader_is_one_of_the_api() -> None:
    pattern = CompactModelSpec.model_json_schema()["$defs"]["ModelSource"]["properties"]["uri"]["pattern"]
    assert set(re.findall(r"([a-z0-9]+)://", pattern)) | {"http"} == set(SCHEMES)


def test_the_operator_unpacks_what_the_loader_packs() -> None:
    files = tuple(ArtifactFile(path=f"m-{n}.gguf", size=n + 1, sha256=f"{n:064x}") for n in range(MAX_FILES))
    facts = HeaderFacts(
        architecture="llama",
        parameters=1,
        tensor_bytes=1,
        tensor_types={},
        output_tied=True,
        context_length=1,
        embedding_length=1,
        block_count=1,
        chat_template=False,
    )
    written = Artifact(
        version=1,
        uri="hf://org/repo",
        commit="c" * 40,
        files=files,
        digest_source="Source",
        format="GGUF",
        header=facts,
    )
    message = to_message(written).decode()

    assert len(message) <= MAX_MESSAGE_BYTES < len(encode(written))
    assert unpacked(message) == encode(written).decode()
    assert parse_artifact(unpacked(message)) is not None
    report = FetchReport(
        version=1,
        files=48,
        bytes=1,
        downloaded_bytes=1,
        seconds=1.0,
        sha256={file.path: f"{file.size:064x}" for file in files},
    )
    assert parse_digests(to_message(report).decode()) == report.sha256
    assert (operator_artifact.MAX_FILES, MAX_ARTIFACT_FILES) == (MAX_FILES, MAX_FILES)


def test_the_operator_reads_every_fact_that_the_loader_writes() -> None:
    header = HeaderFacts(
        architecture="gemma3",
        parameters=268_000_000,
        tensor_bytes=200_000_000,
        tensor_types={"Q4_K": 200_000_000},
        output_tied=True,
        context_length=32768,
        embedding_length=640,
        block_count=18,
        head_count=((4, 18),),
        head_count_kv=1,
        sliding_window=512,
        sliding_window_pattern=((1, 5), (0, 1)),
        chat_template=False,
        pooling_type=4,
        causal_attention=False,
        classifier=True,
        classifier_outputs=2,
        classifier_labels=("no", "yes"),
        model_type="gemma3_text",
        dtype="bfloat16",
        quantization=Quantization(method="awq", bits=4, group_size=128),
        other={"ssm.state_size": 128},
    )
    written = Artifact(
        version=1,
        uri="hf://org/repo",
        commit="c" * 40,
        files=(ArtifactFile(path="m.gguf", size=10, sha256=DIGEST),),
        digest_source="Source",
        format="GGUF",
        header=header,
    )

    artifact = parse_artifact(encode(written).decode())

    assert artifact is not None
    assert (
        artifact.header.model_dump(mode="json", by_alias=True, exclude_none=True).items()
        <= (json.loads(encode(written))["header"] | {"tensorTypes": {"Q4_K": 200_000_000}}).items()
    )


@pytest.mark.parametrize("role", ["filler", "resolver", "server", "cached server"])
def test_the_loader_takes_the_arguments_that_the_operator_renders(role: str) -> None:
    pod = PODS[role]
    [container] = pod.get("initContainers", pod["containers"])
    arguments = _parser().parse_args(container["args"])
    assert arguments.command == {"filler": "fill", "resolver": "resolve", "server": "fetch"}.get(role, "verify")
    if "folder" in arguments:
        check_folder(arguments.folder)


def test_the_operator_knows_every_exit_code_of_the_loader() -> None:
    """Those of other programs begin at 60."""
    own = {reason.exit_code: reason.name for reason in LoaderReason if reason.exit_code < 60}
    assert {code: reason.value for code, reason in LOADER_REASONS.items()} == own


@pytest.mark.parametrize(
    "key", [{"kbs": {"resource": "kbs:///default/weights/tiny"}}, {"keySecretRef": {"name": "k"}}]
)
def test_the_loader_reads_the_encryption_that_the_operator_renders(key: dict[str, object]) -> None:
    encryption = {"model": "acme/tiny", "revision": "2026-11-1", **key}
    model = a_model(
        source={"uri": "hf://org/repo", "encryption": encryption}, integrity={"sha256": {MANIFEST: DIGEST}}
    )
    read = parse_source(source_text(model.spec, known_trust(model, {}), SETTINGS)).encryption
    assert read is not None
    assert (read.model, read.revision) == ("acme/tiny", "2026-11-1")
    assert read.resource == ("default/weights/tiny" if "kbs" in key else None)


def test_the_loader_looks_for_the_key_where_the_operator_mounts_it() -> None:
    assert Path(manifests.WEIGHTS_KEY_DIR) / manifests.WEIGHTS_KEY_ENTRY == KEY_PATH


@pytest.mark.parametrize("name", sorted(reason.name for reason in LoaderReason))
def test_every_reason_of_the_loader_has_a_condition_reason_with_a_next_step(name: str) -> None:
    assert Reason(name) in NEXT_STEP
