# SPDX-License-Identifier: Apache-2.0
"""haystack-ai: one answer in one piece, and one streamed."""

import json
import sys

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, StreamingChunk


def main(model: str, question: str) -> None:
    """Ask twice and print what came."""
    parts: list[str] = []

    def collect(chunk: StreamingChunk) -> None:
        parts.append(chunk.content)

    options = {"max_completion_tokens": 60, "temperature": 0}
    chat = OpenAIChatGenerator(model=model, generation_kwargs=options, max_retries=0)
    asked = [ChatMessage.from_user(question)]
    whole = chat.run(messages=asked)["replies"][0]
    chat.run(messages=asked, streaming_callback=collect)
    print(
        json.dumps(
            {
                "text": whole.text or "",
                "streamed": "".join(parts),
                "tokens": whole.meta["usage"]["completion_tokens"],
                "kept": sorted(whole.meta),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
