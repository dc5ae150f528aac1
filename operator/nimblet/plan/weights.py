# SPDX-License-Identifier: Apache-2.0
"""Whether a model's weights are mounted from their image by the kubelet, instead of fetched by a loader. Pure."""

from typing import Final

from nimblet.api.compactmodel import CompactModel
from nimblet.plan.artifact import Artifact
from nimblet.plan.facts import DeploymentFacts, ModelFacts, PodFacts
from nimblet.plan.source import scheme_of
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
    mounted = before.weights_image if kept and before is not None else ""
    if artifact is None:
        return mounted or None
    wanted = bool(mounted) if kept else _is_wanted(model, artifact, facts, settings)
    return f"{repository_of(model.spec.source.uri)}@{artifact.commit}" if wanted else None


def _is_wanted(model: CompactModel, artifact: Artifact, facts: ModelFacts, settings: Settings) -> bool:
    source = model.spec.source
    return (
        settings.oci_image_volumes
        and facts.server_minor >= IMAGE_VOLUMES_SINCE
        and scheme_of(model.spec) == "oci"
        and artifact.is_image
        and model.spec.cache is None
        and source.credentials_secret_ref is None
        and source.encryption is None
    )


def repository_of(uri: str) -> str:
    """Return `registry/repository` of an oci:// source, without tag and digest."""
    named = uri.removeprefix("oci://").partition("@")[0]
    host, _, path = named.partition("/")
    return f"{host}/{path.partition(':')[0]}"


def needs_egress(model: CompactModel, facts: ModelFacts, *, image: str | None) -> bool:
    """Tell whether a server's pod may have to fetch: as long as one with a loader of its own is there."""
    if model.spec.cache is None and (image is None or model.spec.further_sources):
        return True
    deployment = facts.deployment
    return any(_fetches(pod) for pod in facts.pods) or (deployment is not None and _fetches(deployment))


def _fetches(template: PodFacts | DeploymentFacts) -> bool:
    if isinstance(template, PodFacts):
        folders = template.further_folders
        if template.beside - folders.keys() or (template.adapters and not folders):
            return True
    return not template.cache_folder and not template.weights_image
