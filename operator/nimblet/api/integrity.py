# SPDX-License-Identifier: Apache-2.0
"""What a model's files must be, and who must have signed them. Shape and local validity only."""

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nimblet.api.common import ConfigMapKeyRef, Sha256, SpecModel
from nimblet.api.definition import Rule, rules

MAX_INLINE_DIGESTS: Final = 16

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]+$", max_length=200)]
Identity = Annotated[str, StringConstraints(pattern=r"^[ -~]+$", min_length=1, max_length=256)]
IssuerURL = Annotated[str, StringConstraints(pattern=r"^https://[!-~]+$", max_length=256)]

NAMED_RULE: Final = Rule(
    rule="has(self.sha256) || has(self.manifestRef) || has(self.signature)",
    message="integrity needs sha256, manifestRef or signature",
)
DIGESTS_RULE: Final = Rule(
    rule="!(has(self.sha256) && has(self.manifestRef))",
    message="sha256 and manifestRef both give the digests: set one of them",
)
METHOD_RULE: Final = Rule(
    rule="[has(self.key), has(self.certificate), has(self.sigstore)].filter(it, it).size() == 1",
    message="a signature is checked in one way: set one of key, certificate and sigstore",
)


class KeyTrust(SpecModel):
    """A signature made with a key."""

    public_key_ref: ConfigMapKeyRef = Field(
        description="The public key in PEM: ECDSA on P-256, P-384 or P-521. The ConfigMap must carry the label "
        'nimblet.dev/use: "true".'
    )


class CertificateTrust(SpecModel):
    """A signature made with the key of a certificate that is valid now."""

    roots_ref: ConfigMapKeyRef = Field(
        description="Root certificates in PEM, and no others, that the signer's certificate must lead to; "
        'intermediates come with the signature. The ConfigMap must carry the label nimblet.dev/use: "true".'
    )
    identity: Identity | None = Field(
        default=None,
        description="Email address, URI, DNS name or common name that the signer's certificate must have. When "
        "absent, whoever has a certificate of the roots may sign.",
    )


class SigstoreTrust(SpecModel):
    """A keyless signature of a Sigstore instance, checked against its trust root without asking it."""

    identity: Identity = Field(description="Who must have signed: the certificate's email address or URI.")
    issuer: IssuerURL = Field(description="OpenID Connect issuer that vouched for the identity.")
    trust_root_ref: ConfigMapKeyRef = Field(
        description="The instance's trust configuration as JSON (sigstore's ClientTrustConfig). The ConfigMap "
        'must carry the label nimblet.dev/use: "true".'
    )


class ModelSignature(SpecModel):
    """A signature by OpenSSF model-signing v1, and whose it must be. Checked offline."""

    model_config = ConfigDict(json_schema_extra=rules(METHOD_RULE))

    bundle_ref: ConfigMapKeyRef = Field(
        description="The signature: the file model.sig that `nimblet sign` or the model-signing tool writes, over "
        "whole files with SHA-256. A change of it checks the model again and rolls its pods, as an edit of the "
        'spec does. The ConfigMap must carry the label nimblet.dev/use: "true".'
    )
    key: KeyTrust | None = Field(default=None, description="The signature was made with this key.")
    certificate: CertificateTrust | None = Field(
        default=None, description="The signature was made with a certificate of these roots."
    )
    sigstore: SigstoreTrust | None = Field(
        default=None, description="The signature was made by this identity at a Sigstore instance."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(item is not None for item in (self.key, self.certificate, self.sigstore)) != 1:
            raise ValueError(METHOD_RULE.message)
        return self

    @property
    def trust_ref(self) -> ConfigMapKeyRef:
        """Return where what the signature is held against lies."""
        if self.key is not None:
            return self.key.public_key_ref
        if self.certificate is not None:
            return self.certificate.roots_ref
        if self.sigstore is not None:
            return self.sigstore.trust_root_ref
        raise ValueError(METHOD_RULE.message)


class Integrity(SpecModel):
    """What the weights must be. The server never sees a byte of a file that differs."""

    model_config = ConfigDict(json_schema_extra=rules(NAMED_RULE, DIGESTS_RULE))

    sha256: Annotated[dict[FileName, Sha256], Field(min_length=1, max_length=MAX_INLINE_DIGESTS)] | None = Field(
        default=None,
        description="SHA-256 by file name (for https:// the last path element), 64 lower-case hex digits each.",
    )
    manifest_ref: ConfigMapKeyRef | None = Field(
        default=None,
        description="The digests in a ConfigMap instead: as sha256sum and `nimblet digest` print them, or a JSON "
        "object of digests by file name. A change of it checks the model again and rolls its pods, as an edit of "
        'the spec does. The ConfigMap must carry the label nimblet.dev/use: "true".',
    )
    signature: ModelSignature | None = Field(
        default=None, description="A signature that must cover every file of the model."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sha256 is None and self.manifest_ref is None and self.signature is None:
            raise ValueError(NAMED_RULE.message)
        if self.sha256 is not None and self.manifest_ref is not None:
            raise ValueError(DIGESTS_RULE.message)
        return self

    @property
    def references(self) -> tuple[ConfigMapKeyRef, ...]:
        """Return every text that is read from a ConfigMap."""
        signature = self.signature
        named = [] if self.manifest_ref is None else [self.manifest_ref]
        return (*named, *((signature.bundle_ref, signature.trust_ref) if signature is not None else ()))
