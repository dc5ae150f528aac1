# SPDX-License-Identifier: Apache-2.0
"""The model server of a CompactModel and how it is set up. Shape and local validity only.

No field here is passed on to a server as it is: there are no free arguments, variables or images, and nothing that
loads code.
"""

from typing import Annotated, Literal

from pydantic import Field

from nimblet.api.common import ConfigMapKeyRef, SpecModel

StrictInt = Annotated[int, Field(strict=True)]
KVCacheType = Literal["f16", "q8_0", "q4_0"]
RuntimeName = Literal["Auto", "LlamaCpp", "VLLM", "TGI"]


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
