# SPDX-License-Identifier: Apache-2.0
"""The endpoint /mcp, asked by the protocol's own client library."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent

from nimblet_retriever.mcp_endpoint import MAX_BODY_BYTES
from retriever_testing.bench import BOARD, BUILDER, PUMP, READER, SECRET, Bench, keys, running

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An index with a public passage and one for the board."""
    async with running(tmp_path) as made:
        await made.index(PUMP, SECRET)
        yield made


@asynccontextmanager
async def connected(bench: Bench, *, key: str, mode: str = "auto") -> AsyncIterator[Client]:
    """Connect the protocol's client with a key."""
    transport = httpx2.ASGITransport(app=bench.app)
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(transport=transport, headers=headers) as http,
        Client(streamable_http_client("http://retriever/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def documents(result: CallToolResult) -> set[str]:
    """Return the documents that the tool found."""
    return {item["document"] for item in result.structured_content["passages"]}


def text(result: CallToolResult) -> str:
    """Return a result's text."""
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_client_finds_the_tool_and_passages_with_citations(bench: Bench, mode: str) -> None:
    # Given a client of today's protocol, or one of before
    async with connected(bench, key=READER, mode=mode) as client:
        # When it lists tools and searches
        (tool,) = (await client.list_tools()).tools
        result = await client.call_tool("search", {"query": "How many bar has the pump?", "topK": 1})
    # Then there is one tool, and it answers as /v1/retrieve does
    assert (tool.name, tool.input_schema["required"]) == ("search", ["query"])
    assert not result.is_error
    asked = await bench.ask("How many bar has the pump?", topK=1)
    assert result.structured_content == asked.json()
    assert json.loads(text(result)) == asked.json()
    assert result.structured_content["passages"][0]["id"] == "docs/pump/0@g000001"


async def test_key_decides_what_the_tool_finds(bench: Bench) -> None:
    found = []
    for key in (READER, BOARD):
        async with connected(bench, key=key) as client:
            found.append(documents(await client.call_tool("search", {"query": "pump", "topK": 10})))
            found.append(documents(await client.call_tool("search", {"query": "May", "documents": ["plan"]})))
    assert found == [{"pump"}, set(), {"pump", "plan"}, {"plan"}]


@pytest.mark.parametrize("key", [BUILDER, "unknown", ""])
async def test_key_without_the_scope_gets_nothing(bench: Bench, key: str) -> None:
    answer = await bench.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, key=key)
    assert (answer.status_code, answer.json()["reason"]) == (401, "KeyRefused")


async def test_protocols_sdk_is_loaded_for_callers_only() -> None:
    # Given a process that has everything but a caller of the tool
    code = "import sys, nimblet_retriever.__main__; print({'mcp', 'qdrant_client'} & set(sys.modules))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    # Then neither it nor the client of a server that is not used made its start longer
    assert told.decode().strip() == "set()"


async def test_rotated_key_counts_at_once(bench: Bench) -> None:
    # Given a connected client
    async with connected(bench, key=READER) as client:
        assert not (await client.call_tool("search", {"query": "pump"})).is_error
        # When its key is taken away, then the next call gets nothing
        bench.keys.write_text(keys(("reader", "another", ["search"], ["public"])))
        with pytest.raises(MCPError):
            await client.call_tool("search", {"query": "pump"})


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search", {}, "InvalidRequest"),
        ("search", {"query": "zebra", "unknown": "zebra"}, "InvalidRequest"),
        ("search", {"query": "zebra", "topK": "zebra"}, "InvalidRequest"),
        ("erase", {"query": "zebra"}, "ToolUnknown"),
    ],
)
async def test_wrong_call_is_an_error_that_says_why(
    bench: Bench, caplog: pytest.LogCaptureFixture, tool: str, arguments: dict[str, object], said: str
) -> None:
    with caplog.at_level(logging.INFO):
        async with connected(bench, key=READER) as client:
            result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert text(result).startswith(said)
    assert "zebra" not in text(result)
    assert "zebra" not in caplog.text


async def test_calls_are_counted_by_reason(bench: Bench) -> None:
    async with connected(bench, key=READER) as client:
        await client.call_tool("search", {"query": "pump"})
        await client.call_tool("search", {})
    told = (await bench.get("/metrics")).text
    assert 'nimblet_retriever_requests_total{reason="ok",route="/mcp search"} 1.0' in told
    assert 'nimblet_retriever_requests_total{reason="InvalidRequest",route="/mcp search"} 1.0' in told


async def test_request_that_is_too_long_is_refused(bench: Bench) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"x": "a" * MAX_BODY_BYTES}}
    assert (await bench.post("/mcp", body, key=READER)).status_code == 413
