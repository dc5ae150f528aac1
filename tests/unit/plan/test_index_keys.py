# SPDX-License-Identifier: Apache-2.0
"""Rotation of an index's generated keys: the retriever knows a key before any caller gets it."""

import base64
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from nimblet import labels
from nimblet.plan.facts import KeyFacts
from nimblet.plan.index_keys import SPREAD_SECONDS
from nimblet.plan.indexfacts import AcceptedKeys, IndexFacts
from nimblet.plan.retrievalindex import IndexPlan
from tests.builders import NOW, child
from tests.conditions import shown
from tests.indexes import KEYS, NEW_KEYS, an_index, an_index_spec, built, first_facts, index_plan

SPREAD = timedelta(seconds=SPREAD_SECONDS)


def search_key(plan: IndexPlan) -> str:
    secret: Any = child(plan.children, "Secret", "handbook-search-key")
    return base64.b64decode(secret["data"]["api-key"]).decode()


def accepted(plan: IndexPlan) -> list[dict[str, Any]]:
    """Return the entries of the retriever's key file for searching."""
    secret: Any = child(plan.children, "Secret", "handbook-retriever-keys")
    keys: list[dict[str, Any]] = json.loads(base64.b64decode(secret["data"]["keys.json"]))["keys"]
    return [item for item in keys if item["id"] == "search"]


def rotating(
    facts: IndexFacts, *, published: int, since: datetime | None, versions: tuple[int, ...]
) -> IndexFacts:
    return replace(
        facts,
        key=KeyFacts(version=published, published_at=since if published > 1 else None),
        accepted=AcceptedKeys(versions=versions, since=since if published == 1 else None),
    )


def test_new_key_is_known_to_the_retriever_before_callers_get_it() -> None:
    index, facts = built(an_index())
    wanted = index.model_copy(update={"spec": an_index_spec(access={"keyVersion": 2}), "generation": 2})
    first = index_plan(wanted, rotating(facts, published=1, since=None, versions=(1,)))
    assert search_key(first) == KEYS.search
    assert len(accepted(first)) == 2
    assert shown(first, "Ready") == ("Unknown", "RotatingKey")
    assert shown(first, "Serving") == ("True", "Answering")
    begun = rotating(facts, published=1, since=NOW, versions=(1, 2))
    waits = index_plan(wanted, begun, now=NOW + SPREAD - timedelta(seconds=1))
    assert search_key(waits) == KEYS.search
    assert waits.requeue_after == 1.0
    spread = index_plan(wanted, begun, now=NOW + SPREAD)
    assert search_key(spread) == NEW_KEYS.search
    annotations = child(spread.children, "Secret", "handbook-search-key")["metadata"]["annotations"]
    assert annotations[labels.KEY_VERSION] == "2"


def test_old_key_ends_with_its_grace() -> None:
    index, facts = built(an_index())
    access = {"keyVersion": 2, "keyGraceSeconds": 60}
    wanted = index.model_copy(update={"spec": an_index_spec(access=access), "generation": 2})
    since = rotating(facts, published=2, since=NOW, versions=(1, 2))
    within = index_plan(wanted, since, now=NOW + timedelta(seconds=50))
    old = [item for item in accepted(within) if "expires" in item]
    assert [item["expires"] for item in old] == [(NOW + timedelta(seconds=60)).isoformat()]
    assert within.requeue_after == 10.0
    after = index_plan(wanted, since, now=NOW + timedelta(seconds=60))
    assert len(accepted(after)) == 1
    assert shown(after, "Ready") == ("True", "Ready")


def test_no_secret_is_rendered_without_keys() -> None:
    plan = index_plan(an_index(), first_facts(keys={}))
    assert "Secret" not in [item["kind"] for item in plan.children]


def test_key_of_pushing_is_made_where_asked_alone() -> None:
    def names(plan: IndexPlan) -> set[str]:
        found: list[Any] = [item for item in plan.children if item["kind"] == "Secret"]
        return {item["metadata"]["name"] for item in found}

    assert "handbook-push-key" not in names(index_plan(an_index(), first_facts()))
    assert "handbook-push-key" in names(index_plan(an_index(access={"push": True}), first_facts()))
