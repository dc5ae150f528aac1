# SPDX-License-Identifier: Apache-2.0
"""The chart's values: documented, checked by a closed schema, and read by the operator as they are."""

import itertools
import json
import re
from collections.abc import Iterator

import jsonschema
import pytest
import yaml

from nimblet.settings import Settings
from tests.contract.chart_support import CHART, NAMESPACE, at, helm, only, render, template_argv

pytestmark = pytest.mark.timeout(180)
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
UNSET_BY_DEFAULT = {"global"}


def settings_of(*sets: str) -> Settings:
    text = at(only(render(sets=sets), "ConfigMap"), "data", "settings.json")
    assert isinstance(text, str)
    return Settings.model_validate_json(text)


def objects_of(schema: object, path: str = "values") -> Iterator[tuple[str, dict[str, object]]]:
    """Yield every object with fixed fields inside a schema."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield path, schema
        for key, inner in schema.items():
            yield from objects_of(inner, f"{path}.{key}")


def test_default_values_satisfy_the_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA)


def test_every_object_of_the_schema_is_closed() -> None:
    opened = [path for path, node in objects_of(SCHEMA) if node.get("additionalProperties") is not False]
    assert opened == []


def test_every_property_of_the_schema_has_a_default_in_the_values() -> None:
    def missing(schema: dict[str, object], values: object, path: str) -> Iterator[str]:
        properties = schema.get("properties", {})
        assert isinstance(properties, dict)
        for name, inner in properties.items():
            if not isinstance(values, dict) or name not in values:
                yield f"{path}{name}"
            elif values[name] is not None:
                yield from missing(inner, values[name], f"{path}{name}.")

    # limits have no CPU on purpose
    assert set(missing(SCHEMA, VALUES, "")) == {*UNSET_BY_DEFAULT, "operator.resources.limits.cpu"}


def test_every_value_has_a_comment_above_it() -> None:
    lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    leaves = re.compile(r"^\s*[A-Za-z]+:\s*\S")
    bare = [
        line
        for above, line in itertools.pairwise(lines)
        if leaves.match(line) and not above.lstrip().startswith("#")
    ]
    assert bare == []


@pytest.mark.parametrize(
    "wrong",
    [
        "nope=1",
        "operator.nope=1",
        "fetch.allow=[{}]",
        'fetch.allow=[{"host":"a","nope":true}]',
        "operator.replicas=3",
        'images.llamacpp="repo/server:latest"',
        'images.loader="repo/untagged"',
        'watchNamespaces=["Not_A_Namespace"]',
        "timing.resyncSeconds=1",
        'hardware.profiles.lab={"base":"abacus"}',
        'hardware.profiles.lab={"base":"cpu","nope":1}',
        'hardware.profiles.auto={"base":"cpu"}',
        'hardware.profiles.lab={"base":"gaudi","devices":[{"sharing":"Whole"}]}',
        'hardware.profiles.nvidia={"images":{"LlamaCpp":"repo/server:latest"}}',
    ],
)
def test_helm_refuses_wrong_values(wrong: str) -> None:
    done = helm(*template_argv(sets=[wrong]))
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_helm_asks_for_the_issuer_that_the_mode_needs() -> None:
    done = helm(*template_argv(sets=['tls.mode="CertManager"']))
    assert done.returncode != 0
    assert "tls.mode CertManager needs tls.issuer.name" in done.stderr
    tls = settings_of('tls.mode="CertManager"', 'tls.issuer.name="ours"', "tls.renewBeforeSeconds=600").tls
    assert (tls.issuer.name, tls.issuer.kind, tls.renew_before_seconds) == ("ours", "Issuer", 600)


def test_default_settings_are_the_operators_own_defaults() -> None:
    settings = settings_of()
    assert settings.access.operator_namespace == NAMESPACE
    assert settings == Settings()


def test_every_setting_is_a_value() -> None:
    text = at(only(render(), "ConfigMap"), "data", "settings.json")
    rendered = json.loads(str(text))
    dumped = Settings().model_dump(mode="json", by_alias=True)
    assert rendered.keys() == dumped.keys()
    for name, group in dumped.items():
        if isinstance(group, dict):
            assert rendered[name].keys() == group.keys(), name


def test_changed_values_reach_the_settings() -> None:
    settings = settings_of(
        'fetch.allow=[{"host":"hub.mirror.svc","allowPrivate":true,"allowHTTP":true,"cidr":"10.0.0.0/8"}]',
        'fetch.hfEndpoint="http://hub.mirror.svc"',
        'fetch.proxy={"https":"http://proxy:3128","noProxy":["a.b"]}',
        'hardware.profiles={"arc":{"base":"intel-gpu","deviceMemory":"16Gi","hostIPC":true,"shmSize":"1Gi"}}',
        'metrics.namespaces=["scrapers"]',
        'watchNamespaces=["team-a","team-b"]',
    )
    arc = settings.hardware.known["arc"]
    assert (arc.class_, arc.device_memory_bytes, arc.needs, arc.shm_bytes) == (
        "intel-gpu",
        16 * 2**30,
        ("hostIPC",),
        2**30,
    )
    entry = settings.fetch.allow[0]
    assert (entry.host, entry.allow_private, entry.allow_http, entry.cidr) == (
        "hub.mirror.svc",
        True,
        True,
        "10.0.0.0/8",
    )
    assert settings.fetch.hf_endpoint == "http://hub.mirror.svc"
    assert settings.fetch.proxy is not None
    assert settings.fetch.proxy.no_proxy == ("a.b",)
    assert settings.access.metrics_namespaces == ("scrapers",)
    assert settings.watch_namespaces == ("team-a", "team-b")
