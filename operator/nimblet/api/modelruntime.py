# SPDX-License-Identifier: Apache-2.0
"""The model server of a CompactModel and how it is set up. Shape and local validity only.

No field here is passed on to a server as it is: there are no free arguments, variables or images, and nothing that
loads code. Of `extraArgs` the shape is checked here; which flags a server may be given stands in
plan/runtime/allowed.py.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, field_validator

from nimblet.api.common import ConfigMapKeyRef, SpecModel
from nimblet.api.definition import Rule, rules
from nimblet.api.speculative import Speculative

MAX_EXTRA_ARGS: Final = 16
MAX_EXTRA_ARG: Final = 80
StrictInt = Annotated[int, Field(strict=True)]
KVCacheType = Literal["f16", "q8_0", "q4_0"]
RuntimeName = Literal["Auto", "LlamaCpp", "VLLM", "TGI"]
ExtraArg = Annotated[
    str,
    StringConstraints(
        pattern=r"^--[a-z][a-z0-9]*(-[a-z0-9]+)*(=[A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=MAX_EXTRA_ARG
    ),
]
"""One flag, with its value behind `=`: no value begins like a flag, and none is a path, a list or JSON."""

ONCE_RULE: Final = Rule(
    rule="self.all(one, self.exists_one(other, other.split('=')[0] == one.split('=')[0]))",
    message="each flag of runtime.extraArgs may be given once",
)


class ModelRuntime(SpecModel):
    """The server and how it is set up."""

    name: RuntimeName = Field(
        default="Auto",
        description="LlamaCpp loads GGUF; VLLM and TGI load safetensors. Auto chooses by format, task, hardware "
        "and what else the spec asks for, and says in status.resolved why, and why not the others.",
    )
    context_length: Annotated[StrictInt, Field(ge=256, le=1048576)] | None = Field(
        default=None,
        description="Tokens of context that each parallel request has. 4096, or the model's own maximum where "
        "that is smaller, when absent.",
    )
    parallel: Annotated[StrictInt, Field(ge=1, le=64)] = Field(
        default=2, description="Requests one replica works on at the same time (slots); others wait."
    )
    kv_cache_type: KVCacheType = Field(
        default="f16",
        description="Type of the key and value cache: q8_0 halves its memory, q4_0 quarters it. LlamaCpp alone "
        "knows another than f16.",
    )
    chat_template: ConfigMapKeyRef | None = Field(
        default=None,
        description="A Jinja chat template in a ConfigMap, used instead of the one in the model's file. A "
        "change of its text rolls the pods. Not for TGI.",
    )
    speculative: Speculative | None = Field(
        default=None,
        description="Guesses tokens ahead, for the task Chat. When absent, the model makes them one by one.",
    )
    extra_args: (
        Annotated[
            list[ExtraArg],
            Field(min_length=1, max_length=MAX_EXTRA_ARGS, json_schema_extra=rules(ONCE_RULE)),
        ]
        | None
    ) = Field(
        default=None,
        description="Further flags of the server, one an item: `--flag` or `--flag=value`. Only those of a list, "
        "by server and version, with values within bounds (docs/runtimes.md); any other is refused before a pod "
        "is made. The flags choose no server: with Auto they are judged by the one that was chosen.",
    )

    @field_validator("extra_args")
    @classmethod
    def _once(cls, found: list[str] | None) -> list[str] | None:
        flags = [item.partition("=")[0] for item in found or ()]
        if len(set(flags)) != len(flags):
            raise ValueError(ONCE_RULE.message)
        return found
