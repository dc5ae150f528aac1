# SPDX-License-Identifier: Apache-2.0
"""The one vocabulary of names under our prefix: group, labels, annotations, field manager.

Constants only. A label or annotation key written anywhere else is a defect.
"""

from collections.abc import Mapping
from typing import Final

GROUP: Final = "nimblet.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
FIELD_MANAGER: Final = "nimblet"

# Labels from the Kubernetes recommended set.
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
NAME: Final = "app.kubernetes.io/name"
INSTANCE: Final = "app.kubernetes.io/instance"
COMPONENT: Final = "app.kubernetes.io/component"

MANAGED_BY_VALUE: Final = "nimblet"

MODEL: Final = f"{GROUP}/model"
"""Label: the CompactModel that a child or pod belongs to."""
ASSISTANT: Final = f"{GROUP}/assistant"
"""Label: the Assistant that a child or pod belongs to."""
INDEX: Final = f"{GROUP}/index"
"""Label: the RetrievalIndex that a child or pod belongs to."""
REVISION: Final = f"{GROUP}/revision"
"""Pod-template label: hash of the template, so that pods of the current spec are told from older ones."""
SOURCE_HASH: Final = f"{GROUP}/source-hash"
"""Label on resolver Jobs, artifact ConfigMaps and pod templates: which source they belong to; on a gateway's pods:
hash of the names of the resources that it answers from."""

APPLIED_HASH: Final = f"{GROUP}/applied-hash"
"""Annotation on every child: hash of the manifest last applied; equal hash and equal leaves mean no write."""
APPLIED_IMAGES: Final = f"{GROUP}/applied-images"
"""Annotation on Deployments and StatefulSets: the images of the template last applied, which admission may have
written otherwise."""
ATTEMPT: Final = f"{GROUP}/attempt"
"""Annotation on a resolver Job: which try it is, from 1."""
CREDENTIALS_HASH: Final = f"{GROUP}/credentials-hash"
"""Annotation on a resolver Job: keyed hash of the Secret it ran with, so that a new Secret starts a new try."""
CACHE_FOLDER: Final = f"{GROUP}/cache-folder"
"""Label on fill Jobs and pod templates: the folder of the cache that they fill or use. With a dot and the name
of a container behind it, on pod templates alone: the folder that it checks, of an adapter or a drafting model."""
CLAIM_UID: Final = f"{GROUP}/claim-uid"
"""Annotation on a fill Job: the claim it filled; a claim made anew is empty."""
RETAINED_FOR: Final = f"{GROUP}/retained-for"
"""Annotation on a retained claim, `<Kind>.<name>`: who may take it up. Such an object has no owner."""
HOSTS: Final = f"{GROUP}/hosts"
"""Annotation on a user's Secret: the hosts its content may be sent to, separated by commas."""
USE: Final = f"{GROUP}/use"
"""Label on a user's Secret: "true" lets Nimblet's resources mount it."""
WEIGHTS_KEY: Final = f"{GROUP}/weights-key"
"""Annotation on a user's Secret: `for-tests` lets its key decrypt weights; whoever reads Secrets can then too."""
WEIGHTS_KEY_VALUE: Final = "for-tests"
KEY_VERSION: Final = f"{GROUP}/key-version"
"""Annotation on the API key Secret: version of the key under `api-key`."""
KEY_PUBLISHED_AT: Final = f"{GROUP}/key-published-at"
"""Annotation on the API key Secret: since when that version stands there; absent before the first rotation."""
KEY_VERSIONS: Final = f"{GROUP}/key-versions"
"""Pod-template label: versions of the key that the pods accept, `1-2` during a rotation; absent for 1 alone."""
RESTARTED_AT: Final = f"{GROUP}/restarted-at"
"""Annotation on a CompactModel that asks for a restart by a new value, and on the pod template that obeyed it."""
KEYS_HASH: Final = f"{GROUP}/keys-hash"
"""Pod-template annotation: keyed hash of the user's own keys, so that a change of them rolls the pods."""
CHAT_TEMPLATE_HASH: Final = f"{GROUP}/chat-template-hash"
"""Pod-template annotation: hash of the chat template's text, so that a change of it rolls the pods."""

CONFIG_HASH: Final = f"{GROUP}/config-hash"
"""Pod-template annotation, and label on a gateway's ConfigMap: hash of the configuration, which rolls the pods."""
BUILD_REQUESTED_AT: Final = f"{GROUP}/build-requested-at"
"""Annotation on a RetrievalIndex that asks for a build by a new value, and on the Job that answers it."""
BUILD_GENERATION: Final = f"{GROUP}/generation"
"""Label on a build Job: the generation that it makes."""
BUILD_INPUTS: Final = f"{GROUP}/build-inputs"
"""Label on a build Job: hash of what it reads and how."""
BUILD_SWAPS: Final = f"{GROUP}/build-swaps"
"""Annotation on a build Job: "false" where it leaves the swap to `spec.generation`; absent where it swaps."""

SERVERS: Final = f"{GROUP}/servers"
"""Annotation on the StatefulSet of Qdrant servers: how many there are, also while it is scaled to none."""
STORE_MEMORY: Final = f"{GROUP}/store-memory"
"""Annotation on the StatefulSet of Qdrant servers: the memory mode that they were made for."""

ADAPTERS: Final = f"{GROUP}/adapters"
"""Pod-template label: the server that has the adapters, and a hash of their names; absent where there are none."""

WEIGHTS_IMAGE: Final = f"{GROUP}/weights-image"
"""Pod-template label: first digits of the digest of the image that the weights are mounted from."""

RUNTIME_CLASSES: Final = f"{GROUP}/runtime-classes"
"""Annotation on the Secrets of a resource that a Required TEEPolicy binds, for the ValidatingAdmissionPolicy:
RuntimeClasses of the pods that may mount them, separated by commas; absent otherwise."""

TRANSPORT: Final = f"{GROUP}/transport"
"""Pod-template label: "tls" where the pods serve HTTPS; absent where they serve HTTP."""
CERTIFICATE: Final = f"{GROUP}/certificate"
"""Pod-template annotation: first digits of the certificate of a server that never looks at it again."""

ISSUED_FOR: Final = f"{GROUP}/issued-for"
"""Annotation on a Secret that cert-manager made for a Certificate of ours, `<Kind>.<name>`: whose it is."""

MANAGED_SELECTOR: Final = f"{MANAGED_BY}={MANAGED_BY_VALUE}"


def checked_folder(container: str) -> str:
    """Return the label with the folder that a container beside the model's own loader checks."""
    return f"{CACHE_FOLDER}.{container}"


def checked_folders(given: Mapping[str, str]) -> dict[str, str]:
    """Return these folders by container, out of the labels of a pod."""
    start = checked_folder("")
    return {key.removeprefix(start): value for key, value in given.items() if key.startswith(start)}


def retained_for(kind: str, name: str) -> str:
    """Return the value of RETAINED_FOR for a resource of ours."""
    return f"{kind}.{name}"


KINDS: Final[Mapping[str, str]] = {
    MODEL: "CompactModel",
    ASSISTANT: "Assistant",
    INDEX: "RetrievalIndex",
}
"""Label of an owner to its kind."""


def child_labels(*, kind_label: str, owner: str, component: str) -> dict[str, str]:
    """Return the labels every child of `owner` carries."""
    return {
        MANAGED_BY: MANAGED_BY_VALUE,
        NAME: component,
        INSTANCE: owner,
        COMPONENT: component,
        kind_label: owner,
    }


def selector_string(labels: Mapping[str, str]) -> str:
    """Return `labels` in the comma form that /scale's labelSelectorPath wants."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
