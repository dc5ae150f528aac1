# SPDX-License-Identifier: Apache-2.0
"""Asking a retriever's /mcp by the protocol's own client library: what a user's program does, and nothing else."""

import asyncio
from collections.abc import Mapping

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from e2e.support.answers import Found, Searching, bearer
from e2e.support.asking import TIMEOUT_SECONDS


def call_search(search: Searching, arguments: Mapping[str, object]) -> tuple[list[str], Found]:
    """Return the names of the tools, and what the tool `search` found."""
    return asyncio.run(_call(search, dict(arguments)))


async def _call(search: Searching, arguments: dict[str, object]) -> tuple[list[str], Found]:
    async with (
        httpx2.AsyncClient(headers=bearer(search.key), timeout=TIMEOUT_SECONDS) as http,
        Client(streamable_http_client(f"{search.url}/mcp", http_client=http)) as client,
    ):
        tools = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("search", arguments)
    if result.is_error:
        raise ValueError(f"expected the tool to answer, found {result.content}")
    return tools, Found.model_validate(result.structured_content)
