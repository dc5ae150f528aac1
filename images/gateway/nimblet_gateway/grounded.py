# SPDX-License-Identifier: Apache-2.0
"""Joins the pure grounding package to requests and streams: which prompts there are, and what a sentence may do. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from nimblet_gateway.chat import Message
from nimblet_gateway.config import Grounding
from nimblet_gateway.events import Text
from nimblet_gateway.grounding.text import clean
from nimblet_gateway.passage import Passage


@dataclass(frozen=True, kw_only=True)
class Prompted:
    """A prompt and the passages in it."""

    messages: tuple[dict[str, JsonValue], ...]
    shown: tuple[Passage, ...]


def is_answerable(asked: Sequence[str], passages: Sequence[Passage]) -> bool:
    return bool(asked and passages)


def prompts(
    messages: Sequence[Message], passages: Sequence[Passage], *, system: str, grounding: Grounding
) -> list[Prompted]:
    return [
        Prompted(
            messages=tuple({"role": m.role, "content": clean(m.text)} for m in messages), shown=tuple(passages)
        )
    ]


@dataclass(kw_only=True)
class Checker:
    passages: Sequence[Passage]
    question: str
    keeps_unsupported: bool
    supported: int = 0
    unsupported: int = 0

    def feed(self, text: str) -> Iterator[Text]:
        if text:
            yield Text(text=text)

    def finish(self, *, is_complete: bool) -> Iterator[Text]:
        return iter(())
