# SPDX-License-Identifier: Apache-2.0
"""Reads what Pod Security a namespace enforces, for profiles that need more than it may allow. Decides nothing."""

from typing import Final

from nimblet.cluster.client import Client
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.resources import NAMESPACE
from nimblet.settings import Settings

ENFORCE: Final = "pod-security.kubernetes.io/enforce"


async def pod_security(client: Client, namespace: str, settings: Settings) -> str:
    """Return the enforced level; "" where the namespace has none, or no profile needs more than `restricted`."""
    if not any(profile.needs for profile in settings.hardware.known.values()):
        return ""
    body = await client.get(NAMESPACE, name=namespace)
    return metadata_of(body).labels.get(ENFORCE, "") if body is not None else ""
