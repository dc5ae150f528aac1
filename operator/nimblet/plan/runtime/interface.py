# SPDX-License-Identifier: Apache-2.0
"""What every model server's module tells of itself, and what it is asked. Data only; no server is named here."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from nimblet.api.compactmodel import Task
from nimblet.api.hardware import HardwareClass
from nimblet.api.speculative import SpeculationType
from nimblet.hardware import CPU_CLASSES
from nimblet.manifests.common import Manifest
from nimblet.manifests.deployment import ServerContainer
from nimblet.plan.artifact import Format
from nimblet.plan.devicesizing import Engine
from nimblet.plan.task import Pooling

ALL_CLASSES: Final[frozenset[HardwareClass]] = frozenset(get_args(HardwareClass))

Version = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """What a task adds that answers with numbers: how tokens become one, and the outputs of a head on top."""

    task: Task
    pooling: Pooling
    ubatch: int
    architecture: str
    outputs: int


@dataclass(frozen=True, kw_only=True)
class Speculation:
    """How tokens are guessed ahead; what the spec leaves open is filled in by plan/speculative.py."""

    type: SpeculationType
    draft_tokens: int
    """Most tokens of a guess."""
    ngram_size: int = 0
    """Tokens that must have stood before; 0 leaves it to the server's module."""
    least_tokens: int = 0
    """Guesses of the drafting model that are shorter are dropped; 0 takes all."""
    model_file: str = ""
    """Where GGUF of the drafting model is loaded from, below its own directory: of a split one the first part."""
    folder: str = ""
    """Where its config.json lies, for other formats."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a server is wanted for: all that decides whether it can."""

    format: Format
    task: Task
    architecture: str = ""
    """As the header names it; "" where nobody need know it: pods of it are there, or the administrator vouches."""
    model_type: str = ""
    """Family of the model, of safetensors alone."""
    hardware: HardwareClass = "cpu"
    kv_cache_type: str = "f16"
    chat_template: bool = False
    """A chat template of the user's own."""
    own_keys: bool = False
    """Keys of the user's own beside the generated one."""
    key_version: int = 1
    speculation: Speculation | None = None
    parallel: int = 1
    adapter_ranks: tuple[int, ...] = ()
    """Ranks of the adapters, one each."""
    adapter_scales: bool = False
    """An adapter is to be of another strength than it was trained for."""


@dataclass(frozen=True, kw_only=True)
class LoadedAdapter:
    """An adapter that a server loads at its start; `file` is below its own folder."""

    name: str
    file: str
    rank: int


@dataclass(frozen=True, kw_only=True)
class Serve:
    """What a server's container depends on. `model_file` and `folder` are below the models' directory."""

    image: str
    hardware: HardwareClass = "cpu"
    devices: int = 1
    """Devices of the class; on a CPU it says nothing."""
    alias: str
    model_file: str
    """Where GGUF is loaded from: of a split model the first part."""
    folder: str = ""
    """Where config.json lies, which other formats are loaded from; "" for the directory itself."""
    context_length: int
    parallel: int
    kv_cache_type: str
    kv_cache_bytes: int
    prompt_cache_mebibytes: int
    threads: int
    startup_seconds: int
    """How long reading the weights may take."""
    key_secret: tuple[str, str]
    """Secret and entry of the endpoint's key, for servers that read it from a variable."""
    pooled: Pooled | None = None
    own_keys: bool = False
    chat_template: bool = False
    speculation: Speculation | None = None
    adapters: tuple[LoadedAdapter, ...] = ()

    @property
    def on_cpu(self) -> bool:
        """Whether it has no device."""
        return self.hardware in CPU_CLASSES


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Names of a server's metrics, where it has them: what dashboards and autoscalers ask for."""

    path: str = "/metrics"
    needs_key: bool
    running: str
    waiting: str
    generated_tokens: str
    prompt_tokens: str
    cache_usage: str = ""
    first_token_seconds: str = ""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One model server: what it can, what it is started with, and what it leaves open."""

    name: str
    formats: frozenset[Format]
    tasks: frozenset[Task]
    classes: frozenset[HardwareClass]
    """What its project publishes images for, or others publish images of it."""
    port: int
    metrics: Metrics
    open_paths: tuple[str, ...]
    """Paths that answer without a key: who reaches them at all is the NetworkPolicy's."""
    keys: Literal["file", "variable"]
    """How it takes API keys. A variable holds one key."""
    reads_x_api_key: bool = False
    """It looks for the key in X-Api-Key too; the API server's proxy takes Authorization for itself."""
    pinned: str
    """Version whose argument list the flags were read from; further ones are in the table of flags."""
    version_pattern: re.Pattern[str]
    """Finds the version in an image's reference."""
    knows: Callable[[Wish], bool]
    """Whether it has code for the architecture, on the class of hardware."""
    flaw: Callable[[Wish], str]
    """Why it can't do what is wished beyond format, task and class; "" where it can."""
    container: Callable[[Serve], ServerContainer]
    engine: Engine | None = None
    """Whose rules size its pods; None: llama.cpp's own."""
    extra_startup: Mapping[HardwareClass, int] = field(default_factory=dict)
    """Seconds of start-up beside reading the weights: compilation, graph capture, warm-up."""


def image_version(image: str) -> str:
    """Return the tag or digest of an image reference, or "" when it has none."""
    name = image.rsplit("/", 1)[-1]
    return name.partition("@")[2] or name.partition(":")[2]


def server_version(runtime: Runtime, image: str) -> str:
    """Return the server's own version as the image's reference tells it, "" where it does not."""
    found = runtime.version_pattern.search(image)
    return found.group(1) if found is not None else ""


def parts(version: str) -> Version:
    """Return a version as numbers that compare."""
    return tuple(int(number) for number in version.split("."))


def http_get(path: str, *, period: int, failures: int, timeout: int = 5) -> Manifest:
    """Return a probe that asks a path of the server's port."""
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }


def health_probes(path: str, *, startup_seconds: int, startup_period: int) -> Manifest:
    """Return the three probes of a server whose one path tells both that it started and that it lives."""
    return {
        "startupProbe": http_get(path, period=startup_period, failures=startup_seconds // startup_period),
        "readinessProbe": http_get(path, period=2, failures=3),
        "livenessProbe": http_get(path, period=10, failures=6, timeout=10),
    }
