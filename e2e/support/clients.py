# SPDX-License-Identifier: Apache-2.0
"""Running the programs of e2e/clients against an endpoint, each in a process of its own. It judges no answer."""

import os
import subprocess
import sys
from typing import Final

from pydantic import BaseModel

from e2e.support.asking import Endpoint

CLIENTS: Final = ("openai_chat", "langchain_chat", "haystack_chat")
CLIENT_SECONDS: Final = 180.0
"""Their imports alone take half a minute on a busy machine."""


class Heard(BaseModel):
    """What a client made of the answers."""

    text: str
    streamed: str
    tokens: int
    kept: list[str]
    """Names of what it keeps besides the text."""


def run_client(name: str, endpoint: Endpoint, question: str) -> Heard:
    """Return what a client heard; CalledProcessError when it fails."""
    argv = [sys.executable, "-m", f"e2e.clients.{name}", endpoint.model, question]
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": f"{endpoint.url}/v1",
        "OPENAI_API_KEY": endpoint.api_key,
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "LANGSMITH_TRACING": "false",
    }
    done = subprocess.run(
        argv, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=CLIENT_SECONDS
    )
    return Heard.model_validate_json(done.stdout.splitlines()[-1])
