# SPDX-License-Identifier: Apache-2.0
"""Whether a server may be given the flags of `runtime.extraArgs`, and what it is then told. Pure.

The tables are allowed.py and owned.py. A flag chooses no server: it is held against the one that was chosen.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from nimblet.api.compactmodel import CompactModel, Task
from nimblet.conditions import Reason
from nimblet.manifests.deployment import ServerContainer
from nimblet.plan.runtime.allowed import ALLOWED, Allowed, Fraction, Values, Whole, Words
from nimblet.plan.runtime.choice import AUTO, Choice
from nimblet.plan.runtime.interface import Runtime, Serve, parts, server_version
from nimblet.plan.runtime.owned import INSTEAD, MEMORY
from nimblet.plan.stage import Problem, problem

_WHOLE: Final = re.compile(r"(0|[1-9][0-9]{0,9})", re.ASCII)
_FRACTION: Final = re.compile(r"(0|[1-9][0-9]{0,3})(\.[0-9]{1,6})?", re.ASCII)
_TOLD: Final = 3
"""Flaws that one message names."""


def extra_args_problem(model: CompactModel, choice: Choice) -> Problem | None:
    """Return what keeps the chosen server from being given the flags; pods that have them keep them."""
    asked = model.spec.runtime.extra_args
    if not asked or choice.kept:
        return None
    runtime = choice.runtime
    version = server_version(runtime, choice.image) or runtime.pinned
    flaws = extra_args_flaws(runtime.name, version, asked, task=model.spec.task)
    if not flaws:
        return None
    chosen = f" ({runtime.name} was chosen by runtime.name Auto)" if model.spec.runtime.name == AUTO else ""
    more = f", and {len(flaws) - _TOLD} more" if len(flaws) > _TOLD else ""
    return problem(Reason.EXTRA_ARGS_REFUSED, f"runtime.extraArgs: {'; '.join(flaws[:_TOLD])}{more}{chosen}.")


def extra_args_flaws(runtime: str, version: str, asked: Sequence[str], *, task: Task) -> list[str]:
    """Return what is wrong with each flag, in their order."""
    table = {item.name: item for item in ALLOWED[runtime]}
    given = {item.partition("=")[0] for item in asked}
    flaws = []
    for item in asked:
        name, sign, value = item.partition("=")
        entry = table.get(name)
        if entry is None:
            flaws.append(_stranger(runtime, name))
        elif flaw := _too_new(entry, version) or _misplaced(entry, given, task) or _misvalued(entry, sign, value):
            flaws.append(f"{name} {flaw}")
    return flaws


def told(runtime: Runtime, asked: Sequence[str] | None) -> Runtime:
    """Return the server that is given these flags behind its own."""
    if not asked:
        return runtime
    return replace(runtime, container=_with_words(runtime.container, words(asked)))


def words(asked: Sequence[str]) -> list[str]:
    """Return the flags as words of an argv, each value one of its own: llama.cpp takes no `=`."""
    return [word for item in asked for word in item.split("=", 1)]


def _with_words(
    container: Callable[[Serve], ServerContainer], more: Sequence[str]
) -> Callable[[Serve], ServerContainer]:
    def with_words(server: Serve) -> ServerContainer:
        own = container(server)
        return replace(own, args=[*own.args, *more])

    return with_words


def _stranger(runtime: str, name: str) -> str:
    """Return why a flag that is not in the server's list is none for it."""
    field = INSTEAD[runtime].get(name)
    if field is not None:
        return f"{name} is the operator's to set" + (f": use {field}" if field else " and has no field")
    if name in MEMORY[runtime]:
        return f"{name} changes memory in a way that sizing does not count"
    others = [other for other, table in ALLOWED.items() if any(item.name == name for item in table)]
    if others:
        return f"{name} is for {' and '.join(others)}, not for {runtime}"
    return f"{name} is not among the flags that {runtime} may be given"


def _too_new(entry: Allowed, version: str) -> str:
    flag = entry.flag
    if flag.removed and parts(version) >= parts(flag.removed):
        return f"is gone since {flag.removed}, and the server is {version}"
    if parts(version) < parts(flag.since):
        return f"is known since {flag.since}, and the server is {version}"
    return ""


def _misplaced(entry: Allowed, given: set[str], task: Task) -> str:
    if entry.chat and task != "Chat":
        return f"is for the task Chat, not {task}"
    missing = [name for name in entry.needs if name not in given]
    return f"needs {' and '.join(missing)} too" if missing else ""


def _misvalued(entry: Allowed, sign: str, value: str) -> str:
    if entry.values is None:
        return "takes no value" if sign else ""
    return "" if sign and _fits(entry.values, value) else f"takes {values_text(entry.values)}"


def _fits(values: Values, text: str) -> bool:
    match values:
        case Whole():
            return _WHOLE.fullmatch(text) is not None and values.least <= int(text) <= values.most
        case Fraction():
            return _FRACTION.fullmatch(text) is not None and values.least <= float(text) <= values.most
        case Words():
            return text in values.words


def values_text(values: Values) -> str:
    """Return what may follow a flag, for people."""
    match values:
        case Whole():
            return f"a whole number from {values.least} to {values.most}"
        case Fraction():
            return f"a number from {values.least:g} to {values.most:g}"
        case Words():
            return f"one of {', '.join(values.words)}"
