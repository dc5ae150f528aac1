# SPDX-License-Identifier: Apache-2.0
"""Why a source could not be read: one reason, one exit code, one message without secrets.

The numbers are a contract with the operator (a confidential guest may let nothing else out): never reuse one.
"""

import re
from collections.abc import Iterable
from enum import Enum

TERMINATED_EXIT_CODE = 143
"""128 + SIGTERM: the pod was stopped, nothing failed."""


class Reason(Enum):
    """A failure's name, its exit code, and whether the same try can succeed without an edit.

    Codes are 10 to 59, of attestation 90 to 104; the indexer has its own between.
    """

    ConfigInvalid = (10, False)
    Internal = (11, True)
    HostNotAllowed = (12, False)
    RedirectRefused = (13, False)
    UnsafePath = (14, False)
    DigestRequired = (15, False)
    SignatureMismatch = (16, False)
    UnsignedFile = (17, False)
    SignedFileMissing = (18, False)
    UnsafeFormat = (19, False)
    RepositoryNotFound = (20, False)
    RevisionNotFound = (21, False)
    FileNotFound = (22, False)
    QuantizationNotFound = (23, False)
    QuantizationAmbiguous = (24, False)
    TooManyFiles = (25, False)
    FileTooLarge = (26, False)
    PartMissing = (28, False)
    NotAnAdapter = (27, False)
    AccessDenied = (30, False)
    GatedRepository = (31, False)
    TokenInvalid = (32, False)
    NotEncrypted = (33, False)
    EncryptionManifestInvalid = (34, False)
    EncryptionManifestMismatch = (35, False)
    DecryptionKeyInvalid = (36, False)
    DecryptionKeyMismatch = (37, False)
    KeyNotReleased = (38, False)
    RateLimited = (40, True)
    SourceUnavailable = (41, True)
    DownloadStalled = (42, True)
    SourceChanged = (43, True)
    UnexpectedResponse = (44, True)
    DownloadTruncated = (45, True)
    KeyServiceUnavailable = (46, True)
    CiphertextDamaged = (47, False)
    CiphertextTruncated = (48, False)
    DigestMismatch = (50, False)
    SizeMismatch = (51, False)
    NotGGUF = (52, False)
    HeaderInvalid = (53, False)
    UnsupportedFormat = (54, False)
    DiskFull = (55, True)
    CacheCorrupted = (56, False)
    SignatureInvalid = (57, False)
    SignerMismatch = (58, False)
    CertificateExpired = (59, False)
    TokenMalformed = (90, False)
    AlgorithmRefused = (91, False)
    VerifierUnknown = (92, False)
    TokenSignatureInvalid = (93, False)
    TokenExpired = (94, False)
    TokenNotYetValid = (95, False)
    NotAffirming = (96, False)
    TechnologyMismatch = (97, False)
    ReferenceMismatch = (98, False)
    InitdataMismatch = (99, False)
    NonceMismatch = (100, False)
    KeyMismatch = (101, False)
    EvidenceUnavailable = (102, True)
    VerifierUnavailable = (103, True)
    AttestationRefused = (104, False)

    def __init__(self, exit_code: int, retryable: bool) -> None:
        self.exit_code = exit_code
        self.retryable = retryable


class SourceError(Exception):
    """A failure with its reason; the message says what was expected, what was found and what to do.

    `retry_after` is the wait in seconds that the source itself asked for, if it did.
    """

    def __init__(self, reason: Reason, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class Terminated(BaseException):
    """SIGTERM or SIGINT came; not an Exception, so that no retry swallows it."""


_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"(://[^\s?#'\"]*)[?#][^\s'\"]*")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` on one line without secrets, credentials in URLs, or URL queries."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[redacted]")
    text = _USER_INFO.sub("", text)
    text = _QUERY.sub(r"\1?[redacted]", text)
    text = _BEARER.sub(r"\1 [redacted]", text)
    return _UNPRINTABLE.sub(" ", text)


def quoted(text: str, *, limit: int = 200) -> str:
    """Return a foreign string fit for a message: printable, on one line, bounded, in quotes."""
    clean = _UNPRINTABLE.sub("?", text)
    return f'"{clean if len(clean) <= limit else clean[:limit] + "..."}"'


def listed(names: Iterable[str], *, limit: int = 12) -> str:
    """Return names as one bounded, sorted list for a message."""
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(quoted(name) for name in ordered[:limit]) + more
