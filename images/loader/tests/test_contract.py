# SPDX-License-Identifier: Apache-2.0
"""The contract with the operator: reasons and exit codes, refused inputs, redacted messages."""

import json

import pytest

from nimblet_egress.errors import Reason, SourceError, redact
from nimblet_egress.paths import unsafe_path
from nimblet_egress.policy import AllowRule
from nimblet_loader.contract import parse_artifact, parse_policy, parse_source


def test_each_reason_has_its_own_exit_code_in_range() -> None:
    codes = [reason.exit_code for reason in Reason]
    assert len(set(codes)) == len(codes)
    assert all(10 <= code <= 59 or 90 <= code <= 104 for code in codes), "60 to 89 are the indexer's"
    assert all(reason.name[0].isupper() and reason.name.isalnum() for reason in Reason)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"surprise": 1},
        {"uri": ""},
        {"revision": "--upload-pack=x"},
        {"quantization": "Q4;rm"},
        {"sha256": {"m": "ABC"}},
        {"secret": "yes"},
    ],
)
def test_sources_that_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(SourceError) as caught:
        parse_source(json.dumps({"version": 1, "uri": "hf://a/b", **change}))
    assert caught.value.reason is Reason.ConfigInvalid
    assert next(iter(change)) in caught.value.message


def test_the_operators_full_policy_is_understood() -> None:
    rule = {"host": "*.corp.test", "cidr": None, "allowPrivate": True, "allowHTTP": True, "ca": None}
    policy = parse_policy(
        json.dumps(
            {
                "version": 1,
                "hfEndpoint": "https://hub.corp.test",
                "allow": [rule],
                "credentialHosts": ["hub.corp.test"],
                "proxy": {"http": None, "https": "http://proxy:3128", "noProxy": [".svc"]},
                "caBundle": None,
                "stallTimeoutSeconds": 60,
                "connectTimeoutSeconds": 10,
                "maxRedirects": 5,
                "maxFileBytes": 1000,
                "userAgent": "nimblet/1",
            }
        )
    )
    assert policy.allow == (AllowRule(host="*.corp.test", allow_private=True, allow_http=True),)


@pytest.mark.parametrize(
    "rule", [{"host": "h", "cidr": "10.0.0.1/8"}, {"host": "*"}, {"host": ""}, {"cidr": "10.0.0.0/8"}]
)
def test_allow_rules_that_are_refused(rule: dict[str, object]) -> None:
    with pytest.raises(SourceError) as caught:
        parse_policy(json.dumps({"version": 1, "allow": [rule]}))
    assert caught.value.reason is Reason.ConfigInvalid


@pytest.mark.parametrize(
    "path", ["../m.gguf", "/m.gguf", "a//b", "a/./b", "a\\b", "a\x00b", "", "x" * 201, "\ud800"]
)
def test_unsafe_paths(path: str) -> None:
    assert unsafe_path(path) is not None


def test_an_artifact_with_an_unsafe_path_is_refused() -> None:
    with pytest.raises(SourceError, match="unsafe"):
        parse_artifact(json.dumps({"version": 1, "files": [{"path": "../x", "size": 1}]}))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://u:p@h/x?sig=1 now", "see https://h/x?[redacted] now"),
        ("Bearer abcdefghij", "Bearer [redacted]"),
        ("the canary sings", "the [redacted] sings"),
        ("two\nlines", "two lines"),
    ],
)
def test_messages_are_redacted(text: str, shown: str) -> None:
    assert redact(text, ["canary"]) == shown
