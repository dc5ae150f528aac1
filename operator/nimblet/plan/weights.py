# SPDX-License-Identifier: Apache-2.0
"""Whether a model's weights are mounted from their image by the kubelet, instead of fetched by a loader. Pure."""

from typing import Final

from nimblet.api.compactmodel import CompactModel
from nimblet.plan.artifact import Artifact
from nimblet.plan.facts import DeploymentFacts, ModelFacts, PodFacts
from nimblet.settings import Settings

IMAGE_VOLUMES_SINCE: Final = 35
"""Minor version from which image volumes are on by default (KEP-4639)."""


def weights_image(
    model: CompactModel, artifact: Artifact | None, facts: ModelFacts, settings: Settings, *, kept: bool
) -> str | None:
    """Return the image to mount, by digest, or None where a loader fetches; `kept`: as the pods have it.

    Only an image whose every file the resolver measured: the pod compares them again before it starts. A source
    with credentials is fetched, since the kubelet pulls with the node's own.
    """
    before = model.status.resolved
    if kept and before is not None:
        return before.weights_image or None
    source = model.spec.source
    if artifact is None or not source.uri.startswith("oci://") or not artifact.is_image:
        return None
    if not settings.oci_image_volumes or facts.server_minor < IMAGE_VOLUMES_SINCE:
        return None
    if model.spec.cache is not None or source.credentials_secret_ref is not None:
        return None
    return f"{repository_of(source.uri)}@{artifact.commit}"


def repository_of(uri: str) -> str:
    """Return `registry/repository` of an oci:// source, without tag and digest."""
    named = uri.removeprefix("oci://").partition("@")[0]
    host, _, path = named.partition("/")
    return f"{host}/{path.partition(':')[0]}"


def needs_egress(model: CompactModel, facts: ModelFacts, *, image: str | None) -> bool:
    """Tell whether a server's pod may have to fetch: as long as one with a loader of its own is there."""
    if model.spec.cache is None and image is None:
        return True
    deployment = facts.deployment
    return any(_fetches(pod) for pod in facts.pods) or (deployment is not None and _fetches(deployment))


def _fetches(template: PodFacts | DeploymentFacts) -> bool:
    return not template.cache_folder and not template.weights_image
