# SPDX-License-Identifier: Apache-2.0
"""runtime.extraArgs: what each server may be given and where it lands, and what is refused before any pod."""

from typing import Any

import pytest

from nimblet.api.compactmodel import CompactModelStatus
from nimblet.plan.result import Plan
from nimblet.plan.runtime.allowed import ALLOWED, Allowed, Fraction, Whole, Words
from nimblet.plan.runtime.extraargs import extra_args_flaws, words
from nimblet.settings import Settings
from tests.builders import (
    MINILM,
    a_model,
    artifact_text,
    base_facts,
    child,
    edited,
    kinds,
    plan_of,
    revision_of,
    served,
    serving_facts,
    stored,
)
from tests.conditions import message, shown
from tests.repositories import safetensors_text

PINNED = {"LlamaCpp": "11434", "VLLM": "0.32.0", "TGI": "3.3.7"}
EVERY = [(runtime, item) for runtime, table in ALLOWED.items() for item in table]


def edges(item: Allowed) -> tuple[list[str], list[str]]:
    """Return values that a flag takes, and such that it does not."""
    match item.values:
        case None:
            return [""], ["=1", "=true"]
        case Whole(least=least, most=most):
            return [f"={least}", f"={most}"], [
                "",
                f"={most + 1}",
                "=0x1",
                f"={least}.5",
                "=01",
                "=+1",
                "=1e1",
                "=x",
            ]
        case Fraction(least=least, most=most):
            return [f"={least:g}", f"={most:g}"], [
                "",
                f"={most + 0.1:g}",
                "=nan",
                "=inf",
                "=1e-1",
                "=.5",
                "=1.2345678",
            ]
        case Words(words=known):
            return [f"={word}" for word in known], ["", "=nonesuch", f"={known[0]}x", f"={known[0].upper()}"]


def flaws(runtime: str, *asked: str, version: str = "", task: Any = "Chat") -> list[str]:
    return extra_args_flaws(runtime, version or PINNED[runtime], asked, task=task)


@pytest.mark.parametrize(("runtime", "item"), EVERY, ids=[f"{runtime}{item.name}" for runtime, item in EVERY])
def test_each_flag_takes_its_values_and_no_others(runtime: str, item: Allowed) -> None:
    good, bad = edges(item)
    others = [f"{name}={_first(runtime, name)}" for name in item.needs]
    assert [flaws(runtime, f"{item.name}{value}", *others) for value in good] == [[]] * len(good)
    for value in bad:
        assert len(flaws(runtime, f"{item.name}{value}", *others)) == 1, f"{item.name}{value} was taken"


def _first(runtime: str, name: str) -> str:
    values = next(item.values for item in ALLOWED[runtime] if item.name == name)
    assert isinstance(values, Words)
    return values.words[0]


@pytest.mark.parametrize(
    ("runtime", "asked", "told"),
    [
        ("LlamaCpp", "--temp=9", "--temp takes a number from 0 to 2"),
        ("LlamaCpp", "--top-k=1001", "--top-k takes a whole number from 0 to 1000"),
        ("LlamaCpp", "--numa=numactl", "--numa takes one of distribute, isolate"),
        ("LlamaCpp", "--no-warmup=1", "--no-warmup takes no value"),
        ("LlamaCpp", "--ctx-size=512", "--ctx-size is the operator's to set: use runtime.contextLength"),
        ("LlamaCpp", "--host=0.0.0.0", "--host is the operator's to set and has no field"),
        ("LlamaCpp", "--temperature=1", "--temperature is the operator's to set: use extraArgs --temp"),
        ("LlamaCpp", "--swa-full", "--swa-full changes memory in a way that sizing does not count"),
        ("LlamaCpp", "--enforce-eager", "--enforce-eager is for VLLM, not for LlamaCpp"),
        ("LlamaCpp", "--rpc=10.0.0.1", "--rpc is not among the flags that LlamaCpp may be given"),
        ("VLLM", "--max-num-seqs=4", "--max-num-seqs is the operator's to set: use runtime.parallel"),
        ("VLLM", "--middleware=x", "--middleware is not among the flags"),
        ("VLLM", "--enable-auto-tool-choice", "--enable-auto-tool-choice needs --tool-call-parser too"),
        ("TGI", "--quantize=eetq", "--quantize changes memory in a way that sizing does not count"),
        ("TGI", "--env", "--env is not among the flags"),
    ],
)
def test_what_is_refused_is_told_with_what_to_do(runtime: str, asked: str, told: str) -> None:
    (flaw,) = flaws(runtime, asked)
    assert flaw.startswith(told)


def test_a_flag_that_the_servers_version_does_not_know_is_refused() -> None:
    assert flaws("VLLM", "--sse-keep-alive-interval=15") == []
    (flaw,) = flaws("VLLM", "--sse-keep-alive-interval=15", version="0.26.0")
    assert flaw == "--sse-keep-alive-interval is known since 0.32.0, and the server is 0.26.0"


def test_sampling_is_for_chat_alone() -> None:
    assert flaws("LlamaCpp", "--poll=0", task="Embedding") == []
    assert flaws("LlamaCpp", "--temp=1", task="Embedding") == ["--temp is for the task Chat, not Embedding"]


def test_each_value_is_a_word_of_its_own() -> None:
    assert words(["--temp=0.2", "--no-warmup"]) == ["--temp", "0.2", "--no-warmup"]


def planned(*asked: str, name: str = "Auto", text: str | None = None, **spec: Any) -> Plan[CompactModelStatus]:
    model = a_model(runtime={"name": name, "extraArgs": list(asked)}, **spec)
    artifact = stored(model, text) if text is not None else stored(model)
    return plan_of(model, base_facts(model, artifacts=(artifact,)))


def args_of(plan: Plan[CompactModelStatus]) -> list[str]:
    args: list[str] = child(plan.children, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    return args


@pytest.mark.parametrize(
    ("runtime", "asked", "rendered"),
    [
        ("LlamaCpp", ("--temp=0.2", "--no-warmup"), ["--temp", "0.2", "--no-warmup"]),
        ("VLLM", ("--no-enable-prefix-caching", "--seed=7"), ["--no-enable-prefix-caching", "--seed", "7"]),
        ("TGI", ("--payload-limit=65536",), ["--payload-limit", "65536"]),
    ],
)
def test_the_flags_stand_behind_the_operators_own(
    runtime: str, asked: tuple[str, ...], rendered: list[str]
) -> None:
    text = None if runtime == "LlamaCpp" else safetensors_text()
    args = args_of(planned(*asked, name=runtime, text=text))
    model = a_model(runtime={"name": runtime})
    artifact = stored(model, text) if text is not None else stored(model)
    plain = args_of(plan_of(model, base_facts(model, artifacts=(artifact,))))
    assert args == [*plain, *rendered]


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        ("Auto", ("--rpc=10.0.0.1",), "runtime.extraArgs: --rpc is not among the flags"),
        ("Auto", ("--seed=1", "--payload-limit=65536"), "--payload-limit is for TGI, not for VLLM"),
        ("TGI", ("--seed=1",), "--seed is for LlamaCpp and VLLM, not for TGI"),
        ("VLLM", ("--a", "--b", "--c", "--d"), "--c is not among the flags that VLLM may be given, and 1 more"),
    ],
)
def test_a_refused_flag_makes_no_pod(name: str, asked: tuple[str, ...], told: str) -> None:
    plan = planned(*asked, name=name, text=safetensors_text())
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Stalled") == ("True", "ExtraArgsRefused")
    assert shown(plan, "Ready") == ("False", "ExtraArgsRefused")
    assert told in message(plan, "Ready")
    assert ("(VLLM was chosen by runtime.name Auto)" in message(plan, "Ready")) is (name == "Auto")
    assert message(plan, "Ready").endswith("docs/runtimes.md lists what each server takes.")


def test_a_refused_flag_leaves_what_serves_and_heals() -> None:
    old = a_model()
    bad = edited(served(old), runtime={"extraArgs": ["--temp=0.2", "--props"]})
    plan = plan_of(bad, serving_facts(old))
    assert "Deployment" not in kinds(plan)
    assert plan.deletions == ()
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "UpdateFailed")
    assert "--props is not among the flags" in message(plan, "Ready")
    healed = plan_of(edited(bad, runtime={"extraArgs": ["--temp=0.2"]}), serving_facts(old))
    assert args_of(healed)[-2:] == ["--temp", "0.2"]
    assert shown(healed, "Stalled") is None


def test_pods_that_have_a_flag_keep_it_when_a_newer_image_knows_it_no_more() -> None:
    model = a_model(runtime={"extraArgs": ["--temp=0.2"]})
    older = Settings.model_validate({"images": {"llamacpp": "registry.example/llama.cpp:server-b10000"}})
    plan = plan_of(served(model), serving_facts(model), settings=older)
    assert args_of(plan)[-2:] == ["--temp", "0.2"]
    assert shown(plan, "UpdateAvailable") == ("True", "NewerImages")
    fresh = plan_of(model, base_facts(model), settings=older)
    assert "--temp is known since 11434, and the server is 10000" in message(fresh, "Ready")


def test_no_flag_changes_what_is_sized_and_none_leaves_the_template_as_it_is() -> None:
    plain, told = a_model(), a_model(runtime={"extraArgs": ["--no-warmup"]})
    assert revision_of(plain) != revision_of(told)
    assert plan_of(plain, base_facts(plain)).status.sizing == plan_of(told, base_facts(told)).status.sizing


def test_an_embedding_model_may_be_told_what_changes_no_vector() -> None:
    plan = planned("--poll=0", task="Embedding", text=artifact_text(header=MINILM))
    assert args_of(plan)[-2:] == ["--poll", "0"]


def test_no_flag_leaves_thoughts_in_the_answer() -> None:
    # the gateway knows the usual tags alone; llama.cpp takes those of every template out, unless told not to
    assert extra_args_flaws("LlamaCpp", "11434", ["--reasoning-format=none"], task="Chat")


@pytest.mark.parametrize("flag", ["--kv-cache-memory-bytes", "--gpu-memory-utilization"])
def test_no_field_is_named_that_sets_something_else(flag: str) -> None:
    # resources.memory is the container's size and no part of the device's arithmetic
    (flaw,) = extra_args_flaws("VLLM", "0.32.0", [f"{flag}=1"], task="Chat")
    assert "resources.memory" not in flaw
