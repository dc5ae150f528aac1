# SPDX-License-Identifier: Apache-2.0
"""A question's way through the gateway's pure parts, with retriever and model as functions. No measure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nimblet_gateway.grounding.answer import Statement, plan_answer, plan_statement
from nimblet_gateway.grounding.passage import Passage
from nimblet_gateway.grounding.prompt import Budget, Prompt, Role, Turn, plan_prompt
from nimblet_relevance.relevance import OperatingPoint, judge_relevance, order_passages
from tests.bench.grounded.stack import CHAT_CONTEXT

ANSWER_TOKENS = 40
BYTES_PER_TOKEN = 2
"""No tokenizer of those measured has fewer bytes a token on average: an estimate that is never too low here."""

Ask = Callable[[Sequence[Turn]], str]
"""Sends messages to the model and returns its reply."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the gateway would say; empty if refused. `passages` are those shown, `reply` is the model's own."""

    statements: tuple[Statement, ...]
    passages: tuple[Passage, ...]
    reply: str

    @property
    def refused(self) -> bool:
        """Tell whether nothing is said."""
        return not self.statements

    @property
    def text(self) -> str:
        """What the user reads first."""
        return self.statements[0].text if self.statements else ""

    @property
    def quote(self) -> str:
        """What it is cited from."""
        if not self.statements:
            return ""
        first = self.statements[0]
        return first.quote.of(self.passages[first.passage_index].text)


def respond(question: str, found: Sequence[Passage], *, ask: Ask | None) -> Answer:
    """Answer or refuse as grounding Required does with a small model; without one by extraction alone."""
    ordered = [found[index] for index in order_passages(question, found)]
    if not judge_relevance(question, ordered, OperatingPoint()).answerable:
        return Answer(statements=(), passages=(), reply="")
    prompt = asked(question, ordered)
    shown = tuple(ordered[index] for index in prompt.shown)
    if ask is None:
        extract = plan_statement(question, shown)
        return Answer(statements=() if extract is None else (extract,), passages=shown, reply="")
    reply = ask(prompt.messages)
    return Answer(statements=plan_answer(reply, shown, question, agreeing=True), passages=shown, reply=reply)


def asked(question: str, passages: Sequence[Passage]) -> Prompt:
    """Return the prompt for one question without a history."""
    budget = Budget(tokens=CHAT_CONTEXT - ANSWER_TOKENS, count=lambda text: len(text.encode()) // BYTES_PER_TOKEN)
    return plan_prompt([Turn(role=Role.USER, text=question)], passages, budget)
