# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters of a model: small files that change its answers, chosen per request. Local validity only."""

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nimblet.api.common import SpecModel, StatusModel
from nimblet.api.definition import Rule, rules
from nimblet.api.encryption import ENCRYPTION_RULE
from nimblet.api.integrity import Integrity
from nimblet.api.modelsource import ModelSource

MAX_ADAPTERS: Final = 8
"""Each costs an init container, a volume and memory for the whole life of a pod."""

AdapterName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
Percent = Annotated[int, Field(strict=True, ge=1, le=1000)]

ADAPTER_SOURCE_RULE: Final = Rule(
    rule="!has(self.source.quantization) && !self.source.uri.startsWith('ollama://')",
    message="an adapter's source is hf://, https://, s3://, oci:// or pvc://, without quantization: choose its "
    "file with files",
    field_path=".source",
)
ADAPTER_URL_RULE: Final = Rule(
    rule="!self.source.uri.startsWith('https://') || "
    "(has(self.integrity) && (has(self.integrity.manifestRef) || has(self.integrity.signature) || "
    "(has(self.integrity.sha256) && self.integrity.sha256.size() > 0)))",
    message="an adapter from an https:// source needs integrity.sha256, manifestRef or signature: a URL pins "
    "nothing by itself",
    field_path=".integrity",
)
ADAPTER_TASK_RULE: Final = Rule(
    rule="!has(self.adapters) || self.task == 'Chat'",
    message="adapters are for the task Chat: no request of another task can choose one",
    field_path=".adapters",
)
UNIQUE_MESSAGE: Final = "adapters have names of their own: two of them have one name"


class Adapter(SpecModel):
    """One LoRA adapter."""

    model_config = ConfigDict(json_schema_extra=rules(ADAPTER_SOURCE_RULE, ADAPTER_URL_RULE, ENCRYPTION_RULE))

    name: AdapterName = Field(
        description="Name of the adapter: what requests to VLLM and TGI call as their model, and what an "
        "Assistant names. It must differ from the model's served name."
    )
    source: ModelSource = Field(
        description="Where the adapter comes from: one .gguf file for LlamaCpp, or PEFT's adapter_config.json and "
        "adapter_model.safetensors in one folder for VLLM and TGI. `files` chooses among several."
    )
    integrity: Integrity | None = Field(
        default=None, description="What the adapter's files must be, and who must have signed them."
    )
    scale_percent: Percent | None = Field(
        default=None,
        description="How strongly it changes the model, in hundredths of what it was trained for; 100 when "
        "absent. LlamaCpp alone knows another strength.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        source = self.source
        if source.quantization is not None or source.uri.startswith("ollama://"):
            raise ValueError(ADAPTER_SOURCE_RULE.message)
        if source.encryption is not None and self.integrity is None:
            raise ValueError(ENCRYPTION_RULE.message)
        if source.uri.startswith("https://") and self.integrity is None:
            raise ValueError(ADAPTER_URL_RULE.message)
        return self


class AdapterStatus(StatusModel):
    """What an adapter turned out to be, and how a request chooses it."""

    name: str = Field(description="Its name in the spec.")
    request: str = Field(
        description="What a request to the model's endpoint carries to be answered with it, as JSON: the fields "
        "beside, or in place of, those that it has. Without them the model itself answers."
    )
    commit: str = Field(default="", description="Commit that its source was resolved to.")
    file: str = Field(default="", description="The file with its matrices.")
    sha256: str = Field(default="", description="SHA-256 of that file, where it is known.")
    bytes: int = Field(default=0, description="Its matrices in memory.")
    rank: int = Field(default=0, description="Largest rank of its matrices.")
    digest_source: str = Field(default="", description="Who vouches for its digests, as in status.artifact.")
    method: str | None = Field(default=None, description="How its files are verified, as in status.artifact.")
    signer: str | None = Field(default=None, description="Who signed it, as in status.artifact.")
    key: str | None = Field(default=None, description="Where the key to it is, as in status.artifact.")
    base_model: str | None = Field(
        default=None, description="Model that its own files say it was trained on; told, not checked."
    )
