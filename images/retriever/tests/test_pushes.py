# SPDX-License-Identifier: Apache-2.0
"""Pushed documents over HTTP: whose they are, who sees them, what is refused."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from indexer_testing.files import docx_bomb, pdf
from retriever_testing.bench import (
    BOARD,
    BUILDER,
    CHIEF,
    PUMP,
    PUSHER,
    READER,
    SECRET,
    Around,
    Bench,
    eventually,
    running,
)

pytestmark = pytest.mark.asyncio
BOTH: dict[str, object] = {"document": "wiki/both", "text": "Both see the winch.", "access": ["public", "board"]}


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An index of three documents."""
    async with running(tmp_path) as made:
        await made.index(PUMP, SECRET, BOTH)
        yield made


async def test_pushed_document_is_cited_with_generation_and_push_number(bench: Bench) -> None:
    # Given an answer before any push
    assert (await bench.ask("crane")).json()["push"] == 0
    # When a document is pushed
    pushed = await bench.push("news/1", "The crane lifts nine tons.", title="News", labels={"team": "red"})
    # Then the next answer has it, with all a citation needs
    assert (pushed.status_code, pushed.json()) == (200, {"id": "push:app/news/1", "version": 1, "push": 1})
    answer = (await bench.ask("How much does the crane lift?")).json()
    assert (answer["generation"], answer["push"]) == ("g000001", 1)
    first = answer["passages"][0]
    assert first["id"] == "docs/push:app/news/1/0@g000001"
    assert (first["source"], first["title"], first["labels"]) == ("push:app", "News", {"team": "red"})
    assert first["text"] == "The crane lifts nine tons."
    assert first["similarity"] is not None


async def test_push_can_not_take_the_place_of_anothers_document(bench: Bench) -> None:
    # Given documents of a source and of another key
    await bench.push("a", "The chief's crane.", key=CHIEF, access=["public"])
    # When a key pushes under their names
    await bench.push("pump", "The pump is broken.")
    await bench.push("push:chief/a", "The crane is mine.")
    # Then all are there, each under its own id
    assert {"pump", "push:app/pump", "push:chief/a", "push:app/push:chief/a"} <= set(
        await bench.documents("pump crane")
    )
    # And deleting reaches its own alone
    assert (await bench.delete("push:chief/a")).json()["id"] == "push:app/push:chief/a"
    assert (await bench.delete("push:chief/a")).status_code == 200
    assert "push:chief/a" in await bench.documents("crane")


async def test_key_gives_no_label_that_it_has_not(bench: Bench) -> None:
    for key, access in ((PUSHER, ["board"]), (PUSHER, ["public", "board"]), (PUSHER, []), (CHIEF, None)):
        refused = await bench.push("x", "The derrick.", key=key, access=access)
        assert (refused.status_code, refused.json()["reason"]) == (403, "AccessRefused")
    assert (await bench.push("ours", "The derrick.")).status_code == 200
    assert (await bench.push("board", "The winch.", key=CHIEF, access=["board"])).status_code == 200
    pushed = [name for name in await bench.documents("derrick winch") if name.startswith("push:")]
    assert pushed == ["push:app/ours"]


async def test_versions(bench: Bench) -> None:
    # Given a document of version 5
    assert (await bench.push("a", "crane five", version=5)).json()["version"] == 5
    bench.model.embedded.clear()
    # Then the same again is the same push, and nothing is embedded; older ones and other content are refused
    assert (await bench.push("a", "crane five", version=5)).json()["push"] == 1
    assert bench.model.embedded == []
    for text, version in (("crane four", 4), ("crane other", 5)):
        refused = await bench.push("a", text, version=version)
        assert (refused.status_code, refused.json()["reason"]) == (409, "VersionRefused")
    # When a newer one comes, and one without a number, then each replaces the last
    assert (await bench.push("a", "crane six", version=6)).json()["push"] == 2
    assert (await bench.push("a", "crane seven")).json() == {"id": "push:app/a", "version": 7, "push": 3}
    texts = [item["text"] for item in (await bench.ask("crane")).json()["passages"]]
    assert [text for text in texts if text.startswith("crane")] == ["crane seven"]


async def test_deleted_document_stays_deleted(bench: Bench) -> None:
    await bench.push("a", "crane", version=1)
    assert (await bench.delete("a?version=0")).status_code == 409
    assert (await bench.delete("a")).json() == {"id": "push:app/a", "version": 1, "push": 2}
    assert (await bench.delete("a")).json()["push"] == 2
    assert (await bench.push("a", "crane", version=1)).status_code == 409
    assert "push:app/a" not in await bench.documents("crane")
    assert (await bench.delete("never")).status_code == 404
    for version in ("x", "-1", str(2**53), "9" * 5000, "1&other=2"):
        refused = await bench.delete(f"a?version={version}")
        assert (refused.status_code, refused.json()["reason"]) == (422, "InvalidRequest")


async def test_erased_source_document_stays_away_after_swap_and_roll_back(bench: Bench) -> None:
    # Given a document in two generations
    await bench.index(PUMP, SECRET, BOTH, name="g000002")
    # When it is erased
    assert (await bench.delete("pump")).json() == {"id": "pump", "version": 0, "push": 1}
    # Then no generation shows it, now or later
    for name in ("g000001", "g000002", "g000003"):
        if name == "g000003":
            await bench.build(PUMP, SECRET, BOTH, name=name)
        headers = {"Authorization": f"Bearer {BUILDER}"}
        await bench.client.put("/v1/serving", json={"generation": name}, headers=headers)
        assert await bench.documents("pump bar") == ["wiki/both"]
    # When that is taken back, then it is there
    await bench.post("/v1/documents/pump/restore", {}, key=PUSHER)
    assert "pump" in await bench.documents("pump bar")


async def test_long_text_holds_up_no_search(bench: Bench) -> None:
    # Given a push whose text takes seconds to be read, and is refused then: it holds nothing to be seen
    pushing = asyncio.create_task(bench.push("long", "\u200b" * 3_000_000))
    # Then a search is answered meanwhile
    asking = asyncio.create_task(bench.ask("pump"))
    ended, _ = await asyncio.wait({pushing, asking}, return_when=asyncio.FIRST_COMPLETED)
    assert ended == {asking}
    assert asking.result().status_code == 200
    refused = await pushing
    assert (refused.status_code, "NoText" in refused.json()["message"]) == (422, True)


async def test_key_erases_only_what_all_its_readers_share(bench: Bench) -> None:
    # Given a document that the key's labels don't reach, and one that others see too
    hidden, shared = await bench.delete("plan"), await bench.delete("wiki/both")
    # Then the one is not there for it, and over the other it may not decide
    assert (hidden.status_code, hidden.json()["reason"]) == (404, "DocumentUnknown")
    assert (shared.status_code, shared.json()["reason"]) == (403, "AccessRefused")
    assert (await bench.delete("wiki/both", key=CHIEF)).status_code == 200
    assert "wiki/both" not in await bench.documents("winch", key=BOARD)


async def test_files_are_parsed_as_the_indexs_own(bench: Bench) -> None:
    markdown = await bench.push("m", "# Crane\n\n## Loads\n\nNine tons.", contentType="text/markdown")
    content = base64.b64encode(pdf(["", "The derrick turns left."])).decode()
    file = {"id": "p", "content": content, "contentType": "application/pdf"}
    printed = await bench.post("/v1/documents", file, key=PUSHER)
    assert (markdown.status_code, printed.status_code) == (200, 200)
    found = {item["document"]: item for item in (await bench.ask("derrick tons", topK=20)).json()["passages"]}
    assert (found["push:app/m"]["title"], found["push:app/m"]["location"]) == ("Crane", "Loads")
    assert (found["push:app/p"]["text"], found["push:app/p"]["location"]) == ("The derrick turns left.", "page 2")


DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
REFUSED: list[tuple[dict[str, object], str]] = [
    ({"text": "  "}, "NoText"),
    ({"text": "x", "content": "eA=="}, "either text or content"),
    ({}, "either text or content"),
    ({"text": "x", "contentType": "image/png"}, "contentType"),
    ({"text": "x", "id": "a\nb"}, "id"),
    ({"text": "x", "labels": {"a=b": "c"}}, "labels"),
    ({"text": "x", "source": "wiki"}, "source"),
    ({"content": "eA==", "contentType": "application/pdf"}, "Damaged"),
    ({"content": base64.b64encode(docx_bomb(100)).decode(), "contentType": DOCX}, "ExpandsTooMuch"),
]


async def test_what_can_not_be_pushed_is_told(bench: Bench) -> None:
    for fields, words in REFUSED:
        answer = await bench.post("/v1/documents", {"id": "x", **fields}, key=PUSHER)
        assert answer.status_code == 422
        assert words in answer.json()["message"]
    assert (await bench.get("/v1/status")).json()["push"] == 0


async def test_other_keys_push_nothing(bench: Bench) -> None:
    for key in (READER, BUILDER, "unknown"):
        assert (await bench.push("a", "crane", key=key)).status_code == 401
        assert (await bench.delete("pump", key=key)).status_code == 401


async def test_pushed_documents_follow_a_change_of_the_embedding_model(bench: Bench) -> None:
    # Given a pushed document, and a generation that was built with another model behind the same address
    await bench.push("a", "The crane lifts nine tons.")
    bench.model.salt = "another"
    await bench.index(PUMP, SECRET, BOTH, name="g000002")
    # When it is searched for by its vector, then it is embedded anew soon, and found
    bench.model.embedded.clear()
    await bench.ask("crane", mode="Dense")

    async def is_found() -> bool:
        answer = await bench.ask("The crane lifts nine tons.", mode="Dense", topK=1)
        return bool(answer.json()["passages"][0]["document"] == "push:app/a")

    await eventually(is_found)
    assert bench.model.embedded.count("a\nThe crane lifts nine tons.") == 1


async def test_document_that_the_new_model_refuses_is_told_and_holds_up_no_other(bench: Bench) -> None:
    # Given pushed documents, and a generation by a model that takes shorter texts
    await bench.push("long", "The derrick " + "lifts and lowers " * 10)
    await bench.push("short", "The crane lifts nine tons.")
    bench.model.salt, bench.model.context = "another", 20
    await bench.index(PUMP, SECRET, BOTH, name="g000002")

    async def is_told() -> bool:
        await bench.ask("crane", mode="Dense")
        return bool((await bench.get("/v1/status")).json()["pushes"]["unembedded"])

    async def is_found() -> bool:
        answer = await bench.ask("short The crane lifts nine tons.", mode="Dense", topK=1)
        return bool(answer.json()["passages"][0]["document"] == "push:app/short")

    # When they are embedded anew, then the short one is found by its vector, the long one by its words
    await eventually(is_told)
    await eventually(is_found)
    assert "push:app/long" in await bench.documents("derrick")
    # And the status says why
    (refusal,) = (await bench.get("/v1/status")).json()["pushes"]["refusals"]
    assert refusal["document"] == "push:app/long"
    assert "longer than the embedding model takes" in refusal["message"]
    # And it is not asked for again and again
    embedded = len(bench.model.embedded)
    await bench.ask("derrick", mode="Lexical")
    await bench.ask("derrick", mode="Lexical")
    assert len(bench.model.embedded) == embedded + 2
    # When it is deleted, then nothing is left to tell
    await bench.delete("long")
    await bench.ask("crane")
    assert (await bench.get("/v1/status")).json()["pushes"]["unembedded"] == 0


async def test_status_counts_pushes(bench: Bench) -> None:
    await bench.push("a", "crane")
    await bench.delete("pump")
    status = (await bench.get("/v1/status")).json()
    assert status["push"] == 2
    counts = {"sequence": 2, "documents": 1, "tombstones": 1}
    assert status["pushes"] == {**counts, "unembedded": 0, "refusals": []}


async def test_full_volume_refuses_pushes_and_searches_go_on(tmp_path: Path) -> None:
    # Given a volume that others fill
    left = [10**9]
    async with running(tmp_path, Around(reserve=10**6, free=lambda _: left[0])) as bench:
        await bench.index(PUMP)
        await bench.push("a", "The crane lifts nine tons.")
        left[0] = 10**6
        # Then pushes and deletions are refused, the same push again is not, and questions are answered
        refused = [await bench.push("b", "The derrick."), await bench.delete("a")]
        assert [(item.status_code, item.json()["reason"]) for item in refused] == [(507, "StoreFull")] * 2
        assert (await bench.push("a", "The crane lifts nine tons.")).status_code == 200
        assert await bench.documents("crane pump") == ["push:app/a", "pump"]
        # When there is space again, then they are taken
        left[0] = 10**9
        assert (await bench.push("b", "The derrick.")).status_code == 200


async def test_no_word_of_a_pushed_document_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await bench.push("a", "xylophone passage")
        invalid = await bench.push("a\n", "xylophone passage", title="zebra" * 100)
    assert invalid.status_code == 422
    assert "xylophone" not in invalid.text + caplog.text
    assert "zebra" not in invalid.text + caplog.text
