# SPDX-License-Identifier: Apache-2.0
"""The rows of the fault matrix. Data only: what breaks, what must be told, what heals."""

from dataclasses import dataclass, replace
from typing import Final

from e2e.matrix import surroundings as around
from e2e.matrix.play import Fault
from e2e.matrix.records import APPLIED, PULL, ended, event, pod_condition
from e2e.matrix.scene import RUNTIME, Wish
from e2e.models import SMOLLM2
from e2e.support.hub import (
    FOREIGN_FILE,
    TRUNCATED_FILE,
    UNLOADABLE_FILE,
    WEIGHTS_URL,
    odd_sha256,
)
from nimblet.conditions import Reason

SMALLER: Final = Wish(spec={"runtime": {**RUNTIME, "contextLength": 512}})
"""An edit that would work, were it not for what is around the model."""
ON_MAIN: Final = Wish(source={"revision": "main"})
"""The same model by another spec, so that another resolver is made."""
SOURCE: Final = "correct source"
RESOLVER: Final = ended("resolver")
RESOLVED: Final = ended("resolver", good=True)
SERVER: Final = ended("model")
REFUSED: Final = event("FailedCreate")


@dataclass(frozen=True)
class Elsewhere:
    """A row that another scenario plays, since it needs what the frame here does not have."""

    title: str
    reason: str
    """As told by that scenario; its words are not parsed here."""
    test: str


def _gated(secret: str, **spec: object) -> Wish:
    return Wish("hf://faults/gated", {"credentialsSecretRef": {"name": secret}}, spec)


def _file(name: str) -> Wish:
    return Wish(f"{WEIGHTS_URL}/{name}", spec={"integrity": {"sha256": {name: odd_sha256(name)}}})


def _fetched(name: str, title: str, reason: Reason, repo: str, step: str) -> Fault:
    """A source that resolves, and whose bytes then go wrong in the pod."""
    bad = Wish(f"hf://faults/{repo}")
    return Fault(name, title, reason, SERVER, bad, SOURCE, edit=bad, step=step)


def _refused(name: str, title: str, reason: Reason, bad: Wish, *, step: str = "") -> Fault:
    """A source that the resolver refuses."""
    return Fault(name, title, reason, RESOLVER, bad, SOURCE, edit=bad, step=step)


UNKNOWN: Final = Wish("hf://nobody/no-such-model")
SOURCES: Final = (
    _refused(
        "unknown-repo",
        "unknown repository",
        Reason.REPOSITORY_NOT_FOUND,
        UNKNOWN,
        step="Correct source.uri, or reference a Secret with a token.",
    ),
    Fault(
        "gated",
        "gated repository without a token",
        Reason.GATED_REPOSITORY,
        RESOLVER,
        Wish("hf://faults/gated"),
        "reference a Secret with a token",
        good=_gated("hub"),
        spoil=around.secret("hub"),
        edit=Wish("hf://faults/closed"),
        step="Accept its terms on the hub, and reference a Secret",
    ),
    _refused(
        "forbidden",
        "403 by the source",
        Reason.ACCESS_DENIED,
        Wish("hf://faults/forbidden"),
        step="reference a Secret",
    ),
    replace(
        _fetched("stalled", "stalled download", Reason.DOWNLOAD_STALLED, "stalled", "It is tried again"), slow=True
    ),
    _fetched("ends", "download that always ends early", Reason.DOWNLOAD_TRUNCATED, "ends", "It is tried again."),
    _fetched(
        "wrong-bytes",
        "bytes differ from the source's digest",
        Reason.DIGEST_MISMATCH,
        "wrong-digest",
        "The file was replaced or tampered with: do not use it",
    ),
    replace(
        _refused(
            "wrong-digest",
            "digest of the spec differs",
            Reason.DIGEST_MISMATCH,
            Wish(spec={"integrity": {"sha256": {SMOLLM2.file: "0" * 64}}}),
            step="Correct integrity.sha256, or do not use",
        ),
        cure="correct integrity.sha256",
    ),
    _refused("truncated", "truncated file", Reason.HEADER_INVALID, _file(TRUNCATED_FILE), step="use another one"),
    _refused(
        "not-gguf", "not a GGUF file", Reason.NOT_GGUF, Wish("hf://faults/not-a-model"), step="Name a GGUF file"
    ),
)
MODELS: Final = (
    Fault(
        "architecture",
        "unsupported architecture",
        Reason.UNSUPPORTED_MODEL,
        RESOLVED,
        _file(FOREIGN_FILE),
        SOURCE,
        edit=_file(FOREIGN_FILE),
    ),
    Fault(
        "context",
        "context over the model's maximum",
        Reason.CONTEXT_TOO_LONG,
        RESOLVED,
        Wish(spec={"runtime": {**RUNTIME, "contextLength": 100_000}}),
        "lower runtime.contextLength",
        edit=Wish(spec={"runtime": {**RUNTIME, "contextLength": 100_000}}),
    ),
    Fault(
        "crash-loop",
        "server that ends again and again",
        Reason.CRASH_LOOP_BACK_OFF,
        event("BackOff"),
        _file(UNLOADABLE_FILE),
        SOURCE,
        edit=_file(UNLOADABLE_FILE),
    ),
    Fault(
        "oom",
        "killed for its memory",
        Reason.OOM_KILLED,
        ended("model", reason="OOMKilled"),
        Wish(resources={"memory": "40Mi"}),
        "raise resources.memory",
        edit=Wish(resources={"memory": "40Mi"}),
    ),
)
NODES: Final = (
    Fault(
        "unschedulable",
        "no node is large enough",
        Reason.UNSCHEDULABLE,
        pod_condition("PodScheduled", "False"),
        Wish(resources={"memory": "500Gi"}),
        "lower resources.memory",
        edit=Wish(resources={"memory": "500Gi"}),
    ),
    Fault(
        "disk-too-small",
        "no node's disk is large enough",
        Reason.UNSCHEDULABLE,
        pod_condition("PodScheduled", "False"),
        Wish("hf://faults/sized-{too_large}"),
        "choose a smaller model",
        edit=Wish("hf://faults/sized-{too_large}"),
    ),
    Fault(
        "disk-full",
        "the node's disk is full",
        Reason.DISK_FULL,
        SERVER,
        Wish("hf://faults/sized-{no_room}"),
        "choose a smaller model",
        edit=Wish("hf://faults/sized-{no_room}"),
        step="Give the volume or the node more space, or use a smaller model.",
    ),
    Fault(
        "image",
        "image that can't be pulled",
        Reason.IMAGE_PULL_FAILED,
        PULL,
        Wish(),
        "mend the registry mirror, and set source.revision: the next pod is made anew",
        good=ON_MAIN,
        spoil=around.lost_image,
        mend=around.found_image,
        edit=replace(ON_MAIN, spec=SMALLER.spec),
    ),
    Fault(
        "evicted",
        "evicted for its use of disk",
        Reason.EVICTED,
        event("Evicted"),
        Wish(),
        "none: the pod is made anew",
        good=None,
        spoil=around.overfilled,
        start=Wish(),
    ),
)
NAMESPACES: Final = (
    Fault(
        "quota",
        "ResourceQuota refuses the pod",
        Reason.QUOTA_EXCEEDED,
        REFUSED,
        Wish(),
        "raise the quota",
        good=None,
        spoil=around.quota,
        mend=around.no_quota,
        edit=SMALLER,
    ),
    Fault(
        "limitrange",
        "LimitRange refuses the pod",
        Reason.LIMIT_RANGE_VIOLATED,
        REFUSED,
        Wish(),
        "widen the LimitRange",
        good=None,
        spoil=around.limits,
        mend=around.no_limits,
        edit=SMALLER,
    ),
    Fault(
        "podsecurity",
        "Pod Security refuses an injected sidecar",
        Reason.POD_SECURITY_REFUSED,
        REFUSED,
        Wish(),
        "remove the injector",
        good=None,
        spoil=around.injector,
        mend=around.no_injector,
        edit=SMALLER,
    ),
)
SECRETS: Final = (
    Fault(
        "secret-missing",
        "missing Secret",
        Reason.SECRET_MISSING,
        APPLIED,
        _gated("hub"),
        "create the Secret",
        good=None,
        mend=around.secret("hub"),
        edit=_gated("no-such-secret"),
    ),
    Fault(
        "secret-unlabelled",
        "Secret without the opt-in label",
        Reason.SECRET_NOT_USABLE,
        APPLIED,
        _gated("hub"),
        "label the Secret",
        good=None,
        spoil=around.both(around.secret("hub", usable=False), around.secret("other", usable=False)),
        mend=around.secret("hub"),
        edit=_gated("other"),
    ),
    Fault(
        "token-expired",
        "expired token",
        Reason.TOKEN_INVALID,
        RESOLVER,
        _gated("hub"),
        "put a new token into the Secret",
        good=None,
        spoil=around.both(around.secret("hub", around.OLD_TOKEN), around.secret("other", around.OLD_TOKEN)),
        mend=around.secret("hub"),
        edit=Wish("hf://faults/direct", {"credentialsSecretRef": {"name": "other"}}),
        step="Put a valid token into the Secret.",
    ),
    Fault(
        "secret-unmounted",
        "mounted Secret deleted, then scaled",
        Reason.MOUNT_FAILED,
        event("FailedMount"),
        _gated("hub", replicas=2),
        "create the Secret again",
        good=None,
        spoil=around.no_secret("hub"),
        mend=around.secret("hub"),
        prepare=around.secret("hub"),
        start=_gated("hub"),
    ),
    Fault(
        "configmap-missing",
        "mounted ConfigMaps deleted",
        Reason.READY,
        APPLIED,
        Wish(),
        "none: they are made anew",
        spoil=around.lost_config,
        start=Wish(),
        restored=around.config_is_back,
    ),
)
FAULTS: Final = (*SOURCES, *MODELS, *NODES, *NAMESPACES, *SECRETS)
ELSEWHERE: Final = (
    Elsewhere(
        "missing StorageClass of the cache",
        "StorageClassMissing",
        "e2e/scenarios/test_cache.py",
    ),
)
