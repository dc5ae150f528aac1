# SPDX-License-Identifier: Apache-2.0
"""Reads a CompactModel that another resource names: from its spec and status alone, in the same namespace."""

from nimblet import names
from nimblet.api.compactmodel import CompactModel
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.parse import InvalidModel, parse_compactmodel
from nimblet.cluster.referents import Reader
from nimblet.cluster.resources import COMPACT_MODEL
from nimblet.conditions import ConditionType, Reason
from nimblet.plan.modelfacts import ModelReference
from nimblet.plan.verdicts import served_to_others, was_true


async def gather_model_reference(client: Reader, *, namespace: str, name: str) -> ModelReference:
    """Return what is known of a model. It is read anew each time: the mirror keeps no spec of ours."""
    body = await client.get(COMPACT_MODEL, namespace=namespace, name=name)
    if body is None:
        return ModelReference(name=name, found=False)
    parsed = parse_compactmodel(body)
    if isinstance(parsed, InvalidModel):
        deleting = metadata_of(body).deletion_timestamp is not None
        return ModelReference(
            name=name,
            found=True,
            # nothing of it is touched, so that what served serves on
            serving=was_true(parsed.status.conditions, ConditionType.SERVING) and not deleting,
            reason=Reason.INVALID_SPEC,
            message=parsed.errors,
        )
    return model_reference(parsed)


def model_reference(model: CompactModel) -> ModelReference:
    """Return a model as others see it."""
    status = model.status
    serving, reason, message = served_to_others(status.conditions, deleting=model.deleting)
    files = status.artifact.files if status.artifact is not None else []
    return ModelReference(
        name=model.name,
        found=True,
        serving=serving,
        ready=was_true(status.conditions, ConditionType.READY) and status.observed_generation == model.generation,
        reason=reason,
        message=message,
        task=model.spec.task,
        url=status.endpoint,
        served_name=model.spec.served_model_name or model.name,
        key_secret=status.key_secret,
        context_length=status.resolved.context_length if status.resolved is not None else 0,
        runtime=status.resolved.runtime if status.resolved is not None else "",
        parallel=model.spec.runtime.parallel,
        replicas=status.ready_replicas,
        dimension=(status.artifact.dimension or 0) if status.artifact is not None else 0,
        labels=tuple(status.artifact.labels or ()) if status.artifact is not None else (),
        adapters=model.spec.adapter_names,
        adapter_requests={adapter.name: adapter.request for adapter in status.adapters or ()},
        digest=names.content_hash([[item.path, item.sha256] for item in files], length=32) if files else "",
    )
