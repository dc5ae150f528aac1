# SPDX-License-Identifier: Apache-2.0
"""Local validity of a CompactModel's spec."""

from typing import Any

import pytest
from pydantic import ValidationError

from nimblet.api.compactmodel import CompactModelSpec, CompactModelStatus
from tests.builders import DIGEST, SMOLLM2_URI

SOURCE = {"uri": SMOLLM2_URI}
BUCKET = {"uri": "s3://models/a"}
ROLE = "arn:aws:iam::123456789012:role/reader"
WEB = {"uri": "https://models.example.com/a.gguf"}


def test_smallest_spec_has_the_documented_defaults() -> None:
    spec = CompactModelSpec.model_validate({"source": SOURCE})
    assert (spec.replicas, spec.task, spec.runtime.parallel, spec.runtime.kv_cache_type) == (1, "Chat", 2, "f16")
    assert (spec.rollout.strategy, spec.hardware.profile, spec.runtime.name) == ("RollingUpdate", "auto", "Auto")


def test_null_means_absent_as_for_the_api_server() -> None:
    assert CompactModelSpec.model_validate({"source": SOURCE, "replicas": None}).replicas == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"source": WEB}, "an https:// source needs integrity.sha256"),
        ({"source": {**SOURCE, "files": ["a"], "quantization": "Q4_1"}}, "set one of them"),
        (
            {"source": {**WEB, "revision": "main"}, "integrity": {"sha256": {"a.gguf": DIGEST}}},
            "hf:// sources only",
        ),
        ({"source": SOURCE, "replicas": -1}, "greater than or equal to 0"),
        ({"source": SOURCE, "replicas": "2"}, "valid integer"),
        ({"source": SOURCE, "unknown": 1}, "Extra inputs"),
        ({"source": {"uri": "file:///etc/passwd"}}, "pattern"),
        ({"source": {"uri": "hf://org/model; rm -rf"}}, "pattern"),
        ({"source": SOURCE, "integrity": {"sha256": {"a": "short"}}}, "pattern"),
        ({"source": {**SOURCE, "roleARN": ROLE}}, "roleARN is for s3:// sources"),
        ({"source": {**BUCKET, "roleARN": ROLE, "credentialsSecretRef": {"name": "s"}}}, "instead of"),
        ({"source": {**BUCKET, "roleARN": "arn:aws:iam::1:user/me"}}, "pattern"),
        ({"source": {"uri": "pvc://weights", "credentialsSecretRef": {"name": "s"}}}, "needs no credentials"),
        ({"source": {"uri": "pvc://weights/../etc"}}, "pattern"),
        ({"source": {"uri": "pvc://weights/.hidden"}}, "pattern"),
        ({"source": {"uri": "pvc://Weights"}}, "pattern"),
        ({"source": {"uri": "oci://registry.example"}}, "pattern"),
        ({"source": {"uri": "oci://me@registry.example/model"}}, "pattern"),
        ({"source": {"uri": "oci://registry.example/Model"}}, "pattern"),
        ({"source": {"uri": "oci://registry.example/model@sha256:00"}}, "pattern"),
        ({"source": {"uri": "oci://registry.example/a/../b"}}, "pattern"),
        ({"source": SOURCE, "resources": {"memory": "-1Gi"}}, "pattern"),
        ({"source": SOURCE, "runtime": {"speculative": {"type": "Oracle"}}}, "Input should be"),
        ({"source": SOURCE, "runtime": {"speculative": {"type": "NGram", "draftTokens": 65}}}, "less than or"),
        ({"source": SOURCE, "runtime": {"speculative": {"type": "NGram", "ngramSize": "3"}}}, "valid integer"),
        ({"source": SOURCE, "runtime": {"speculative": {"type": "Draft"}}}, "type Draft needs the source"),
        (
            {"source": SOURCE, "runtime": {"speculative": {"type": "NGram", "source": SOURCE}}},
            "type Draft needs the source",
        ),
        (
            {"source": SOURCE, "runtime": {"speculative": {"type": "Draft", "source": SOURCE, "ngramSize": 3}}},
            "ngramSize is for type NGram",
        ),
        (
            {
                "source": SOURCE,
                "runtime": {"speculative": {"type": "Draft", "source": SOURCE, "minDraftTokens": 5}},
            },
            "minDraftTokens is at most draftTokens",
        ),
        (
            {"source": SOURCE, "runtime": {"speculative": {"type": "Draft", "source": WEB}}},
            "a drafting model from an https:// source needs integrity",
        ),
        ({"source": SOURCE, "task": "Rerank", "runtime": {"speculative": {"type": "NGram"}}}, "for the task Chat"),
        ({"source": SOURCE, "runtime": {"extraArgs": []}}, "at least 1 item"),
        ({"source": SOURCE, "runtime": {"extraArgs": ["--poll=0"] * 17}}, "at most 16 items"),
        ({"source": SOURCE, "runtime": {"extraArgs": ["--poll=0", "--poll=1"]}}, "may be given once"),
        ({"source": SOURCE, "runtime": {"extraArgs": ["--poll 0"]}}, "pattern"),
        ({"source": SOURCE, "runtime": {"extraArgs": ["--poll=-1"]}}, "pattern"),
        ({"source": SOURCE, "runtime": {"extraArgs": ["-p=0"]}}, "pattern"),
        ({"source": SOURCE, "runtime": {"extraArgs": "--poll=0"}}, "valid list"),
        ({"source": SOURCE, "hardware": {"profile": "No_Such"}}, "pattern"),
        ({"source": SOURCE, "hardware": {"profile": "cpu", "count": 1}}, "cpu and xeon have no devices"),
        ({"source": SOURCE, "hardware": {"profile": "xeon", "sharing": "Whole"}}, "have no devices"),
        (
            {"source": SOURCE, "hardware": {"count": 2, "sharing": "Partition"}},
            "only whole devices come in numbers",
        ),
        ({"source": SOURCE, "hardware": {"count": 17}}, "less than or equal to 16"),
    ],
)
def test_wrong_spec_is_refused(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CompactModelSpec.model_validate(spec)


@pytest.mark.parametrize(
    "uri",
    [
        "oci://registry.example/model",
        "oci://registry.example:5000/team/model-a_b.c:v1.0",
        f"oci://registry.example/model@sha256:{DIGEST}",
        f"oci://registry.example/model:v1@sha256:{DIGEST}",
        "pvc://weights",
        "pvc://weights.v1/folder/model-Q4_0.gguf",
        "s3://bucket/prefix",
        "ollama://smollm2:135m",
    ],
)
def test_names_of_every_kind_of_source(uri: str) -> None:
    assert CompactModelSpec.model_validate({"source": {"uri": uri}}).source.uri == uri


def test_status_of_a_newer_operator_is_read() -> None:
    status = CompactModelStatus.model_validate({"fromTheFuture": 1, "replicas": 3})
    assert status.replicas == 3
