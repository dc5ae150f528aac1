# SPDX-License-Identifier: Apache-2.0
"""Applies a plan's children by server-side apply. (signatures first; the body follows)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nimblet.cluster.client import Client, Json
from nimblet.cluster.contest import ContestLedger
from nimblet.plan.facts import ChildRef, WriteFailure
from nimblet.plan.result import Manifest


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The resource whose children are applied; `deleting`: it has a deletionTimestamp."""

    api_version: str
    kind: str
    name: str
    uid: str
    namespace: str
    deleting: bool = False


@dataclass(frozen=True, kw_only=True)
class ApplyContext:
    """`live(kind, name)`: the mirror's view in the owner's namespace, all but status and managedFields kept.

    Never called for Secrets (the mirror has none). `observed` gets each object that a write returned.
    """

    client: Client
    owner: Owner
    live: Callable[[str, str], Mapping[str, object] | None]
    observed: Callable[[Json], object]
    contests: ContestLedger


async def apply_children(context: ApplyContext, children: Sequence[Manifest]) -> tuple[WriteFailure, ...]: ...


async def delete_children(client: Client, *, namespace: str, refs: Iterable[ChildRef]) -> None: ...
