# SPDX-License-Identifier: Apache-2.0
"""What a conversation asks for: the questions to retrieve by. Pure."""

from collections.abc import Sequence
from typing import Final

from nimblet_gateway.chat import Message
from nimblet_relevance.text import content

MAX_QUERY: Final = 8000
"""What a retriever takes."""


def questions(messages: Sequence[Message]) -> tuple[str, ...]:
    """Return what to retrieve by: the last turn, and the last two as one where there are two.

    A follow-up such as "And the other one?" names its topic only in the turn before; a change of topic is found by
    the last turn alone. Their rankings are fused.
    """
    turns = [text for item in messages if item.role == "user" and (text := item.text.strip())]
    if not turns:
        return ()
    last = turns[-1][-MAX_QUERY:]
    if len(turns) == 1:
        return (last,)
    return (last, f"{turns[-2]}\n{turns[-1]}"[-MAX_QUERY:])


def compared(asked: Sequence[str]) -> str:
    """Return what sentences are compared with: the last turn, both where it names nothing itself ("When?")."""
    return next((turn for turn in asked if content(turn)), asked[0] if asked else "")
