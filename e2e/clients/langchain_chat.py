# SPDX-License-Identifier: Apache-2.0
"""langchain-openai: one answer in one piece, and one streamed."""

import json
import sys

from langchain_openai import ChatOpenAI


def main(model: str, question: str) -> None:
    """Ask twice and print what came."""
    chat = ChatOpenAI(model=model, temperature=0, max_retries=0, max_completion_tokens=60)
    whole = chat.invoke(question)
    parts = [str(chunk.text) for chunk in chat.stream(question)]
    usage = whole.usage_metadata or {"output_tokens": 0}
    print(
        json.dumps(
            {
                "text": str(whole.text),
                "streamed": "".join(parts),
                "tokens": usage["output_tokens"],
                "kept": sorted({*whole.additional_kwargs, *whole.response_metadata}),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
