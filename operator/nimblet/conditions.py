# SPDX-License-Identifier: Apache-2.0
"""Condition types, reasons and what is said by them. Knows no Kubernetes object and no clock."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nimblet.api.common import ConditionStatus

MAX_MESSAGE_LENGTH: Final = 1024
"""Longest condition message we write, in characters (the API allows 32,768; people read one screen)."""


class ConditionType(StrEnum):
    READY = "Ready"
    SERVING = "Serving"
    RESOLVED = "Resolved"
    VERIFIED = "Verified"
    PLACED = "Placed"
    INDEXED = "Indexed"
    GATE_PASSED = "GatePassed"
    FRESH = "Fresh"
    SNAPSHOTTED = "Snapshotted"
    POLICY_ENFORCED = "PolicyEnforced"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    UPDATE_AVAILABLE = "UpdateAvailable"


ABNORMAL_TRUE: Final = frozenset(
    {ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.UPDATE_AVAILABLE}
)
"""Types that exist only while True (kstatus)."""


class Reason(StrEnum):
    """Every reason a condition of ours can carry; docs/failure-modes.md is checked against this list."""

    # progress and success
    ANSWERING = "Answering"
    READY = "Ready"
    RESOLVING = "Resolving"
    RESOLVED = "Resolved"
    PROGRESSING = "Progressing"
    DOWNLOADING = "Downloading"
    STARTING = "Starting"
    SCALED_TO_ZERO = "ScaledToZero"
    SUSPENDED = "Suspended"
    ROTATING_KEY = "RotatingKey"
    PLACED = "Placed"
    PENDING = "Pending"
    DIGESTS_MATCH = "DigestsMatch"
    PINNED = "Pinned"
    SIGNATURE_MATCHES = "SignatureMatches"
    UNVERIFIED = "Unverified"
    NEWER_IMAGES = "NewerImages"
    BUILDING = "Building"
    INDEXED = "Indexed"
    SWAPPING = "Swapping"
    GATE_PASSED = "GatePassed"
    NO_GATE = "NoGate"
    FRESH = "Fresh"
    SNAPSHOTS_TAKEN = "SnapshotsTaken"
    SIMULATED = "Simulated"
    ATTESTED = "Attested"
    ATTESTATION_PENDING = "AttestationPending"
    ISSUING = "Issuing"
    # the spec
    INVALID_SPEC = "InvalidSpec"
    UPDATE_FAILED = "UpdateFailed"
    CONTEXT_TOO_LONG = "ContextTooLong"
    UNSUPPORTED_MODEL = "UnsupportedModel"
    MODEL_TOO_LARGE = "ModelTooLarge"
    TASK_MISMATCH = "TaskMismatch"
    RUNTIME_UNSUITABLE = "RuntimeUnsuitable"
    DRAFT_MISMATCH = "DraftMismatch"
    EXTRA_ARGS_REFUSED = "ExtraArgsRefused"
    PROFILE_UNKNOWN = "ProfileUnknown"
    HARDWARE_MISSING = "HardwareMissing"
    TOO_MANY_DEVICES = "TooManyDevices"
    DEVICE_TOO_SMALL = "DeviceTooSmall"
    HARDWARE_FORBIDDEN = "HardwareForbidden"
    UNSAFE_PATH = "UnsafePath"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a reason, not a secret
    SECRET_NOT_USABLE = "SecretNotUsable"  # noqa: S105
    CONFIG_MAP_MISSING = "ConfigMapMissing"
    CONFIG_MAP_NOT_USABLE = "ConfigMapNotUsable"
    CLAIM_NOT_USABLE = "ClaimNotUsable"
    INTEGRITY_INVALID = "IntegrityInvalid"
    GENERATION_UNKNOWN = "GenerationUnknown"
    LAG_UNREACHABLE = "LagUnreachable"
    SNAPSHOT_FAILED = "SnapshotFailed"
    # the source, told by the loader
    REPOSITORY_NOT_FOUND = "RepositoryNotFound"
    REVISION_NOT_FOUND = "RevisionNotFound"
    FILE_NOT_FOUND = "FileNotFound"
    QUANTIZATION_NOT_FOUND = "QuantizationNotFound"
    QUANTIZATION_AMBIGUOUS = "QuantizationAmbiguous"
    ACCESS_DENIED = "AccessDenied"
    GATED_REPOSITORY = "GatedRepository"
    TOKEN_INVALID = "TokenInvalid"  # noqa: S105
    RATE_LIMITED = "RateLimited"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    DOWNLOAD_STALLED = "DownloadStalled"
    DIGEST_MISMATCH = "DigestMismatch"
    SIZE_MISMATCH = "SizeMismatch"
    NOT_GGUF = "NotGGUF"
    HEADER_INVALID = "HeaderInvalid"
    UNSUPPORTED_FORMAT = "UnsupportedFormat"
    FORMAT_MISMATCH = "FormatMismatch"
    NOT_AN_ADAPTER = "NotAnAdapter"
    ADAPTER_MISMATCH = "AdapterMismatch"
    ADAPTER_MISSING = "AdapterMissing"
    TOO_MANY_FILES = "TooManyFiles"
    PART_MISSING = "PartMissing"
    DIGEST_REQUIRED = "DigestRequired"
    DISK_FULL = "DiskFull"
    CACHE_CORRUPTED = "CacheCorrupted"
    UNSAFE_FORMAT = "UnsafeFormat"
    SIGNATURE_INVALID = "SignatureInvalid"
    SIGNATURE_MISMATCH = "SignatureMismatch"
    SIGNER_MISMATCH = "SignerMismatch"
    CERTIFICATE_EXPIRED = "CertificateExpired"
    UNSIGNED_FILE = "UnsignedFile"
    NOT_ENCRYPTED = "NotEncrypted"
    ENCRYPTION_MANIFEST_INVALID = "EncryptionManifestInvalid"
    ENCRYPTION_MANIFEST_MISMATCH = "EncryptionManifestMismatch"
    DECRYPTION_KEY_INVALID = "DecryptionKeyInvalid"
    DECRYPTION_KEY_MISMATCH = "DecryptionKeyMismatch"
    KEY_NOT_RELEASED = "KeyNotReleased"
    KEY_SERVICE_UNAVAILABLE = "KeyServiceUnavailable"
    CIPHERTEXT_DAMAGED = "CiphertextDamaged"
    CIPHERTEXT_TRUNCATED = "CiphertextTruncated"
    SIGNED_FILE_MISSING = "SignedFileMissing"
    HOST_NOT_ALLOWED = "HostNotAllowed"
    REDIRECT_REFUSED = "RedirectRefused"
    FILE_TOO_LARGE = "FileTooLarge"
    SOURCE_CHANGED = "SourceChanged"
    DOWNLOAD_TRUNCATED = "DownloadTruncated"
    UNEXPECTED_RESPONSE = "UnexpectedResponse"
    CONFIG_INVALID = "ConfigInvalid"
    INTERNAL = "Internal"
    LOADER_FAILED = "LoaderFailed"
    # the cluster
    UNSCHEDULABLE = "Unschedulable"
    CLAIM_NOT_READY = "ClaimNotReady"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    MOUNT_FAILED = "MountFailed"
    SANDBOX_FAILED = "SandboxFailed"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    OOM_KILLED = "OOMKilled"
    CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"
    CONTAINER_EXITED = "ContainerExited"
    EVICTED = "Evicted"
    NODE_NOT_READY = "NodeNotReady"
    QUOTA_EXCEEDED = "QuotaExceeded"
    LIMIT_RANGE_VIOLATED = "LimitRangeViolated"
    POD_SECURITY_REFUSED = "PodSecurityRefused"
    STORAGE_CLASS_MISSING = "StorageClassMissing"
    CLAIM_PENDING = "ClaimPending"
    CLAIM_LOST = "ClaimLost"
    POD_REFUSED = "PodRefused"
    NOT_ANSWERING = "NotAnswering"
    ADAPTER_NOT_LOADED = "AdapterNotLoaded"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    # what a resource refers to
    MODEL_MISSING = "ModelMissing"
    MODEL_NOT_SERVING = "ModelNotServing"
    MODEL_TASK_DIFFERS = "ModelTaskDiffers"
    INDEX_MISSING = "IndexMissing"
    INDEX_NOT_SERVING = "IndexNotServing"
    INDEX_EMPTY = "IndexEmpty"
    SELF_TEST_FAILED = "SelfTestFailed"
    # an index, told by its retriever and its builds
    EMBEDDING_UNAVAILABLE = "EmbeddingUnavailable"
    EMBEDDING_CHANGED = "EmbeddingChanged"
    STORE_UNAVAILABLE = "StoreUnavailable"
    STORE_REFUSED = "StoreRefused"
    STORE_UNSUPPORTED = "StoreUnsupported"
    STORE_FAILING = "StoreFailing"
    STORE_TOO_SMALL = "StoreTooSmall"
    DISK_PRESSURE = "DiskPressure"
    BUILD_FAILED = "BuildFailed"
    VOLUME_MISSING = "VolumeMissing"
    SOURCE_SHRUNK = "SourceShrunk"
    SOURCE_TOO_LARGE = "SourceTooLarge"
    ROBOTS_REFUSED = "RobotsRefused"
    RETRIEVER_UNAVAILABLE = "RetrieverUnavailable"
    RETRIEVER_REFUSED = "RetrieverRefused"
    KEY_REFUSED = "KeyRefused"
    EMBEDDING_REFUSED = "EmbeddingRefused"
    STORE_FULL = "StoreFull"
    BUILD_FENCED = "BuildFenced"
    GATE_INVALID = "GateInvalid"
    GATE_FAILED = "GateFailed"
    STALE = "Stale"
    # a TEEPolicy
    POLICY_UNREADABLE = "PolicyUnreadable"
    POLICY_MISSING = "PolicyMissing"
    POLICIES_CONFLICT = "PoliciesConflict"
    NO_CONFIDENTIAL_PLACE = "NoConfidentialPlace"
    ATTESTATION_UNAVAILABLE = "AttestationUnavailable"
    INITDATA_REFUSED = "InitdataRefused"
    WEIGHTS_NOT_SIGNED = "WeightsNotSigned"
    WEIGHTS_NOT_ENCRYPTED = "WeightsNotEncrypted"
    POLICY_FALLBACK = "PolicyFallback"
    POLICY_VIOLATED = "PolicyViolated"
    # the attestation gate: by the pod's exit code, or by the operator's own check
    TOKEN_MALFORMED = "TokenMalformed"  # noqa: S105
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
    EVIDENCE_UNAVAILABLE = "EvidenceUnavailable"
    VERIFIER_UNAVAILABLE = "VerifierUnavailable"
    ATTESTATION_REFUSED = "AttestationRefused"
    # certificates by cert-manager
    CERT_MANAGER_MISSING = "CertManagerMissing"
    CERTIFICATE_NOT_READY = "CertificateNotReady"
    AUTHORITY_MISSING = "AuthorityMissing"
    # our own writes
    CONFLICT = "Conflict"
    CONTESTED = "Contested"
    IMMUTABLE_FIELD = "ImmutableField"
    APPLY_REFUSED = "ApplyRefused"


UNDER_WAY: Final = frozenset(
    {
        Reason.RESOLVING,
        Reason.PROGRESSING,
        Reason.DOWNLOADING,
        Reason.STARTING,
        Reason.PENDING,
        Reason.SCALED_TO_ZERO,
        Reason.SUSPENDED,
        Reason.ROTATING_KEY,
        Reason.BUILDING,
        Reason.SWAPPING,
        Reason.NO_GATE,
        Reason.ATTESTATION_PENDING,
        Reason.ISSUING,
    }
)
"""Reasons of conditions that are not True and yet nothing is wrong."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A condition without its times: what the plan says, before it meets the stored status."""

    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: str


def verdict(type_: ConditionType, status: ConditionStatus, reason: Reason, message: str) -> Verdict:
    """Return a verdict whose message fits the limit."""
    return Verdict(type=type_, status=status, reason=reason, message=clip(message))


def clip(text: str) -> str:
    """Cut `text` to the longest message we write, in the middle, so that the next step stays readable."""
    if len(text) <= MAX_MESSAGE_LENGTH:
        return text
    half = MAX_MESSAGE_LENGTH // 2 - 2
    return f"{text[:half]} … {text[-half:]}"
