# SPDX-License-Identifier: Apache-2.0
"""Why a proof is none: one name for each thing that is missing or wrong. Data only."""

from enum import StrEnum


class Flaw(StrEnum):
    """What a proof lacks. The gate ends with an exit code for each, since no message may leave a guest."""

    TOKEN_MALFORMED = "TokenMalformed"  # noqa: S105 - a reason, no secret
    ALGORITHM_REFUSED = "AlgorithmRefused"
    VERIFIER_UNKNOWN = "VerifierUnknown"
    TOKEN_SIGNATURE_INVALID = "TokenSignatureInvalid"  # noqa: S105
    TOKEN_EXPIRED = "TokenExpired"  # noqa: S105
    TOKEN_NOT_YET_VALID = "TokenNotYetValid"  # noqa: S105
    NOT_AFFIRMING = "NotAffirming"
    TECHNOLOGY_MISMATCH = "TechnologyMismatch"
    REFERENCE_MISMATCH = "ReferenceMismatch"
    INITDATA_MISMATCH = "InitdataMismatch"
    NONCE_MISMATCH = "NonceMismatch"
    KEY_MISMATCH = "KeyMismatch"


class Refused(Exception):  # noqa: N818 - what happened, as callers read it
    """A token or report that proves nothing; the message says what was found, without the token itself."""

    def __init__(self, flaw: Flaw, message: str) -> None:
        super().__init__(message)
        self.flaw = flaw
        self.message = message
