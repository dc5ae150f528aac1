# SPDX-License-Identifier: Apache-2.0
"""Manifests and signatures of ConfigMaps: what is planned with them, and that nothing is without them."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimblet.api.compactmodel import CompactModel
from nimblet.plan.facts import ModelFacts, TrustTextFacts
from nimblet.plan.integrity import MAX_TEXT_BYTES, ManifestError, Trust, manifest_text, parse_manifest, trust_of
from nimblet.plan.stage import Problem
from tests.builders import (
    DIGEST,
    SMOLLM2_FILE,
    a_model,
    artifact_text,
    base_facts,
    child,
    edited,
    failed_job,
    hash_of,
    kinds,
    plan_of,
    revision_of,
    served,
    serving_facts,
    stored,
)
from tests.conditions import message, shown

MANIFEST = {"manifestRef": {"name": "trust", "key": "sums"}}
SIGNATURE = {
    "bundleRef": {"name": "trust", "key": "model.sig"},
    "key": {"publicKeyRef": {"name": "builders", "key": "key.pub"}},
}
SUMS = f"{DIGEST}  {SMOLLM2_FILE}\n"
SIGNED = artifact_text(digestSource="Signature", signer={"method": "Key", "name": "sha256:00"})


def texts(*, usable: bool = True, **changes: str) -> Mapping[str, TrustTextFacts]:
    """Return the texts of the ConfigMaps `trust` and `builders`; changes by key."""
    found = {"sums": SUMS, "sig": "{}", "pub": "PEM"} | changes
    keys = {"sums": "trust/sums", "sig": "trust/model.sig", "pub": "builders/key.pub"}
    return {keys[name]: TrustTextFacts(usable=usable, text=text) for name, text in found.items()}


def source_of(model: CompactModel, facts: ModelFacts) -> dict[str, object]:
    """Return what the loader is told in the resolver's Job, else in the server's pod."""
    plan = plan_of(model, facts)
    kind = "Job" if "Job" in kinds(plan) else "Deployment"
    pod = child(plan.children, kind)["spec"]["template"]["spec"]
    [container] = pod.get("initContainers", pod["containers"])
    return dict(json.loads(next(item["value"] for item in container["env"] if item["name"] == "NIMBLET_SOURCE")))


def test_a_manifest_and_a_signature_travel_to_the_loader() -> None:
    model = a_model(integrity={**MANIFEST, "signature": SIGNATURE})
    source = source_of(model, base_facts(model, artifacts=(), trust=texts()))
    assert source["sha256"] == {SMOLLM2_FILE: DIGEST}
    assert source["signature"] == {"method": "Key", "bundle": "{}", "trust": "PEM"}


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (
            {"certificate": {"rootsRef": {"name": "builders", "key": "key.pub"}, "identity": "a@b.example"}},
            {"method": "Certificate", "identity": "a@b.example"},
        ),
        (
            {
                "sigstore": {
                    "trustRootRef": {"name": "builders", "key": "key.pub"},
                    "identity": "a@b.example",
                    "issuer": "https://issuer.example",
                }
            },
            {"method": "Sigstore", "identity": "a@b.example", "issuer": "https://issuer.example"},
        ),
    ],
)
def test_each_method_is_told_with_its_names(method: dict[str, object], told: dict[str, str]) -> None:
    model = a_model(integrity={"signature": {"bundleRef": SIGNATURE["bundleRef"], **method}})
    trust = trust_of(model, texts())
    assert trust == Trust(digests={}, signature={"bundle": "{}", "trust": "PEM", **told})


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, "ConfigMapMissing"),
        (texts(usable=False), "ConfigMapNotUsable"),
        (texts(sums=" "), "ConfigMapMissing"),
        (texts(sums="not sums"), "IntegrityInvalid"),
        (texts(sig="x" * MAX_TEXT_BYTES), "IntegrityInvalid"),
    ],
)
def test_nothing_is_resolved_while_what_is_demanded_is_not_known(
    found: Mapping[str, TrustTextFacts], reason: str
) -> None:
    model = a_model(integrity={**MANIFEST, "signature": SIGNATURE})
    plan = plan_of(model, base_facts(model, artifacts=(), trust=found))
    assert not {"Job", "Deployment"} & set(kinds(plan))
    assert shown(plan, "Ready") == ("False", reason)
    assert plan.requeue_after is not None
    assert shown(plan_of(model, base_facts(model, artifacts=(), trust=texts())), "Ready") == (
        "Unknown",
        "Resolving",
    )


@pytest.mark.parametrize("reason", ["SignerMismatch", "SignatureInvalid", "UnsignedFile", "CertificateExpired"])
def test_a_refused_signature_is_told_and_its_texts_are_looked_at_again(reason: str) -> None:
    model = a_model(integrity={"signature": SIGNATURE})
    digest = hash_of(model, trust=texts())
    job = failed_job(a_model(), reason, source_hash=digest, attempt=9, name="job")
    plan = plan_of(model, base_facts(model, artifacts=(), jobs=(job,), trust=texts()))
    assert (shown(plan, "Ready"), shown(plan, "Verified")) == (("False", reason), ("False", reason))
    assert "Deployment" not in kinds(plan)
    assert plan.requeue_after is not None
    assert plan.requeue_after <= 30


def test_a_broken_manifest_leaves_what_serves_alone() -> None:
    before = served(a_model())
    model = edited(before, integrity=MANIFEST)
    facts = serving_facts(before, trust=texts(sums="broken"))
    plan = plan_of(model, facts)
    assert plan.deletions == ()
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Ready") == ("False", "UpdateFailed")
    assert "nimblet digest" in message(plan, "Ready")
    assert shown(plan, "Serving") == ("True", "Answering")


def test_another_content_is_another_source_and_rolls_the_pods() -> None:
    model = a_model(integrity=MANIFEST)
    first, second = texts(), texts(sums=SUMS + f"{'0' * 64}  README.md\n")
    assert revision_of(model, trust=first) != revision_of(model, trust=second)
    facts = base_facts(model, artifacts=(stored(model, trust=first),), trust=second)
    assert "Job" in kinds(plan_of(model, facts))


def test_a_verified_signature_is_told_with_signer_method_and_time() -> None:
    model = a_model(integrity={"signature": SIGNATURE})
    revision = revision_of(model, trust=texts())
    facts = serving_facts(a_model(), trust=texts())
    artifact = stored(model, SIGNED, trust=texts())
    pods = tuple(replace(pod, revision=revision) for pod in facts.pods)
    plan = plan_of(model, replace(facts, artifacts=(artifact,), pods=pods))
    assert shown(plan, "Verified") == ("True", "SignatureMatches")
    found = plan.status.artifact
    assert found is not None
    assert (found.method, found.signer) == ("Key", "sha256:00")
    assert found.verified_time is not None
    later = plan_of(
        model.model_copy(update={"status": plan.status}), replace(facts, artifacts=(artifact,), pods=pods)
    )
    assert later.status == plan.status


def test_an_artifact_that_claims_another_method_proves_nothing() -> None:
    """The artifact passed through the tenant's namespace: what it says counts as far as the spec demands it."""
    for model, text in (
        (a_model(integrity={"signature": SIGNATURE}), artifact_text(digestSource="Spec")),
        (a_model(integrity={"sha256": {SMOLLM2_FILE: DIGEST}}), SIGNED),
        (a_model(), SIGNED),
    ):
        artifact = stored(model, text, trust=texts())
        facts = base_facts(model, artifacts=(artifact,), trust=texts())
        pods = tuple(
            replace(pod, revision=revision_of(model, trust=texts())) for pod in serving_facts(a_model()).pods
        )
        plan = plan_of(model, replace(facts, pods=pods))
        assert shown(plan, "Verified") == ("False", "Unverified")
        assert plan.status.artifact is not None
        assert plan.status.artifact.verified_time is None


@pytest.mark.parametrize(
    "text",
    [
        f"{DIGEST}  a.gguf\n{DIGEST} *b/c d.gguf\n\n",
        f"{DIGEST.upper()}  ./a.gguf\r\n{DIGEST}  b/c d.gguf",
        json.dumps({"a.gguf": DIGEST, "b/c d.gguf": DIGEST}),
    ],
)
def test_manifests_as_people_make_them(text: str) -> None:
    assert parse_manifest(text) == {"a.gguf": DIGEST, "b/c d.gguf": DIGEST}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{",
        "{" * 100_000,
        '{"a": 1}',
        '{"a": "abc"}',
        f'{{"a": "{DIGEST}", "a": "{"0" * 64}"}}',
        f"{DIGEST}",
        f"{DIGEST}  a\n{'0' * 64}  a",
        f"\\{DIGEST}  a\\nb",
        f"{DIGEST[1:]}  a",
        "\n".join(f"{DIGEST}  {number}" for number in range(1025)),
    ],
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(text)


@given(st.text() | st.from_regex(r"[0-9a-f]{64}  .*"))
def test_any_text_is_a_manifest_or_an_error(text: str) -> None:
    try:
        found = parse_manifest(text)
    except ManifestError:
        return
    assert parse_manifest(manifest_text(found)) == found


def test_the_problem_names_the_config_map() -> None:
    found = trust_of(a_model(integrity=MANIFEST), texts(sums="x"))
    assert isinstance(found, Problem)
    assert "ConfigMap trust" in found.message
    assert "line 1" in found.message
