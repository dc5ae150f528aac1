# SPDX-License-Identifier: Apache-2.0
"""Where a model's weights come from. Shape and local validity only."""

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nimblet.api.common import SecretRef, SpecModel
from nimblet.api.definition import Rule, rules
from nimblet.api.encryption import LISTED_RULE, Encryption
from nimblet.api.integrity import MAX_INLINE_DIGESTS

URI_PATTERN: Final = (
    r"^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
    r"|https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/[A-Za-z0-9._~/%+-]+"
    r"|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._=+-]+)*/?"
    r"|oci://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?"
    r"|pvc://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[A-Za-z0-9_=+-][A-Za-z0-9._=+-]*)*/?"
    r"|ollama://([a-z0-9][a-z0-9_.-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?)$"
)
ROLE_PATTERN: Final = r"^arn:[a-z0-9-]+:iam::[0-9]*:role/[A-Za-z0-9+=,.@_/-]+$"
MAX_FILES: Final = MAX_INLINE_DIGESTS

Glob = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._*?/\[\]-]+$", max_length=200)]

CHOICE_RULE = Rule(
    rule="!(has(self.files) && has(self.quantization))",
    message="files and quantization both choose the files: set one of them",
)
REVISION_RULE = Rule(
    rule="!has(self.revision) || self.uri.startsWith('hf://')",
    message="revision is known to hf:// sources only",
    field_path=".revision",
)
ROLE_RULE = Rule(
    rule="!has(self.roleARN) || (self.uri.startsWith('s3://') && !has(self.credentialsSecretRef))",
    message="roleARN is for s3:// sources, and instead of credentialsSecretRef",
    field_path=".roleARN",
)
CLAIM_RULE = Rule(
    rule="!self.uri.startsWith('pvc://') || !has(self.credentialsSecretRef)",
    message="a pvc:// source needs no credentials: its claim is in the same namespace",
    field_path=".credentialsSecretRef",
)


class ModelSource(SpecModel):
    """Where the weights come from."""

    model_config = ConfigDict(
        json_schema_extra=rules(CHOICE_RULE, REVISION_RULE, ROLE_RULE, CLAIM_RULE, LISTED_RULE)
    )

    uri: Annotated[str, StringConstraints(pattern=URI_PATTERN, max_length=1000)] = Field(
        description="The weights: `hf://org/repo` (the administrator's Hugging Face endpoint or mirror), "
        "`https://host/path/model.gguf`, `s3://bucket/prefix` (the administrator's S3 endpoint; the prefix is a "
        "folder or one .gguf object), `oci://registry/repository:tag` or `…@sha256:digest` (a model artifact, or "
        "an image with files below /models), `pvc://claim/path` (a PersistentVolumeClaim of the same namespace; "
        "the path is a folder or one .gguf file) or `ollama://name:tag` (the administrator's Ollama registry)."
    )
    revision: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=100)] | None
    ) = Field(
        default=None,
        description="Branch, tag or commit of a hf:// repository; the default branch when absent. A branch is "
        "resolved once and the commit recorded in status.artifact.",
    )
    files: Annotated[list[Glob], Field(min_length=1, max_length=MAX_FILES)] | None = Field(
        default=None,
        description="Globs that choose the files of a repository; together they must name one model.",
    )
    quantization: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=20)] | None
    ) = Field(
        default=None,
        description="Chooses the GGUF file by its quantization, such as Q4_K_M or UD-Q4_K_XL, where a repository "
        "has several; upper and lower case are the same, and the plain one wins over the dynamic one (UD-).",
    )
    credentials_secret_ref: SecretRef | None = Field(
        default=None,
        description="A Secret with the key `token`; for s3:// with `accessKeyId`, `secretAccessKey` and, for "
        "temporary ones, `sessionToken`; for oci:// with `username` and `password`. "
        'It must carry the label nimblet.dev/use: "true" and name '
        "in the annotation nimblet.dev/hosts the hosts that they may be sent to.",
    )

    role_arn: Annotated[str, StringConstraints(pattern=ROLE_PATTERN, max_length=254)] | None = Field(
        default=None,
        alias="roleARN",
        description="Role that a s3:// source is read with instead of a Secret's key: the loader exchanges its "
        "pod's ServiceAccount token for a temporary key at the administrator's STS endpoint. The role must trust "
        "the ServiceAccounts `<name>-resolve` and `<name>-model` (with a cache `<name>-fill`) of this namespace.",
    )

    encryption: Encryption | None = Field(
        default=None,
        description="The weights are encrypted, as `nimblet encrypt` writes them. When absent, the source holds "
        "them in plaintext.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.files is not None and self.quantization is not None:
            raise ValueError(CHOICE_RULE.message)
        has_secret = self.credentials_secret_ref is not None
        if self.role_arn is not None and (has_secret or not self.uri.startswith("s3://")):
            raise ValueError(ROLE_RULE.message)
        if has_secret and self.uri.startswith("pvc://"):
            raise ValueError(CLAIM_RULE.message)
        if self.revision is not None and not self.uri.startswith("hf://"):
            raise ValueError(REVISION_RULE.message)
        if self.encryption is not None:
            chosen = self.files is not None or self.quantization is not None
            if chosen or self.uri.startswith(("https://", "ollama://")):
                raise ValueError(LISTED_RULE.message)
        return self

    @property
    def secret_refs(self) -> tuple[SecretRef, ...]:
        """Return the Secrets that it names: of the source itself, and of the key to what lies there."""
        key = self.encryption.key_secret_ref if self.encryption is not None else None
        return tuple(ref for ref in (self.credentials_secret_ref, key) if ref is not None)
