# SPDX-License-Identifier: Apache-2.0
"""Condition types, reasons and the pure algebra over them. Knows no Kubernetes object and no clock.

Every reason has a next step here; messages are built as "<what is> <next step>", so that a reader of
`kubectl describe` never needs another document.
"""

from collections.abc import Mapping
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
    # the spec
    INVALID_SPEC = "InvalidSpec"
    UPDATE_FAILED = "UpdateFailed"
    CONTEXT_TOO_LONG = "ContextTooLong"
    UNSUPPORTED_MODEL = "UnsupportedModel"
    TASK_MISMATCH = "TaskMismatch"
    RUNTIME_UNSUITABLE = "RuntimeUnsuitable"
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
    TOO_MANY_FILES = "TooManyFiles"
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
    }
)
"""Reasons of conditions that are not True and yet nothing is wrong."""

NEXT_STEP: Final[Mapping[Reason, str]] = {
    Reason.INVALID_SPEC: "Correct the named field; the running model is untouched.",
    Reason.CONTEXT_TOO_LONG: "Lower runtime.contextLength or choose a model with a longer context.",
    Reason.UNSUPPORTED_MODEL: "Choose a GGUF of an architecture that the runtime lists.",
    Reason.TASK_MISMATCH: "Choose a model made for the task, or make a CompactModel with the model's own task.",
    Reason.RUNTIME_UNSUITABLE: "Set runtime.name to Auto or to one that can, or choose weights, a profile and "
    "options that a runtime serves.",
    Reason.PROFILE_UNKNOWN: "Name a built-in profile, or one of hardware.profiles in the chart's values.",
    Reason.HARDWARE_MISSING: "Add such a node or its device plugin, or name another hardware.profile.",
    Reason.TOO_MANY_DEVICES: "Lower hardware.count, or add a node with as many devices.",
    Reason.DEVICE_TOO_SMALL: "Lower contextLength or parallel, raise hardware.count, or add larger devices.",
    Reason.HARDWARE_FORBIDDEN: "Let an administrator allow it in the namespace, or name another profile.",
    Reason.NEWER_IMAGES: "An edit of the spec rolls to them, and so does the annotation nimblet.dev/restarted-at.",
    Reason.UNSAFE_PATH: "Use a source whose file names are plain relative paths.",
    Reason.SECRET_MISSING: "Create the Secret, or correct its name in the spec.",
    Reason.SECRET_NOT_USABLE: 'Label the Secret nimblet.dev/use: "true" and put in what is missing; credentials '
    "name their hosts in nimblet.dev/hosts.",
    Reason.CONFIG_MAP_MISSING: "Create the ConfigMap with a text under that key, or correct the spec.",
    Reason.REPOSITORY_NOT_FOUND: "Check source.uri; a private repository also needs source.credentialsSecretRef.",
    Reason.REVISION_NOT_FOUND: "Correct source.revision to a branch, tag or commit of the repository.",
    Reason.FILE_NOT_FOUND: "Correct source.files to match a GGUF file of the repository.",
    Reason.QUANTIZATION_NOT_FOUND: "Set source.quantization to one of the listed ones.",
    Reason.QUANTIZATION_AMBIGUOUS: "Set source.quantization or source.files so that one model is left.",
    Reason.ACCESS_DENIED: "Give a token with read access in source.credentialsSecretRef.",
    Reason.GATED_REPOSITORY: "Accept the model's licence at the hub and give a token of that account.",
    Reason.TOKEN_INVALID: "Put a valid credential into the Secret that source.credentialsSecretRef names.",
    Reason.RATE_LIMITED: "Wait: it is tried again; a token or a mirror raises the limit.",
    Reason.SOURCE_UNAVAILABLE: "Check that the source can be reached from the namespace; it is tried again.",
    Reason.DOWNLOAD_STALLED: "Check the network between the node and the source; it is tried again.",
    Reason.DIGEST_MISMATCH: "Don't use these weights until the difference is explained.",
    Reason.SIZE_MISMATCH: "The source changed or cut the file; pin source.revision and try again.",
    Reason.NOT_GGUF: "Point source at a GGUF file.",
    Reason.HEADER_INVALID: "The file is damaged or hostile; choose another.",
    Reason.UNSUPPORTED_FORMAT: "Point source at a GGUF file or a safetensors repository; no other is loaded.",
    Reason.FORMAT_MISMATCH: "Set runtime.name to one that loads the format, or point source at the other format.",
    Reason.TOO_MANY_FILES: "Narrow source.files.",
    Reason.DIGEST_REQUIRED: "An https:// source needs integrity.sha256 for its file.",
    Reason.INTEGRITY_INVALID: "Correct the ConfigMap that integrity names; `nimblet digest` and `nimblet sign` "
    "write what is read.",
    Reason.UNSAFE_FORMAT: "Choose files in GGUF or safetensors; formats that run code when loaded never are.",
    Reason.SIGNATURE_INVALID: "Don't use these weights; have them signed again (`nimblet sign`).",
    Reason.SIGNATURE_MISMATCH: "Don't use these weights until the difference is explained; give their own "
    "signature.",
    Reason.SIGNER_MISMATCH: "Don't use these weights; if you trust who signed them, correct integrity.signature.",
    Reason.CERTIFICATE_EXPIRED: "Have the model signed again with a certificate that is valid.",
    Reason.UNSIGNED_FILE: "Choose files that are signed, or have all files signed.",
    Reason.SIGNED_FILE_MISSING: "Restore the named files at the source, or have what is there signed.",
    Reason.NOT_ENCRYPTED: "Name the source of what `nimblet encrypt` wrote; plaintext is never taken in its "
    "place.",
    Reason.ENCRYPTION_MANIFEST_INVALID: "Put all that `nimblet encrypt` wrote at the source.",
    Reason.ENCRYPTION_MANIFEST_MISMATCH: "Don't use these weights; if they are what you want, correct "
    "source.encryption.",
    Reason.DECRYPTION_KEY_INVALID: "Store the age identity, AGE-SECRET-KEY-1 and more, in the Secret or at the "
    "broker.",
    Reason.DECRYPTION_KEY_MISMATCH: "Give the key that the weights were encrypted for.",
    Reason.KEY_NOT_RELEASED: "See the key broker's log: the resource, its policy, and whether it was revoked.",
    Reason.KEY_SERVICE_UNAVAILABLE: "Bind the model by a TEEPolicy to a guest with a Confidential Data Hub; it is "
    "tried again.",
    Reason.CIPHERTEXT_DAMAGED: "Don't use this file; put the one there that `nimblet encrypt` wrote.",
    Reason.CIPHERTEXT_TRUNCATED: "Put the whole file at the source.",
    Reason.DISK_FULL: "Free space on the node or use a node with a larger disk.",
    Reason.CACHE_CORRUPTED: "It is filled anew; if it comes back, check the disk and who writes to the claim.",
    Reason.HOST_NOT_ALLOWED: "Ask the administrator to add the host to fetch.allow in the chart's values.",
    Reason.REDIRECT_REFUSED: "Ask the administrator to allow the redirect's host in fetch.allow.",
    Reason.FILE_TOO_LARGE: "Choose a smaller quantization, or ask the administrator to raise fetch.maxFileBytes.",
    Reason.SOURCE_CHANGED: "Pin source.revision to a commit; it is tried again.",
    Reason.DOWNLOAD_TRUNCATED: "Check the network and proxies between the node and the source; it is tried again.",
    Reason.UNEXPECTED_RESPONSE: "Check that the address speaks the source's protocol; it is tried again.",
    Reason.CONFIG_INVALID: "Run an operator and a loader image of matching versions.",
    Reason.INTERNAL: "See the log of the named pod and report it.",
    Reason.LOADER_FAILED: "See the log of the named pod.",
    Reason.UNSCHEDULABLE: "Add capacity, or lower contextLength, parallel, resources or replicas.",
    Reason.CLAIM_NOT_READY: "Create the PersistentVolumeClaim; `kubectl describe pvc` says why one is not bound.",
    Reason.IMAGE_PULL_FAILED: "Check that the image exists and the node can pull it; images are chart values.",
    Reason.MOUNT_FAILED: "Restore the named object or key; the kubelet tries again within two minutes.",
    Reason.SANDBOX_FAILED: "See the node's container runtime and network plugin; the kubelet tries again.",
    Reason.CONTAINER_CONFIG_ERROR: "Restore the named object.",
    Reason.OOM_KILLED: "Raise resources.memory, or lower contextLength or parallel.",
    Reason.CRASH_LOOP_BACK_OFF: "See the log of the named pod's previous container.",
    Reason.CONTAINER_EXITED: "See the log of the named pod's previous container; it is restarted.",
    Reason.EVICTED: "Free disk or memory on the node; the pod is made anew.",
    Reason.NODE_NOT_READY: "See the node; the pod is made anew elsewhere when it stays away for five minutes.",
    Reason.QUOTA_EXCEEDED: "Raise the namespace's quota, or lower resources or replicas.",
    Reason.LIMIT_RANGE_VIOLATED: "Correct the namespace's LimitRange, or set resources within its bounds.",
    Reason.POD_SECURITY_REFUSED: "Keep what adds the named fields away from our pods: they meet `restricted`.",
    Reason.POD_REFUSED: "Correct the named policy.",
    Reason.STORAGE_CLASS_MISSING: "Create the StorageClass, or correct storageClassName in the spec.",
    Reason.CLAIM_PENDING: "See `kubectl describe pvc`: the StorageClass must offer the access mode and have room.",
    Reason.CLAIM_LOST: "Delete the claim and the pods that use it; both are made anew.",
    Reason.NOT_ANSWERING: "See the log of the named pod; it is asked again.",
    Reason.PROGRESS_DEADLINE_EXCEEDED: "See the pods' events.",
    Reason.MODEL_MISSING: "Create the CompactModel in this namespace, or correct its name in the spec.",
    Reason.MODEL_NOT_SERVING: "Put the named CompactModel right: its own conditions say how; this one follows.",
    Reason.MODEL_TASK_DIFFERS: "Name a CompactModel of the wanted task.",
    Reason.INDEX_MISSING: "Create the RetrievalIndex in this namespace, or correct its name in indexRefs.",
    Reason.INDEX_NOT_SERVING: "Put the named RetrievalIndex right: its own conditions say how; this one follows.",
    Reason.SELF_TEST_FAILED: "See the log of the named pod; it tests itself again when what failed is back.",
    Reason.CONFIG_MAP_NOT_USABLE: 'Label the ConfigMap nimblet.dev/use: "true": only such are read.',
    Reason.CLAIM_NOT_USABLE: 'Label the PersistentVolumeClaim nimblet.dev/use: "true": only such are read.',
    Reason.GENERATION_UNKNOWN: "Set spec.generation to one of status.generations, or remove it.",
    Reason.LAG_UNREACHABLE: "Raise freshness.maxLag, or build more often by schedule.",
    Reason.SNAPSHOT_FAILED: "See the named server and its volume for snapshots; it is tried again every 30 s.",
    Reason.EMBEDDING_UNAVAILABLE: "Put the embedding model right; searches work again when it answers.",
    Reason.EMBEDDING_CHANGED: "Change embedding.revision, so that a generation of the new model is built.",
    Reason.STORE_UNAVAILABLE: "Put the store or its key right; searches and builds go on when it answers.",
    Reason.STORE_REFUSED: "Put a key that may read and write all into the store's key Secret: it is read anew.",
    Reason.STORE_UNSUPPORTED: "Run Qdrant servers of the version that is named.",
    Reason.STORE_FAILING: "See the log and the volumes of the Qdrant servers; searches go on while they answer.",
    Reason.STORE_TOO_SMALL: "Raise store.size or dedicated.replicas, or lower dedicated.passages: claims stay.",
    Reason.DISK_PRESSURE: "Raise store.size, or lower retainGenerations; until then nothing is built or pushed.",
    Reason.INDEX_EMPTY: "Give the index documents that can be read: check its sources, globs and access labels.",
    Reason.BUILD_FAILED: "See the log of the named Job's pod; it is tried again.",
    Reason.VOLUME_MISSING: "Restore the named folder; it is tried again.",
    Reason.SOURCE_SHRUNK: "Check the named source; if it is right, raise maxShrinkPercent.",
    Reason.SOURCE_TOO_LARGE: "Narrow the source by include, exclude, path or prefix.",
    Reason.ROBOTS_REFUSED: "Ask the site's owner, or name pages that its robots.txt allows.",
    Reason.RETRIEVER_UNAVAILABLE: "See the retriever's pod; the build is tried again.",
    Reason.RETRIEVER_REFUSED: "Run an operator, a retriever and an indexer of matching versions.",
    Reason.KEY_REFUSED: "Restore the index's key Secrets as they were; the build is tried again.",
    Reason.EMBEDDING_REFUSED: "Lower chunking.tokens to what the embedding model takes, or name another model.",
    Reason.STORE_FULL: "Raise store.size, or lower retainGenerations.",
    Reason.BUILD_FENCED: "Nothing: a newer build took over.",
    Reason.GATE_INVALID: "Correct the golden questions: JSON lines with id, question, document and quote.",
    Reason.GATE_FAILED: "The older generation serves on: see status.gate.failed, then mend sources or questions.",
    Reason.STALE: "See the condition Indexed: it tells why no build came through.",
    Reason.POLICY_UNREADABLE: "Let the operator read TEEPolicies, RuntimeClasses and namespaces.",
    Reason.POLICY_MISSING: "Create the TEEPolicy, or correct teePolicyRef.",
    Reason.POLICIES_CONFLICT: "Change the named policies so that one place meets them all.",
    Reason.NO_CONFIDENTIAL_PLACE: "Add such a node and RuntimeClass, or correct the policy's overrides.",
    Reason.ATTESTATION_UNAVAILABLE: "Give attestation what is missing, or require mode Simulated, which proves "
    "nothing.",
    Reason.INITDATA_REFUSED: "Correct the ConfigMap in the operator's namespace, or the policy's digest.",
    Reason.WEIGHTS_NOT_SIGNED: "Sign the weights and name the key in the spec, or name weights that are signed.",
    Reason.WEIGHTS_NOT_ENCRYPTED: "Encrypt the weights (`nimblet encrypt`) and name source.encryption, with a key "
    "of a key broker.",
    Reason.POLICY_FALLBACK: "Make a place that the policy asks for; the pods move there by themselves.",
    Reason.POLICY_VIOLATED: "Wait until they are replaced, or set onViolation Evict.",
    Reason.TOKEN_MALFORMED: "See the log of the gate and the verifier: what it gave is no attestation result.",
    Reason.ALGORITHM_REFUSED: "Have the verifier sign with an algorithm that is named, by the pinned key.",
    Reason.VERIFIER_UNKNOWN: "If you trust that verifier, add its key to attestation.verifier.",
    Reason.TOKEN_SIGNATURE_INVALID: "Find out who signed; pin the verifier's key if it has a new one.",
    Reason.TOKEN_EXPIRED: "Check the key broker: the gate gets a new token as soon as it answers.",
    Reason.TOKEN_NOT_YET_VALID: "Set the clocks of verifier and nodes right.",
    Reason.NOT_AFFIRMING: "See the verifier's policy and log: they say what of the evidence is not good.",
    Reason.TECHNOLOGY_MISMATCH: "Check what the RuntimeClass starts; sample evidence is for mode Simulated alone.",
    Reason.REFERENCE_MISMATCH: "Find out what the guest runs; if that is right, correct referenceValues.",
    Reason.INITDATA_MISMATCH: "Find out who changed the initdata on its way to the guest.",
    Reason.NONCE_MISMATCH: "Find out who answers for the pod: an old token or report was shown.",
    Reason.KEY_MISMATCH: "Find out who answers for the pod: it does not hold the key of its token.",
    Reason.EVIDENCE_UNAVAILABLE: "Let the guest offer evidence (rest_api=attestation); the gate tries again.",
    Reason.VERIFIER_UNAVAILABLE: "Check attestation.kbs and the way to it from the pods; the gate tries again.",
    Reason.ATTESTATION_REFUSED: "See the key broker's log: it does not accept the guest's evidence.",
    Reason.CONFLICT: "Rename the resource, or delete the named object if nothing needs it.",
    Reason.CONTESTED: "Stop the named field manager from writing to this object.",
    Reason.IMMUTABLE_FIELD: "Delete the named object to have it made anew.",
    Reason.APPLY_REFUSED: "Correct what the API server names.",
}
"""What the reader can do; reasons of success or progress need none."""


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


def advised(reason: Reason, message: str) -> str:
    """Return the message with the reason's next step behind it."""
    step = NEXT_STEP.get(reason, "")
    return f"{message.rstrip()} {step}".rstrip()


def clip(text: str) -> str:
    """Cut `text` to the longest message we write, in the middle, so that the next step stays readable."""
    if len(text) <= MAX_MESSAGE_LENGTH:
        return text
    half = MAX_MESSAGE_LENGTH // 2 - 2
    return f"{text[:half]} … {text[-half:]}"
