# SPDX-License-Identifier: Apache-2.0
"""What a retriever tells, as facts: read leniently, and compared without what changes all the time."""

import json

from nimblet.cluster.indexfacts import accepted_keys, config_map_facts
from nimblet.cluster.retrieverstatus import RetrieverInquiry, retriever_facts
from nimblet.plan.facts import Answer, Observation

STATUS = {
    "index": "docs",
    "serving": "g000002",
    "push": 7,
    "generations": [
        {
            "name": "g000002",
            "embedding": "e",
            "documents": 3,
            "chunks": 40,
            "bytes": None,
            "sealed": True,
            "gate": {"passed": True, "asked": 4, "recall": 1.0, "mrr": 0.9, "ndcg": 0.9, "k": 5, "failed": []},
        }
    ],
    "embedding": {"ok": False, "reason": "EmbeddingUnavailable", "message": "x" * 1000},
    "store": {"ok": True, "freeBytes": 12345, "reserveBytes": 1, "full": False},
    "pushes": {"sequence": 7, "documents": 2, "tombstones": 0},
    "lastServedTime": "2026-01-02T03:04:05Z",
}


def told(**changes: object) -> Observation:
    return RetrieverInquiry().judge(json.dumps({**STATUS, **changes}).encode(), source_hash="")


def test_status_becomes_facts() -> None:
    facts = retriever_facts(told())
    assert facts is not None
    assert facts.serving == "g000002"
    assert facts.generation("g000002") is not None
    assert facts.generations[0].bytes == 0
    assert facts.generations[0].gate is not None
    assert facts.generations[0].gate.passed
    assert (facts.embedding.ok, facts.store.ok, facts.full) == (False, True, False)
    assert len(facts.embedding.message) < 400


def test_what_servers_say_becomes_facts() -> None:
    server = {"url": "http://q:6333", "used": True, "version": "1.18.2", "collections": ["uid-g000001-a"]}
    trouble = {"ok": False, "reason": "StoreRefused", "message": "HTTP 403"}
    facts = retriever_facts(told(store={"ok": True, "servers": [server], "trouble": trouble, "note": "newer"}))
    assert facts is not None
    (found,) = facts.servers
    assert (found.url, found.used, found.version, found.collections) == (
        *list(server.values())[:3],
        ("uid-g000001-a",),
    )
    assert facts.trouble is not None
    assert (facts.trouble.reason, facts.note) == ("StoreRefused", "newer")


def test_what_changes_all_the_time_is_left_out() -> None:
    other = told(store={"ok": True, "freeBytes": 1}, push=8, lastServedTime=None)
    assert other == told()


def test_anything_else_is_no_status() -> None:
    assert RetrieverInquiry().judge(b"<html>", source_hash="").answer is Answer.FAILED
    assert retriever_facts(Observation(answer=Answer.BUSY)) is None
    assert retriever_facts(None) is None


def test_key_secret_of_somebody_else_tells_nothing() -> None:
    owner = {
        "apiVersion": "nimblet.dev/v1alpha1",
        "kind": "RetrievalIndex",
        "name": "a",
        "uid": "u",
        "controller": True,
    }
    annotations = {
        "nimblet.dev/key-versions": "1-2",
        "nimblet.dev/key-published-at": "2026-01-02T03:04:05+00:00",
    }
    body: dict[str, object] = {"metadata": {"annotations": annotations, "ownerReferences": [owner]}}
    found = accepted_keys(body, uid="u")
    assert found is not None
    assert found.versions == (1, 2)
    assert found.since is not None
    assert accepted_keys(body, uid="other") is None


def test_config_map_is_hashed_with_its_binary_entries() -> None:
    one = config_map_facts(
        {"metadata": {"name": "a", "labels": {"nimblet.dev/use": "true"}}, "data": {"a.md": "x"}}
    )
    two = config_map_facts({"metadata": {"name": "a"}, "data": {"a.md": "x"}, "binaryData": {"b.pdf": "AA=="}})
    assert (one.usable, two.usable) == (True, False)
    assert one.content_hash != two.content_hash
    assert two.keys == ("a.md", "b.pdf")
