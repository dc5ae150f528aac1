# SPDX-License-Identifier: Apache-2.0
"""No string of a CompactModel becomes a flag of a server, a word of a shell or a reference to a variable.

Every text of a spec that uses all fields is replaced by hostile ones; what the API accepts is planned.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nimblet.api.compactmodel import CompactModel, CompactModelSpec
from nimblet.plan.facts import ModelFacts, TextFacts, TrustTextFacts
from nimblet.plan.integrity import text_key
from nimblet.plan.runtime.allowed import ALLOWED
from nimblet.plan.runtime.choice import RUNTIMES
from nimblet.plan.runtime.environment import COMMON as COMMON_VARIABLES_OF_PYTHON
from nimblet.plan.runtime.flags import FLAGS
from nimblet_loader.cli import _parser
from nimblet_loader.contract import parse_source
from tests.builders import (
    DIGEST,
    MINILM,
    SMOLLM2,
    SMOLLM2_URI,
    a_model,
    a_secret,
    artifact_text,
    base_facts,
    plan_of,
    stored,
)
from tests.cached import CLASSES, a_claim, filled
from tests.repositories import safetensors_text

Spec = dict[str, Any]
Place = tuple[str | int, ...]

REF: Final = {"name": "texts", "key": "text"}
COMMON: Final[Spec] = {
    "task": "Chat",
    "servedModelName": "team/assistant",
    "runtime": {
        "name": "LlamaCpp",
        "contextLength": 2048,
        "kvCacheType": "q8_0",
        "chatTemplate": REF,
        "extraArgs": ["--temp=0.2", "--reasoning=off", "--no-warmup"],
    },
    "hardware": {"profile": "cpu"},
    "resources": {"cpu": "1", "memory": "1Gi"},
    "scheduling": {
        "nodeSelector": {"pool": "models"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "models", "effect": "NoSchedule"}],
        "spread": [{"topologyKey": "kubernetes.io/hostname"}],
        "priorityClassName": "high",
        "podLabels": {"team": "blue"},
        "podAnnotations": {"note": "text"},
    },
    "access": {"namespaces": ["shop"], "apiKeysSecretRef": {"name": "team-keys"}},
    "rollout": {"strategy": "Recreate"},
}
TRUST: Final[tuple[Spec, ...]] = (
    {"key": {"publicKeyRef": REF}},
    {"certificate": {"rootsRef": REF, "identity": "builds@models.example"}},
    {"sigstore": {"trustRootRef": REF, "identity": "a@b.example", "issuer": "https://issuer.example"}},
)
SPECS: Final[tuple[Spec, ...]] = (
    {
        **COMMON,
        "source": {
            "uri": SMOLLM2_URI,
            "revision": "main",
            "quantization": "Q4_1",
            "credentialsSecretRef": {"name": "hub"},
        },
        "integrity": {"sha256": {"m.gguf": DIGEST}, "signature": {"bundleRef": REF, **TRUST[0]}},
        "cache": {
            "storageClassName": "shared",
            "size": "1Gi",
            "accessMode": "ReadWriteMany",
            "retention": "Retain",
        },
    },
    {
        **COMMON,
        "source": {"uri": "s3://bucket/a/b", "files": ["*.gguf"], "roleARN": "arn:aws:iam::1:role/r"},
        "integrity": {"manifestRef": REF, "signature": {"bundleRef": REF, **TRUST[1]}},
    },
    {
        **COMMON,
        "task": "Embedding",
        "runtime": {"name": "Auto", "chatTemplate": REF},
        "source": {"uri": "https://h.example/a/m.gguf"},
        "integrity": {"signature": {"bundleRef": REF, **TRUST[2]}},
    },
    {
        **COMMON,
        "runtime": {
            "name": "VLLM",
            "contextLength": 2048,
            "chatTemplate": REF,
            "extraArgs": ["--tool-call-parser=hermes", "--max-logprobs=5", "--enforce-eager"],
        },
        "access": {"namespaces": ["shop"]},
        "source": {"uri": SMOLLM2_URI, "revision": "main"},
    },
    {
        **COMMON,
        "runtime": {
            "name": "TGI",
            "contextLength": 2048,
            "extraArgs": ["--waiting-served-ratio=1.2", "--disable-grammar-support"],
        },
        "access": {"namespaces": ["shop"]},
        "source": {"uri": SMOLLM2_URI, "revision": "main"},
    },
    {
        **COMMON,
        "source": {
            "uri": "oci://registry.example/sealed:v1",
            "encryption": {"model": "acme/tuned", "revision": "1", "kbs": {"resource": "kbs:///a/b/c"}},
        },
        "integrity": {"sha256": {"nimblet-encryption.json": DIGEST}},
    },
    {
        **COMMON,
        "source": {
            "uri": "pvc://sealed/v1",
            "encryption": {"model": "acme/tuned", "revision": "1", "keySecretRef": {"name": "opener"}},
        },
        "integrity": {"sha256": {"nimblet-encryption.json": DIGEST}},
    },
)
COMMON_VARIABLES: Final = frozenset(COMMON_VARIABLES_OF_PYTHON)
REFUSALS: Final = {"--no-trust-remote-code", "--no-trust-request-chat-template"}
ADAPTERS: Final = {"--lora-scaled", "--enable-lora", "--lora-modules", "--max-loras", "--max-lora-rank"}
"""They load what a loader verified, out of /adapters; test_adapters.py holds the names in their values."""
HEADERS: Final[Mapping[str, Mapping[str, object]]] = {"Chat": SMOLLM2, "Embedding": MINILM}
WORDS: Final = (
    "--lora",
    "--lora=/evil.gguf",
    "-m",
    "--rpc 10.0.0.1:50052",
    "--model-url http://evil.example",
    "--trust-remote-code",
    "--api-key x",
    "-",
    "--",
    "@/etc/passwd",
    "x --no-webui",
    "x\n--tools all",
    "x\x00--tools",
    "$(POD_UID)",
    "$$(POD_UID)",
    "$(cat /etc/passwd)",
    "`id`",
    "; sh -c id",
    "| sh",
    "&& curl evil.example",
    "--temp",
    "--temp=",
    "--temp=-1",
    "--temp=0.5 --props",
    "--temp=0.5\n",
    "--temp=0,5",
    "--temp=$(id)",
    "--numa=../../etc",
    "--generation-config=/models",
    "--tool-call-parser=/evil.py",
    "--lora=x",
    "--ssl-key-file=x",
    "--api-key=x",
    "--port=1",
    "--host=0.0.0.0",
    "--trust-remote-code=true",
    "--speculative-config={}",
    "--TEMP=1",
    "--t_emp=1",
    "'\"",
    '"}',
    "\\",
    "../../etc/passwd",
    "/etc/passwd",
    "~root",
    "*",
    "é\u202e",
)
IMAGES: Final = {
    "ghcr.io/ggml-org/llama.cpp": "LlamaCpp",
    "docker.io/vllm/vllm-openai-cpu": "VLLM",
    "ghcr.io/huggingface/text-generation-inference": "TGI",
}
LOADS_CODE: Final = re.compile(
    r"trust-remote|lora|plugin|middleware|io-processor|logits-processor|model-class|hf-overrides|rpc|tools|agent|mcp"
    r"|ngrok|-path$|tokenizer|revision|token$|loader-extra"
)
"""Parts of flags that have a server load code, weights or a tokenizer from elsewhere, or open it to others."""
VARIABLES: Final = {
    "VLLM": {"VLLM_API_KEY", "VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "VLLM_NO_USAGE_STATS"}
    | {"VLLM_ENGINE_READY_TIMEOUT_S", "VLLM_CPU_OMP_THREADS_BIND", "OMP_NUM_THREADS", *COMMON_VARIABLES},
    "TGI": {"API_KEY", "MODEL_ID", "OMP_NUM_THREADS", *COMMON_VARIABLES},
}
"""Every variable that a server ever gets; llama.cpp reads LLAMA_ARG_* too and gets none."""


def places(value: object, at: Place = ()) -> Iterator[Place]:
    """Yield where texts stand in a spec: values, and keys of maps that users name."""
    if isinstance(value, str):
        yield at
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from places(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*at, index))


MAPS: Final = {"sha256", "nodeSelector", "podLabels", "podAnnotations"}
PLACES: Final = [(number, place) for number, spec in enumerate(SPECS) for place in places(spec)]
HOSTILE: Final = st.sampled_from(WORDS) | st.text(max_size=30)


def names_keys(place: Place) -> bool:
    """Tell whether users name the keys of the map that holds a text."""
    return len(place) > 1 and place[-2] in MAPS


def replaced(spec: Spec, place: Place, text: str, *, key: bool) -> Spec:
    """Return the spec with another text at a place: the value, or the key where users name keys."""
    changed = copy.deepcopy(spec)
    holder: Any = changed
    for step in place[:-1]:
        holder = holder[step]
    if key and names_keys(place):
        holder[text] = holder.pop(place[-1])
    else:
        holder[place[-1]] = text
    return changed


def facts_for(model: CompactModel) -> ModelFacts:
    """Return facts where everything that the spec names is there and its source resolved."""
    secret = a_secret(keys=("token", "accessKeyId", "secretAccessKey", "api-keys"))
    template = model.spec.runtime.chat_template
    integrity = model.spec.integrity
    sums = f"{DIGEST}  m.gguf\n"
    trust = {
        text_key(ref): TrustTextFacts(usable=True, text=sums)
        for ref in (integrity.references if integrity else ())
    }
    is_gguf = model.spec.runtime.name not in ("VLLM", "TGI")
    text = artifact_text(header=HEADERS.get(model.spec.task, SMOLLM2)) if is_gguf else safetensors_text()
    found = base_facts(
        model,
        artifacts=(stored(model, text, trust=trust),),
        trust=trust,
        secret=secret,
        own_keys=replace(secret, name="team-keys"),
        weights_key=replace(secret, name="opener", keys=("identity",), for_weights=True),
        chat_template=TextFacts(name=template.name, keys=(template.key,), content_hash="h") if template else None,
    )
    if model.spec.cache is None:
        return found
    fill = filled()
    return replace(found, claim=a_claim(), storage_classes=CLASSES, fills=(fill,))


def containers(model: CompactModel) -> list[dict[str, Any]]:
    """Return every container of the model's Jobs and Deployment: resolving, and running."""
    facts = facts_for(model)
    found = []
    for known in (facts, replace(facts, artifacts=())):
        for item in plan_of(model, known).children:
            if item["kind"] in ("Job", "Deployment"):
                pod: Any = item["spec"]
                pod = pod["template"]["spec"]
                found += [*pod["containers"], *pod.get("initContainers", ())]
    return found


def check_server(container: Mapping[str, Any]) -> None:
    """Read the argv as the server does: flags that are ours, each with its value."""
    runtime = IMAGES[container["image"].rpartition(":")[0]]
    known = [*FLAGS[runtime], *(item.flag for item in ALLOWED[runtime])]
    flags = {flag.name: 0 if flag.switch else 1 for flag in known if flag.since and not flag.removed}
    names = {item["name"] for item in container.get("env", ())}
    assert names <= VARIABLES.get(runtime, set())
    for item in container.get("env", ()):
        assert "$(" not in item.get("value", "").replace("$$", "")
    assert container.get("command", []) == (["vllm", "serve"] if runtime == "VLLM" else [])
    rest = list(container["args"])
    if runtime == "VLLM":
        assert rest.pop(0).startswith("/models")
    while rest:
        flag = rest.pop(0)
        assert flag in flags
        for _ in range(flags[flag]):
            value = rest.pop(0)
            assert value == "-1" or not value.startswith("-")
            assert "$(" not in value
            assert runtime != "TGI" or not re.search(r"\s", value)  # its entrypoint splits there


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_flag_of_ours_loads_code(runtime: str) -> None:
    ours = {flag.name for flag in FLAGS[runtime] if flag.since and not flag.removed}
    ours |= {item.name for item in ALLOWED[runtime]}
    assert [name for name in ours - REFUSALS - ADAPTERS if LOADS_CODE.search(name)] == []


def check_loader(container: Mapping[str, Any], model: CompactModel) -> None:
    """Read argv and environment as the loader does: texts of the spec are in the source and nowhere else."""
    _parser().parse_args(container["args"])
    assert {item["name"] for item in container["env"]} <= {"NIMBLET_SOURCE", "POD_UID"}
    text = next(item["value"] for item in container["env"] if item["name"] == "NIMBLET_SOURCE")
    assert "$" not in text
    assert parse_source(text).uri == model.spec.source.uri
    assert json.loads(text)["files"] == list(model.spec.source.files or ())


def check(model: CompactModel) -> int:
    found = containers(model)
    for container in found:
        assert container["name"] == "server" or "command" not in container
        assert not {"sh", "bash", "/bin/sh", "-c"} & set(container["args"])
        if container["name"] == "server":
            check_server(container)
        else:
            check_loader(container, model)
    return len(found)


@pytest.mark.parametrize("spec", SPECS)
def test_the_specs_themselves_are_planned(spec: Spec) -> None:
    names = [container["name"] for container in containers(a_model(**spec))]
    assert "resolver" in names
    assert "server" in names
    assert check(a_model(**spec)) >= 2


@settings(max_examples=600, deadline=None)
@given(
    where=st.sampled_from(PLACES),
    text=HOSTILE,
    joined=st.sampled_from(["alone", "after", "before"]),
    key=st.booleans(),
)
def test_no_text_becomes_a_flag_or_a_word_of_a_shell(
    where: tuple[int, Place],
    text: str,
    joined: str,
    key: bool,
) -> None:
    number, place = where
    before: Any = SPECS[number]
    for step in place:
        before = before[step]
    before = str(place[-1]) if key and names_keys(place) else before
    whole = {"alone": text, "after": before + text, "before": text + before}[joined]
    try:
        spec = CompactModelSpec.model_validate(replaced(SPECS[number], place, whole, key=key))
    except ValidationError:
        return
    check(a_model().model_copy(update={"spec": spec}))


@pytest.mark.parametrize("word", WORDS)
def test_no_hostile_word_alone_is_accepted_where_it_becomes_an_argument(word: str) -> None:
    for change in ({"servedModelName": word}, {"runtime": {"kvCacheType": word}}, {"runtime": {"name": word}}):
        with pytest.raises(ValidationError):
            CompactModelSpec.model_validate({"source": {"uri": SMOLLM2_URI}, **change})


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("word", WORDS)
def test_no_hostile_word_is_a_flag_that_a_server_is_given(runtime: str, word: str) -> None:
    asked = {"source": {"uri": SMOLLM2_URI}, "runtime": {"name": runtime, "extraArgs": [word]}}
    try:
        spec = CompactModelSpec.model_validate(asked)
    except ValidationError:
        return
    found = containers(a_model().model_copy(update={"spec": spec}))
    assert "server" not in [container["name"] for container in found]


@pytest.mark.parametrize(
    "field", ["arguments", "args", "command", "env", "trustRemoteCode", "podTemplate", "image"]
)
def test_what_would_load_code_can_not_be_said(field: str) -> None:
    for change in ({field: ["--x"]}, {"runtime": {field: ["--x"]}}, {"source": {"uri": SMOLLM2_URI, field: True}}):
        with pytest.raises(ValidationError, match="Extra inputs"):
            CompactModelSpec.model_validate({"source": {"uri": SMOLLM2_URI}, **change})
