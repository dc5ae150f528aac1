# SPDX-License-Identifier: Apache-2.0
"""Joins the pure grounding package to requests and streams: what is asked, what of an answer is read. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from pydantic import JsonValue

from nimblet_gateway.chat import Message
from nimblet_gateway.errors import invalid, too_long
from nimblet_gateway.events import Citation, Mark, Text
from nimblet_gateway.grounding import passage as grounding
from nimblet_gateway.grounding.answer import judge_answer, plan_statement
from nimblet_gateway.grounding.citation import mark, strip_markers
from nimblet_gateway.grounding.prompt import Budget, PromptTooLongError, Role, Turn, plan_prompt
from nimblet_gateway.grounding.sentence import take_sentences
from nimblet_gateway.passage import Passage
from nimblet_relevance.relevance import score_passage
from nimblet_relevance.text import clean, visible

NOTHING_CALIBRATED: Final[Mapping[str, float]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Prompted:
    """A prompt and the passages in it, best first."""

    messages: tuple[dict[str, JsonValue], ...]
    shown: tuple[Passage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Planner:
    """What a prompt is made of. Without passages it is the conversation as it is, text made harmless."""

    messages: Sequence[Message]
    passages: Sequence[Passage]
    most: int
    system: str

    def plan(self, tokens: int, count: Callable[[str], int], *, system_role: bool) -> Prompted:
        """Return the fullest prompt within so many tokens. ApiError where even the barest is longer."""
        if not self.passages:
            return Prompted(messages=tuple(self._conversation(system_role=system_role)))
        budget = Budget(tokens=tokens, count=count, passages=self.most, system_role=system_role)
        seen = [of_grounding(passage) for passage in self.passages]
        try:
            prompt = plan_prompt(self._turns(), seen, budget, style=self._style())
        except PromptTooLongError as error:
            raise too_long("the question does not fit the model's context; ask in fewer words") from error
        messages: list[dict[str, JsonValue]] = [
            {"role": turn.role.value, "content": turn.text} for turn in prompt.messages
        ]
        return Prompted(messages=tuple(messages), shown=tuple(self.passages[number] for number in prompt.shown))

    def _style(self) -> str:
        """Return the assistant's own words, then the client's: style, never what the answer is checked by."""
        told = [clean(item.text) for item in self.messages if item.role in ("system", "developer")]
        return "\n\n".join(text for text in (self.system, *told) if text.strip())

    def _turns(self) -> list[Turn]:
        turns = [
            Turn(role=Role(item.role), text=item.text)
            for item in self.messages
            if item.role in ("user", "assistant")
        ]
        if turns[-1].role is not Role.USER:
            raise invalid("expected the last message to be the user's", param="messages")
        return turns

    def _conversation(self, *, system_role: bool) -> Iterator[dict[str, JsonValue]]:
        style = self._style()
        if style and system_role:
            yield {"role": "system", "content": style}
        for item in self.messages:
            if item.role in ("system", "developer"):
                continue
            message = _message(item)
            if style and not system_role and item.role == "user":
                message["content"], style = f"{style}\n\n{message['content']}", ""
            yield message


def _message(item: Message) -> dict[str, JsonValue]:
    message: dict[str, JsonValue] = {"role": item.role, "content": clean(item.text)}
    if item.tool_calls:
        message["tool_calls"] = [call.model_dump(mode="json") for call in item.tool_calls]
    if item.tool_call_id is not None:
        message["tool_call_id"] = item.tool_call_id
    return message


def relevant(
    asked: Sequence[str],
    passages: Sequence[Passage],
    *,
    threshold: float,
    calibrated: Mapping[str, float] = NOTHING_CALIBRATED,
) -> tuple[Passage, ...]:
    """Return the passages to answer from, best first; none where they are about none of the questions asked.

    A passage is measured by what its index was `calibrated` to, by the name of the index, or else by `threshold`.
    """
    seen = [of_grounding(passage) for passage in passages]
    scores = [max(score_passage(question, passage) for question in asked) for passage in seen]
    points = [calibrated.get(passage.index, threshold) for passage in passages]
    if not any(score >= point for score, point in zip(scores, points, strict=True)):
        return ()
    return tuple(passages[number] for number in sorted(range(len(seen)), key=lambda at: -scores[at]))


def of_grounding(passage: Passage) -> grounding.Passage:
    """Return a passage as the pure package takes it."""
    return grounding.Passage(
        id=passage.id,
        text=passage.text,
        title=passage.title,
        location=passage.location,
        score=passage.score,
        similarity=passage.similarity,
    )


@dataclass(kw_only=True)
class Checker:
    """Checks an answer sentence by sentence while it streams in, and sets the markers: it alone does.

    An unsupported sentence is dropped, or, with `keeps_unsupported`, let through without a marker. `agreeing`: the
    first that leaves must agree with the passages' own best sentence.
    """

    passages: Sequence[Passage]
    question: str
    keeps_unsupported: bool
    agreeing: bool = False
    citations: list[Citation] = field(default_factory=list)
    """Citation `[n]` is the one at n - 1: one for each quote."""
    supported: int = 0
    unsupported: int = 0
    _seen: list[grounding.Passage] = field(init=False)
    _rest: str = ""
    _length: int = 0

    def __post_init__(self) -> None:
        self._seen = [of_grounding(passage) for passage in self.passages]

    def feed(self, text: str, *, ended: bool = False) -> Iterator[Text]:
        """Take what streamed in; return what may be read by now: all of it, judged, once it has `ended`."""
        taken = take_sentences(self._rest + text, ended=ended)
        self._rest = taken.rest
        for sentence in taken.sentences:
            released = self._judged(strip_markers(visible(sentence)))
            if released is not None:
                self._length += len(released.text)
                yield released

    def _judged(self, sentence: str) -> Text | None:
        if not self._length:
            sentence = sentence.lstrip()
        if not sentence.strip():
            return Text(text=sentence) if self._length else None
        agreeing = self.agreeing and not self.supported
        support = judge_answer(sentence, self._seen, self.question, agreeing=agreeing)
        if not support.supported or support.passage_index is None or support.quote is None:
            self.unsupported += 1
            return Text(text=sentence) if self.keeps_unsupported else None
        self.supported += 1
        return self._marked(sentence, support.passage_index, support.quote)

    def quoted(self) -> Text | None:
        """Return the passages' own best sentence for the question: for when nothing of the model's holds."""
        found = plan_statement(self.question, self._seen)
        if found is None:
            return None
        return self._marked(strip_markers(visible(found.text)), found.passage_index, found.quote)

    def _marked(self, sentence: str, passage: int, quote: grounding.Span) -> Text:
        citation = self._cited(passage, quote)
        marked = mark(sentence, number=citation.number)
        place = Mark(citation=citation, start_index=self._length, end_index=self._length + marked.marker.end)
        return Text(text=marked.text, marks=(place,))

    def _cited(self, number: int, quote: grounding.Span) -> Citation:
        passage = self.passages[number]
        for known in self.citations:
            if (known.id, known.quote_start, known.quote_end) == (passage.id, quote.start, quote.end):
                return known
        citation = Citation(
            number=len(self.citations) + 1,
            id=passage.id,
            index=passage.index,
            document=passage.document,
            chunk=passage.chunk,
            source=passage.source,
            title=passage.title,
            location=passage.location,
            score=passage.score,
            quote=quote.of(passage.text),
            quote_start=quote.start,
            quote_end=quote.end,
        )
        self.citations.append(citation)
        return citation
