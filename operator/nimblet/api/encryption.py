# SPDX-License-Identifier: Apache-2.0
"""That a model's weights are encrypted: which model they must be of, where their key is. Local validity only."""

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nimblet.api.common import SecretRef, SpecModel
from nimblet.api.definition import Rule, rules

RESOURCE_PATTERN: Final = r"^kbs:///[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){2}$"

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$", max_length=128)]

KEY_RULE: Final = Rule(
    rule="has(self.kbs) != has(self.keySecretRef)",
    message="the key comes from one place: set one of kbs and keySecretRef",
)
LISTED_RULE: Final = Rule(
    rule="!has(self.encryption) || !(self.uri.startsWith('https://') || self.uri.startsWith('ollama://') || "
    "has(self.files) || has(self.quantization))",
    message="encryption is for hf://, s3://, oci:// and pvc:// sources, without files and quantization: the "
    "manifest tells the files of the one model",
    field_path=".encryption",
)
ENCRYPTION_RULE: Final = Rule(
    rule="!has(self.source.encryption) || has(self.integrity)",
    message="source.encryption needs integrity: a signature, or the sha256 of nimblet-encryption.json",
    field_path=".integrity",
)
CACHE_ENCRYPTION_RULE: Final = Rule(
    rule="!has(self.cache) || (!has(self.source.encryption) && "
    "(!has(self.adapters) || !self.adapters.exists(adapter, has(adapter.source.encryption))) && "
    "(!has(self.runtime.speculative) || !has(self.runtime.speculative.source) || "
    "!has(self.runtime.speculative.source.encryption)))",
    message="encrypted weights go to the own volume of each pod: a cache would keep them in plaintext",
    field_path=".cache",
)


class KeyBroker(SpecModel):
    """A key that a key broker (KBS of Trustee) releases to a confidential guest."""

    resource: Annotated[str, StringConstraints(pattern=RESOURCE_PATTERN, max_length=310)] = Field(
        description="The key, `kbs:///repository/type/tag`: the guest's own Confidential Data Hub is asked for "
        "it, so that it comes from the broker which the guest's initdata names, after attestation."
    )


class Encryption(SpecModel):
    """How the weights are encrypted: each file `X` is at the source as `X.age`, beside nimblet-encryption.json."""

    model_config = ConfigDict(json_schema_extra=rules(KEY_RULE))

    model: ModelName = Field(description="Name of the model that they must be, as `nimblet encrypt` was given it.")
    revision: ModelName = Field(
        description="Revision that they must be, as `nimblet encrypt` was given it: another one by the same "
        "signer is refused, an older one too."
    )
    kbs: KeyBroker | None = Field(
        default=None, description="The key comes from a key broker. The pods must run in a guest by a TEEPolicy."
    )
    key_secret_ref: SecretRef | None = Field(
        default=None,
        description="The key is a Secret's, under the key `identity`: for tests, since whoever reads Secrets here "
        "can "
        'decrypt. It must carry the label nimblet.dev/use: "true" and the annotation nimblet.dev/weights-key: '
        '"for-tests". Only the loader mounts it.',
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.kbs is None) == (self.key_secret_ref is None):
            raise ValueError(KEY_RULE.message)
        return self

    @property
    def place(self) -> str:
        """Return where the key comes from, as the status has it."""
        return "KBS" if self.kbs is not None else "Secret"
