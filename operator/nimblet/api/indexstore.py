# SPDX-License-Identifier: Apache-2.0
"""Where an index is kept. Shape and local validity only; what Qdrant makes of it is decided in plan/."""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nimblet.api.common import Duration, ObjectName, Quantity, SecretRef, SpecModel
from nimblet.api.definition import Rule, rules

URL_PATTERN: Final = (
    r"^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~%+-]+)*$"  # no query, no user
)
Url = Annotated[str, StringConstraints(pattern=URL_PATTERN, max_length=500)]
StoreType = Literal["Embedded", "Dedicated", "External"]

TYPE_RULE = Rule(
    rule="self == oldSelf", message="store.type can't be changed: make a new RetrievalIndex and switch to it"
)
EXTERNAL_RULE = Rule(
    rule="(self.type == 'External') == has(self.url)",
    message="an External store needs url, and no other store has one",
    field_path=".url",
)
KEY_RULE = Rule(
    rule="!has(self.keySecretRef) || self.type == 'External'",
    message="keySecretRef is for an External store; the others have keys of their own",
    field_path=".keySecretRef",
)
DEDICATED_RULE = Rule(
    rule="!has(self.dedicated) || self.type == 'Dedicated'",
    message="dedicated is for a Dedicated store",
    field_path=".dedicated",
)
EMBEDDED_RULE = Rule(
    rule="!has(self.embedded) || self.type == 'Embedded'",
    message="embedded is for a Embedded store",
    field_path=".embedded",
)
FACTOR_RULE = Rule(
    rule="self.replicationFactor <= self.replicas",
    message="replicationFactor can't exceed replicas: each copy is on a server of its own",
    field_path=".replicationFactor",
)


class Snapshots(SpecModel):
    """Snapshots that the retriever takes on every server, on the volume that each has for them."""

    retain: Annotated[int, Field(strict=True, ge=1, le=10)] = Field(
        default=2, description="Snapshots of a collection that each server keeps; the oldest go."
    )
    every: Duration = Field(
        default="24h",
        description="Pushed documents, which no source has, are taken anew after this long, such as `6h`, and "
        "after each swap; a generation never changes and is taken once, when it has begun to serve.",
    )


class Dedicated(SpecModel):
    """Qdrant servers of this index's own."""

    model_config = ConfigDict(json_schema_extra=rules(FACTOR_RULE))

    replicas: Annotated[int, Field(strict=True, ge=1, le=32)] = Field(
        default=1,
        description="Servers. More take effect with the next generation, which is built at once; fewer mean a new "
        "StatefulSet, for which a generation is built: the old one answers until that serves, then it is deleted.",
    )
    shards: Annotated[int, Field(strict=True, ge=1, le=128)] = Field(
        default=1, description="Parts that each generation is spread over; another number builds one anew."
    )
    replication_factor: Annotated[int, Field(strict=True, ge=1, le=8)] = Field(
        default=1, description="Copies of each part; two or more outlive the loss of a server."
    )
    passages: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)] = Field(
        default=100_000,
        description="Passages that the servers are made for before an index is there. A larger one gets more "
        "memory by itself, which restarts the servers one after the other; their claims never grow.",
    )
    memory: Literal["InMemory", "OnDisk"] = Field(
        default="InMemory",
        description="InMemory keeps the vectors in memory; OnDisk reads them from the volume, slower and with "
        "less memory. Another one is moved to as fewer servers are.",
    )
    quantization: Literal["None", "Scalar", "Binary"] = Field(
        default="None",
        description="Compresses the vectors that are searched: Scalar to a quarter, Binary to a thirty-second; "
        "candidates are scored again with the whole ones.",
    )
    snapshots: Snapshots | None = Field(
        default=None,
        description="Takes snapshots of the serving generation and of pushed documents; none when absent. "
        "`status.snapshots` names them, and the condition Snapshotted tells how the last ones went.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.replication_factor > self.replicas:
            raise ValueError(FACTOR_RULE.message)
        return self


class Embedded(SpecModel):
    """What an Embedded store may use of its volume and of the retriever's memory."""

    reserve: Quantity | None = Field(
        default=None,
        description="Space that builds and pushes leave free on the claim, 256Mi when absent: on a full volume "
        "the engine ends at once. Where it would be touched they are refused with 507.",
    )
    push_passages: Annotated[int, Field(strict=True, ge=0, le=100_000)] | None = Field(
        default=None,
        description="Pushed passages at most, 10,000 when absent. They are held in memory, about 4 kB each, and "
        "read in at each start.",
    )


class Store(SpecModel):
    """Where generations are kept and searched."""

    model_config = ConfigDict(json_schema_extra=rules(EXTERNAL_RULE, KEY_RULE, DEDICATED_RULE, EMBEDDED_RULE))

    type: StoreType = Field(
        default="Embedded",
        description="Embedded: Qdrant's engine in the retriever, on a claim `<name>-index`; one pod, and a "
        "restart of it is a pause of some seconds. Dedicated: Qdrant servers of its own, `<name>-qdrant`. "
        "External: a Qdrant server of yours. Immutable.",
        json_schema_extra=rules(TYPE_RULE),
    )
    size: Quantity = Field(
        default="10Gi",
        description="Size of the claim, which grows where the StorageClass allows it and never shrinks. With "
        "Dedicated that of each server's two claims, of data and of snapshots; another one is moved to as fewer "
        "servers are.",
    )
    storage_class_name: ObjectName | None = Field(
        default=None,
        description="StorageClass of the claims; the cluster's default when absent. It can't be changed while "
        "they exist; a Dedicated store moves to claims of another one.",
    )
    retention: Literal["Delete", "Retain"] = Field(
        default="Delete",
        description="Delete: the claims go with the RetrievalIndex. Retain: they stay, with pushed documents, and "
        "only a RetrievalIndex of the same name takes them up again.",
    )
    embedded: Embedded | None = Field(default=None, description="Bounds of an Embedded store.")
    dedicated: Dedicated | None = Field(default=None, description="How the servers of a Dedicated store are.")
    url: Url | None = Field(
        default=None,
        description="REST address of an External server (Qdrant 1.16 or newer), port 6333 unless it names one; "
        "its host must be in the administrator's fetch.allow. Collections are named by this resource's uid.",
    )
    key_secret_ref: SecretRef | None = Field(
        default=None,
        description="A Secret with the External server's key under `api-key`, which may read and write all "
        "collections; a new one takes effect without a restart. It must carry the label "
        'nimblet.dev/use: "true" and name the server in the annotation nimblet.dev/hosts.',
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.type == "External") != (self.url is not None):
            raise ValueError(EXTERNAL_RULE.message)
        if self.key_secret_ref is not None and self.type != "External":
            raise ValueError(KEY_RULE.message)
        if self.dedicated is not None and self.type != "Dedicated":
            raise ValueError(DEDICATED_RULE.message)
        if self.embedded is not None and self.type != "Embedded":
            raise ValueError(EMBEDDED_RULE.message)
        return self
