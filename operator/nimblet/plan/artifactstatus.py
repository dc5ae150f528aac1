# SPDX-License-Identifier: Apache-2.0
"""What a model's status tells of its files: what they are, who vouches for them, since when verified. Pure."""

from typing import Final

from nimblet.api.common import Condition
from nimblet.api.compactmodel import ArtifactFile, ArtifactStatus, CompactModel, CompactModelStatus
from nimblet.conditions import ConditionType
from nimblet.merging import find
from nimblet.plan.artifact import Artifact
from nimblet.plan.rollout import Rollout
from nimblet.plan.task import answer_width
from nimblet.plan.verdicts import was_true


def with_conditions(status: CompactModelStatus, conditions: tuple[Condition, ...]) -> CompactModelStatus:
    """Return the status with its conditions and, in its artifact, since when Verified has been True."""
    verified, artifact = find(conditions, ConditionType.VERIFIED), status.artifact
    since = verified.last_transition_time if was_true(conditions, ConditionType.VERIFIED) and verified else None
    if artifact is not None:
        artifact = artifact.model_copy(update={"verified_time": since})
    return status.model_copy(update={"conditions": list(conditions), "artifact": artifact})


KEY_RELEASED: Final = "KeyReleased"


def artifact_status(artifact: Artifact, model: CompactModel, rollout: Rollout) -> ArtifactStatus:
    """Return what is known of the files; a digest that only a loader found stays while the commit stays."""
    before, task = model.status, model.spec.task
    same = before.artifact is not None and before.artifact.commit == artifact.commit
    told = {file.path: file.sha256 for file in before.artifact.files} if before.artifact and same else {}
    files = [
        ArtifactFile(
            path=file.path,
            size=file.size,
            sha256=file.sha256 or told.get(file.path) or rollout.digests.get(file.path) or "",
        )
        for file in artifact.files
    ]
    return ArtifactStatus(
        commit=artifact.commit,
        files=files,
        digest_source=artifact.digest_source,
        method=artifact.method or None,
        signer=artifact.signer.name if artifact.signer is not None else None,
        key=key_place(model, loaded=rollout.loaded),
        architecture=artifact.header.architecture,
        parameters=artifact.header.parameters,
        dimension=answer_width(task, artifact.header) if task == "Embedding" else None,
        labels=list(artifact.header.classifier_labels or ()) if task == "Classify" else None,
    )


def key_place(model: CompactModel, *, loaded: bool) -> str | None:
    """Return where the key of encrypted weights is: a loader that has finished got it from the broker."""
    encryption = model.spec.source.encryption
    if encryption is None:
        return None
    return KEY_RELEASED if encryption.kbs is not None and loaded else encryption.place
