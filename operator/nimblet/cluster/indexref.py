# SPDX-License-Identifier: Apache-2.0
"""Reads a RetrievalIndex that another resource names: from its status alone, in the same namespace."""

from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.cluster.client import Client
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.parse import status_of
from nimblet.cluster.resources import RETRIEVAL_INDEX
from nimblet.cluster.trim import Object
from nimblet.plan.assistantfacts import IndexReference
from nimblet.plan.verdicts import served_to_others


async def gather_index_reference(client: Client, *, namespace: str, name: str) -> IndexReference:
    """Return what is known of an index. It is read anew each time: the mirror keeps no counts of it."""
    body = await client.get(RETRIEVAL_INDEX, namespace=namespace, name=name)
    return index_reference(body) if body is not None else IndexReference(name=name, found=False)


def index_reference(body: Object) -> IndexReference:
    """Return an index as others see it."""
    metadata, status = metadata_of(body), status_of(body, RetrievalIndexStatus)
    return reference_of(metadata.name, status, deleting=metadata.deletion_timestamp is not None)


def reference_of(name: str, status: RetrievalIndexStatus, *, deleting: bool = False) -> IndexReference:
    """Return an index of this status as others see it."""
    serving, reason, message = served_to_others(status.conditions, deleting=deleting)
    return IndexReference(
        name=name,
        found=True,
        serving=serving,
        reason=reason,
        message=message,
        key_secret=status.key_secret,
        generation=status.serving_generation,
        documents=status.documents,
        chunks=status.chunks,
    )
