# SPDX-License-Identifier: Apache-2.0
"""A model server written in Python: its container, and what none of them can. Pure; no server is named here.

They read safetensors, take one key in a variable, compile as they start, and tell of their health at one path,
which is 503 until they can answer and once the engine is dead. Their modules say what differs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from nimblet.api.hardware import HardwareClass
from nimblet.manifests.deployment import ServerContainer
from nimblet.plan.runtime.environment import TMP_LIMIT, directories, variables
from nimblet.plan.runtime.interface import Serve, Wish, health_probes

STARTUP_PERIOD_SECONDS: Final = 2
KV_CACHE_TYPE: Final = "f16"
"""The one that they have: the cache is of the type that the model computes with."""


@dataclass(frozen=True, kw_only=True)
class PythonServer:
    """What is a server's own."""

    name: str
    key: str
    """The variable of its key."""
    args: Callable[[Serve], list[str]]
    own_variables: Callable[[Serve, int], Mapping[str, str]]
    """Variables of its own, for one that may take so many seconds to start."""
    own_flaw: Callable[[Wish], str]
    """Why it can't do what others of them can; "" where it can."""
    extra_startup: Mapping[HardwareClass, int]
    """Seconds of start-up beside reading the weights."""
    command: tuple[str, ...] = ()
    """Said in the pod where the entrypoints of its images differ."""

    def container(self, server: Serve) -> ServerContainer:
        """Return the server's image, argv, variables and probes."""
        startup = server.startup_seconds + self.extra_startup[server.hardware]
        return ServerContainer(
            image=server.image,
            command=self.command,
            args=self.args(server),
            env=variables(self.own_variables(server, startup), key=self.key, secret=server.key_secret),
            probes=health_probes("/health", startup_seconds=startup, startup_period=STARTUP_PERIOD_SECONDS),
            key_file=False,
            tmp_limit=TMP_LIMIT,
            scratch=directories(server),
        )

    def flaw(self, wish: Wish) -> str:
        """Return what a wish has that the server can't."""
        if wish.kv_cache_type != KV_CACHE_TYPE:
            return f"{self.name} knows no KV cache of type {wish.kv_cache_type}: that is LlamaCpp's"
        if wish.adapter_scales:
            return f"{self.name} applies an adapter as it was trained: scalePercent is LlamaCpp's"
        return self.own_flaw(wish) or self._one_key_flaw(wish)

    def _one_key_flaw(self, wish: Wish) -> str:
        """Return why one key in a variable won't do; "" where one is all that is asked for."""
        if wish.own_keys:
            return f"{self.name} takes one key and no file of keys, so that access.apiKeysSecretRef can't be used"
        if wish.key_version > 1:
            return (
                f"{self.name} takes one key at a time: access.keyVersion can't rotate it without refusing requests"
            )
        return ""
