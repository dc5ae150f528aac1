# SPDX-License-Identifier: Apache-2.0
"""What a CompactModel's spec comes to for those that read its weights: the loader, and the TEEPolicies. Pure."""

from nimblet.api.compactmodel import CompactModel
from nimblet.manifests.loader import LoaderPod
from nimblet.plan.integrity import Trust
from nimblet.plan.source import (
    claim_of,
    optional_keys,
    required_keys,
    resolve_seconds,
    scheme_of,
    source_hash,
    source_text,
)
from nimblet.plan.tee import Bindable
from nimblet.settings import Settings


def bindable(model: CompactModel, settings: Settings, *, gate_image: str) -> Bindable:
    """Return what policies look at; `gate_image` is the loader's."""
    before, adapters = model.status.policy, model.spec.adapters or ()
    asked = model.spec.runtime.speculative
    drafts = [asked.integrity] if asked is not None and asked.source is not None else []
    beside = (*(f"adapter {adapter.name}" for adapter in adapters), *("the drafting model" for _ in drafts))
    places = [
        source.encryption.place if source.encryption is not None else ""
        for source in (model.spec.source, *model.spec.further_sources)
    ]
    named = ("the model", *beside)
    signed = all(
        integrity is not None and integrity.signature is not None
        for integrity in (model.spec.integrity, *(adapter.integrity for adapter in adapters), *drafts)
    )
    return Bindable(
        key_places=frozenset(places) - {""},
        plain=tuple(name for name, place in zip(named, places, strict=True) if not place),
        beside=beside,
        ref=model.spec.tee_policy_ref,
        signed=signed,
        before=before.technology if before is not None else "",
        gate_image=gate_image,
        pull_policy=settings.images.pull_policy,
    )


def loader_pod(
    model: CompactModel, settings: Settings, trust: Trust, *, image: str, adapter: str = "", draft: bool = False
) -> LoaderPod:
    """Return what a pod with a loader of this image needs to fetch the source; `adapter` names what it holds."""
    source, scheme = model.spec.source, scheme_of(model.spec)
    ref, encryption = source.credentials_secret_ref, source.encryption
    key = encryption.key_secret_ref if encryption is not None else None
    return LoaderPod(
        weights_key=key.name if key is not None else None,
        owner=model.name,
        namespace=model.namespace,
        image=image,
        pull_policy=settings.images.pull_policy,
        source_json=source_text(model.spec, trust, settings, adapter=bool(adapter)),
        source_hash=source_hash(model.spec, settings, trust, adapter=bool(adapter)),
        adapter=adapter,
        draft=draft,
        secret_name=ref.name if ref is not None else None,
        secret_keys=required_keys(scheme),
        optional_secret_keys=optional_keys(scheme),
        claim=claim_of(model.spec),
        identity_audience=settings.fetch.s3.audience if source.role_arn is not None else None,
        resolve_seconds=resolve_seconds(scheme),
        scheduling=model.spec.scheduling,
    )
