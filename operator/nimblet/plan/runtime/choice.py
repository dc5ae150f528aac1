# SPDX-License-Identifier: Apache-2.0
"""Which model server, and why not the others. Pure.

Auto takes the first that loads the format, does the task, has all that the spec asks for, and has an image for the
hardware; TGI comes last, since its project is in maintenance mode. A server that is named is taken or refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, get_args

from nimblet.api.hardware import HardwareClass
from nimblet.conditions import Reason
from nimblet.plan.runtime.flags import unread
from nimblet.plan.runtime.interface import Runtime, Wish, server_version
from nimblet.plan.runtime.llamacpp import LLAMACPP
from nimblet.plan.runtime.tgi import TGI
from nimblet.plan.runtime.vllm import VLLM
from nimblet.plan.stage import Problem, problem

AUTO: Final = "Auto"
RUNTIMES: Final[Mapping[str, Runtime]] = {runtime.name: runtime for runtime in (LLAMACPP, VLLM, TGI)}
"""All servers, in the order in which Auto prefers them."""

TITLES: Final[Mapping[str, str]] = {"LlamaCpp": "llama.cpp", "VLLM": "vLLM", "TGI": "TGI"}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The server that was chosen, its image, and why."""

    runtime: Runtime
    image: str
    why: str
    wanted: str = ""
    """The image that the administrator's settings name for it by now."""
    kept: bool = False
    """`image` is that of the pods."""


def choose_runtime(named: str, wish: Wish, images: Mapping[str, str]) -> Choice | Problem:
    """Return the server; `images` are those of the hardware, by the server's name."""
    flaws = {name: runtime_flaw(runtime, wish, images) for name, runtime in RUNTIMES.items()}
    if named != AUTO:
        if flaws[named]:
            able = [name for name, flaw in flaws.items() if not flaw]
            instead = f" {' and '.join(able)} would do." if able else ""
            return problem(Reason.RUNTIME_UNSUITABLE, f"runtime.name is {named}: {flaws[named]}.{instead}")
        return _chosen(RUNTIMES[named], images, why=f"{named}: named in runtime.name")
    able = [name for name, flaw in flaws.items() if not flaw]
    if not able:
        # what loads the format at all tells more than what does not
        loading = [flaw for name, flaw in flaws.items() if wish.format in RUNTIMES[name].formats]
        told = "; ".join(loading or flaws.values())
        return problem(Reason.RUNTIME_UNSUITABLE, f"No runtime serves this model: {told}.")
    others = [flaw for flaw in flaws.values() if flaw]
    others += [f"{name} would do, but comes after it" for name in able[1:]]
    why = f"{able[0]} loads {wish.format} files" + (f" ({'; '.join(others)})" if others else "")
    return _chosen(RUNTIMES[able[0]], images, why=why)


def unknown(wish: Wish) -> str:
    """Return that the servers of the format "do" or "does" (not know it); "" where one knows the architecture."""
    loading = [runtime for runtime in RUNTIMES.values() if wish.format in runtime.formats]
    anywhere = [replace(wish, hardware=hardware) for hardware in get_args(HardwareClass)]
    if not wish.architecture or any(runtime.knows(item) for runtime in loading for item in anywhere):
        return ""
    names = " and ".join(TITLES[runtime.name] for runtime in loading)
    return f"the pinned {names} {'do' if len(loading) > 1 else 'does'}"


def _chosen(runtime: Runtime, images: Mapping[str, str], *, why: str) -> Choice:
    image = images[runtime.name]
    note = unread(runtime.name, server_version(runtime, image))
    return Choice(runtime=runtime, image=image, why=f"{why}; {note}" if note else why)


def runtime_flaw(runtime: Runtime, wish: Wish, images: Mapping[str, str]) -> str:
    """Return the first thing that keeps a server from what is wished, "" where nothing does."""
    name = runtime.name
    if wish.format not in runtime.formats:
        return f"{name} loads {' and '.join(sorted(runtime.formats))} files, not {wish.format}"
    if wish.task not in runtime.tasks:
        return f"{name} does {', '.join(sorted(runtime.tasks))}, not {wish.task}"
    if flaw := _stranger(runtime, wish) or runtime.flaw(wish):
        return flaw
    if images.get(name):  # an administrator's own build may run where no published image does
        return ""
    if wish.hardware not in runtime.classes:
        return f"{name} does not run on {wish.hardware}"
    return f"the administrator's settings name no image of {name} for {wish.hardware}"


def _stranger(runtime: Runtime, wish: Wish) -> str:
    if not wish.architecture or runtime.knows(wish):
        return ""
    family = f" ({wish.model_type})" if wish.model_type else ""
    where = " on Gaudi" if wish.hardware == "gaudi" else ""
    return f"{runtime.name} {runtime.pinned} knows no {wish.architecture}{family}{where}"
