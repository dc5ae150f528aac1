# SPDX-License-Identifier: Apache-2.0
"""Every flag that a plan gives a server is one that its pinned version publishes, with a value or without.

Those that `runtime.extraArgs` may name are held against the lists too, and against docs/runtimes.md.

The lists stand in tests/contract/arguments, each with its source. llama.cpp's is compared with the built server in
e2e/scenarios/test_server_flags.py; the others were read, and no such server was run.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from nimblet import labels
from nimblet.api.compactmodel import CompactModelSpec
from nimblet.plan.runtime.allowed import ALLOWED, Allowed
from nimblet.plan.runtime.choice import RUNTIMES
from nimblet.plan.runtime.extraargs import values_text
from nimblet.plan.runtime.flags import FLAGS, READ, Flag, flag_troubles
from nimblet.plan.runtime.interface import parts, server_version
from nimblet.plan.runtime.owned import INSTEAD, MEMORY
from tests.arguments import published, read_help, unpublished
from tests.golden.cases import OUTPUTS

VERSIONS = [(runtime, version) for runtime, versions in READ.items() for version in versions]
SERVERS = {"LlamaCpp": "llama.cpp", "VLLM": "vllm", "TGI": "text-generation-inference"}
"""Part of an image's name that tells the server."""


def servers(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the model server's container of a golden output, where it has one."""
    for child in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if child.get("kind") == "Deployment" and child["metadata"]["labels"][labels.COMPONENT] == "model":
            yield from child["spec"]["template"]["spec"]["containers"]


GOLDEN = [(path.stem, server) for path in sorted(OUTPUTS.glob("*.yaml")) for server in servers(path)]


def runtime_of(server: Mapping[str, Any]) -> str:
    return next(name for name, part in SERVERS.items() if part in server["image"])


def flags_of(server: Mapping[str, Any]) -> list[str]:
    """Return the argv without the positional model, which vLLM alone has."""
    args = list(server["args"])
    return args[1:] if runtime_of(server) == "VLLM" else args


def test_every_server_is_in_a_golden_output() -> None:
    assert {runtime_of(server) for _, server in GOLDEN} == set(RUNTIMES)


@pytest.mark.parametrize(("case", "server"), GOLDEN, ids=[case for case, _ in GOLDEN])
def test_a_rendered_argv_has_published_flags_alone(case: str, server: Mapping[str, Any]) -> None:
    name = runtime_of(server)
    version = server_version(RUNTIMES[name], server["image"])
    assert version in READ[name]
    assert unpublished(flags_of(server), published(name, version)) == []
    further = [item.flag for item in ALLOWED[name]]
    assert flag_troubles(name, version, flags_of(server), further=further) == []


@pytest.mark.parametrize(("runtime", "version"), VERSIONS)
def test_the_table_agrees_with_the_published_list(runtime: str, version: str) -> None:
    flags = published(runtime, version)
    table = [*FLAGS[runtime], *(item.flag for item in ALLOWED[runtime])]

    def is_known(flag: Flag) -> bool:
        gone = bool(flag.removed) and parts(version) >= parts(flag.removed)
        return bool(flag.since) and parts(version) >= parts(flag.since) and not gone

    known = {flag.name: not flag.switch for flag in table if is_known(flag)}
    assert known.items() <= flags.items()
    assert not {flag.name for flag in table if not is_known(flag)} & set(flags)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_a_spec_may_name_is_nothing_that_the_operator_sets_or_leaves_out(runtime: str) -> None:
    may = [item.name for item in ALLOWED[runtime]]
    assert len(set(may)) == len(may)
    ours = {flag.name for flag in FLAGS[runtime] if flag.since and not flag.removed}
    assert ours <= set(INSTEAD[runtime])
    assert not set(may) & (set(INSTEAD[runtime]) | MEMORY[runtime])
    assert not set(INSTEAD[runtime]) & MEMORY[runtime]
    assert {name for item in ALLOWED[runtime] for name in item.needs} <= set(may)
    flags = published(runtime, RUNTIMES[runtime].pinned)
    assert set(INSTEAD[runtime]) | MEMORY[runtime] <= set(flags)


@pytest.mark.parametrize(
    "field", sorted({field for table in INSTEAD.values() for field in table.values() if field})
)
def test_a_field_to_use_instead_is_one_of_the_spec(field: str) -> None:
    if field.startswith("extraArgs "):
        assert field.removeprefix("extraArgs ") in {item.name for table in ALLOWED.values() for item in table}
        return
    model: Any = CompactModelSpec
    for name in field.split("."):
        model = next((found.annotation for found in model.model_fields.values() if found.alias == name), None)
        assert model is not None, f"{field}: no {name}"


def row(runtime: str, item: Allowed) -> str:
    """Return a flag's row of the table in docs/runtimes.md."""
    takes = values_text(item.values) if item.values is not None else "nothing"
    newer = f", since {item.flag.since}" if parts(item.flag.since) > parts(READ[runtime][0]) else ""
    needed = f", with `{'` and `'.join(item.needs)}`" if item.needs else ""
    return (
        f"| {runtime}{newer} | `{item.name}` | {takes} | {item.does}{needed} | {'Chat' if item.chat else 'all'} |"
    )


def test_the_documented_table_is_the_one_that_is_enforced() -> None:
    text = (Path(__file__).parents[2] / "docs" / "runtimes.md").read_text(encoding="utf-8")
    rows = [row(runtime, item) for runtime, table in ALLOWED.items() for item in table]
    found = [
        line for line in text.splitlines() if line.startswith(("| LlamaCpp", "| VLLM", "| TGI")) and "`--" in line
    ]
    assert found == rows, "expected in docs/runtimes.md:\n" + "\n".join(rows)
    for runtime, names in MEMORY.items():
        assert f"{runtime}: {', '.join(f'`{name}`' for name in sorted(names))}" in text


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_pinned_version_was_read(runtime: str) -> None:
    assert RUNTIMES[runtime].pinned in READ[runtime]


@pytest.mark.parametrize(
    ("runtime", "version", "args", "told"),
    [
        ("LlamaCpp", "11434", ["--mlock"], "--mlock is gone since 11434: --load-mode mlock"),
        ("VLLM", "0.32.0", ["--task", "embed"], "--task is gone since 0.26.0: --runner and --convert"),
        ("VLLM", "0.32.0", ["--calculate-kv-scales"], "--calculate-kv-scales is gone since 0.32.0"),
        (
            "VLLM",
            "0.26.0",
            ["--device-memory-utilization", "0.9"],
            "--device-memory-utilization is known",
        ),
        ("TGI", "3.3.7", ["--lora-adapters", "a"], "--lora-adapters is in no table"),
    ],
)
def test_an_unknown_a_newer_and_a_gone_flag_are_told(
    runtime: str, version: str, args: list[str], told: str
) -> None:
    troubles = flag_troubles(runtime, version, args)
    assert len(troubles) == 1
    assert troubles[0].startswith(told)


def test_a_word_that_no_flag_explains_is_found() -> None:
    flags = published("VLLM", "0.32.0")
    assert unpublished(["--port", "1", "loose", "--no-such"], flags) == ["loose", "--no-such"]
    assert unpublished(["--no-enable-log-requests", "true"], flags) == ["true"]


def test_help_is_read_with_removed_flags_left_out() -> None:
    indent = " " * 40
    lines = [
        "----- common params -----",
        "-a,    --all, --every N                 the number (default: 1)",
        "--both, --no-both                       whether",
        "--long-name-of-a-flag {one,two,three,four}",
        f"{indent}one of them",
        "--old N                                 the argument has been",
        f"{indent}removed. use --all",
    ]
    assert read_help("\n".join(lines)) == {
        "-a": True,
        "--all": True,
        "--every": True,
        "--both": False,
        "--no-both": False,
        "--long-name-of-a-flag": True,
    }
