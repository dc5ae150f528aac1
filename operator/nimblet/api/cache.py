# SPDX-License-Identifier: Apache-2.0
"""A model's cache: a claim that holds its files for all its pods, and what is told about it. Shape only."""

from typing import Annotated, Final, Literal

from pydantic import Field

from nimblet.api.common import ObjectName, Quantity, SpecModel, StatusModel
from nimblet.api.definition import Rule

READ_WRITE_ONCE = "ReadWriteOnce"
MAX_FURTHER: Final = 9
"""Sources beside the model's own: eight adapters and a drafting model."""
Folders = Annotated[list[str], Field(max_length=MAX_FURTHER)]

CACHE_RULE = Rule(
    rule="!has(self.cache) || self.cache.accessMode != 'ReadWriteOnce' "
    "|| (self.replicas <= 1 && self.rollout.strategy == 'Recreate')",
    message="a ReadWriteOnce cache is for one node: it needs at most one replica and rollout.strategy Recreate",
    field_path=".cache",
)


class Cache(SpecModel):
    """A PersistentVolumeClaim `<model>-cache` with a folder for each set of files, filled by a Job of its own.

    The model, each adapter and the drafting model are a set of files each.
    The server's pods mount it read-only, check every file before they start and have no egress at all.
    """

    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] = Field(
        default="ReadWriteMany",
        description="ReadWriteMany, or ReadWriteOnce with at most one replica and rollout.strategy Recreate: then "
        "a change stops the old model before the new one starts.",
    )
    storage_class_name: ObjectName | None = Field(
        default=None,
        description="StorageClass of the claim, which must exist as an object; the cluster's default when absent. "
        "It can't be changed while the claim exists.",
    )
    size: Quantity | None = Field(
        default=None,
        description="Size of the claim. When absent, room for this model and the one before, in whole Gi, and "
        "never less than the claim has. It grows where the StorageClass allows it and never shrinks.",
    )
    retention: Literal["Delete", "Retain"] = Field(
        default="Delete",
        description="Delete: the claim goes with the CompactModel or with `cache`. Retain: it stays, and only a "
        "CompactModel of the same name takes it up again, without a second download.",
    )


class CacheStatus(StatusModel):
    """The claim and what of it is used."""

    claim: str = Field(default="", description="PersistentVolumeClaim that holds the files.")
    folder: str = Field(default="", description="Folder of the current files, named by a digest over them.")
    previous_folder: str = Field(default="", description="Folder of the files before, kept for a way back.")
    further_folders: Folders | None = Field(
        default=None, description="Folders of the adapters and of the drafting model, where the spec has any."
    )
    previous_further_folders: Folders | None = Field(
        default=None, description="Those of them before that are not used any more, kept for a way back."
    )
    bytes: int = Field(default=0, ge=0, description="Size of the current files.")
