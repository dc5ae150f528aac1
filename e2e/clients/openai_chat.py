# SPDX-License-Identifier: Apache-2.0
"""The openai package: one answer in one piece, and one streamed."""

import json
import sys

import openai


def main(model: str, question: str) -> None:
    """Ask twice and print what came."""
    client = openai.OpenAI(max_retries=0)
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    whole = client.chat.completions.create(model=model, messages=messages, max_tokens=60, temperature=0)
    stream = client.chat.completions.create(
        model=model, messages=messages, max_tokens=60, temperature=0, stream=True
    )
    parts = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    message = whole.choices[0].message
    print(
        json.dumps(
            {
                "text": message.content or "",
                "streamed": "".join(parts),
                "tokens": whole.usage.completion_tokens if whole.usage is not None else 0,
                "kept": sorted({*(whole.model_extra or {}), *(message.model_extra or {})}),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
