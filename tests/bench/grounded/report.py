# SPDX-License-Identifier: Apache-2.0
"""The tables of grounded answers: what was right, refused, quoted, and what controls reach. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from e2e.data.controls import ANSWER_WORDS, always_answer, cosine_only, paste_top
from e2e.data.controls import Passage as ControlPassage
from e2e.data.corpus import is_right
from e2e.data.records import OutOfScopeKind, Question
from nimblet_gateway.grounding.citation import QUOTE_WORDS
from nimblet_gateway.grounding.passage import Passage
from nimblet_gateway.grounding.sentence import take_sentences
from nimblet_gateway.grounding.support import judge_sentence
from nimblet_relevance.relevance import order_passages
from tests.bench.grounded.asked import Asked, Class
from tests.bench.grounded.claims import claims, holds
from tests.bench.grounded.figures import Share, share, table
from tests.bench.grounded.pipeline import Answer

COSINE = 0.5
"""Of the control that refuses by likeness alone: chosen on dev to refuse 95 % of what is out of scope, near misses
apart."""
RECALL_AT = 5
SHOWN = 3

Pair = tuple[Asked, Answer]


@dataclass(frozen=True, kw_only=True)
class Results:
    """Answers in the order of what was asked; `closed` are replies without passages, by question."""

    asked: tuple[Asked, ...]
    answers: tuple[Answer, ...]
    extracted: tuple[Answer, ...]
    closed: Mapping[str, str]

    def of(self, cls: Class, *, extracted: bool = False) -> list[Pair]:
        """Return what was asked for one reason, with its answers."""
        answers = self.extracted if extracted else self.answers
        return [pair for pair in zip(self.asked, answers, strict=True) if pair[0].cls is cls]


def report(results: Results) -> str:
    """Return all tables."""
    answerable = results.of(Class.ANSWERABLE)
    parts = {
        "retrieval": list(_retrieval(answerable)),
        "answers": list(_answers(results)),
        "refusals": list(_refusals(results)),
        "controls": list(_controls(results)),
        "sentence checker": list(_checker(answerable)),
    }
    return "\n\n".join(f"{title}\n\n{table(rows)}" for title, rows in parts.items())


def _label(item: Asked) -> Question:
    if item.label is None:
        raise ValueError(f"{item.id}: expected a question with an answer")
    return item.label


def _retrieval(pairs: Sequence[Pair]) -> Iterator[Share]:
    for depth in (1, SHOWN, RECALL_AT):
        aim = 0.95 if depth == RECALL_AT else None
        yield share(f"recall@{depth}, as retrieved", (_found(i, i.found[:depth]) for i, _ in pairs))
        yield share(f"recall@{depth}, as ordered", (_found(i, ordered(i)[:depth]) for i, _ in pairs), aim=aim)


def ordered(item: Asked) -> list[Passage]:
    """Return the passages in the gateway's order."""
    return [item.found[index] for index in order_passages(item.question, item.found)]


def _found(item: Asked, passages: Sequence[Passage]) -> bool:
    return any(holds(passage, _label(item)) for passage in passages)


def short_and_right(text: str, question: Question) -> bool:
    """Tell whether an answer is right and short."""
    return len(text.split()) <= ANSWER_WORDS and is_right(text, question)


def right_with_quote(answer: Answer, question: Question) -> bool:
    """Tell whether a short answer or its one quote states the answer."""
    quoted = len(answer.quote.split()) <= QUOTE_WORDS and is_right(answer.quote, question)
    return short_and_right(answer.text, question) or quoted


def _answers(results: Results) -> Iterator[Share]:
    pairs = results.of(Class.ANSWERABLE)
    yield share("short answer right", (short_and_right(a.text, _label(i)) for i, a in pairs), aim=0.55)
    yield share("right with one quote", (right_with_quote(a, _label(i)) for i, a in pairs), aim=0.70)
    given = [(item, answer) for item, answer in pairs if not answer.refused]
    yield share("given answers right (precision)", (is_right(a.text, _label(i)) for i, a in given))
    yield share("given answers right with their quote", (right_with_quote(a, _label(i)) for i, a in given))
    yield share("given answers in the model's own words", (not a.statements[0].extracted for _, a in given))
    own = [(item, answer) for item, answer in given if not answer.statements[0].extracted]
    yield share("of these right", (is_right(a.text, _label(i)) for i, a in own))
    every = [answer for answer in results.answers if not answer.refused]
    yield share("spans exact", (_exact(answer) for answer in every), aim=1.0)
    changed = results.of(Class.SWAPPED)
    yield share("changed fact: short answer follows", (short_and_right(a.text, _label(i)) for i, a in changed))
    yield share("changed fact: with one quote", (right_with_quote(a, _label(i)) for i, a in changed))
    yield share("changed fact: old answer given", (_is_old(i, a) for i, a in changed))


def _exact(answer: Answer) -> bool:
    return all(
        0 <= statement.quote.start < statement.quote.end <= len(answer.passages[statement.passage_index].text)
        for statement in answer.statements
    )


def _is_old(item: Asked, answer: Answer) -> bool:
    return is_right(answer.text, _label(item).model_copy(update={"answer": _label(item).swap, "accepted": ()}))


def _refusals(results: Results) -> Iterator[Share]:
    outside = results.of(Class.OUT_OF_SCOPE)
    yield share("out of scope refused", (a.refused for _, a in outside), aim=0.95)
    for kind in OutOfScopeKind:
        yield share(f"out of scope refused: {kind}", (a.refused for i, a in outside if i.kind is kind))
    known = [(i, a) for i, a in outside if i.kind is not OutOfScopeKind.NEAR_MISS]
    yield share("out of scope refused, near misses apart", (a.refused for _, a in known), aim=0.95)
    found = [(i, a) for i, a in results.of(Class.ANSWERABLE) if _found(i, ordered(i)[:RECALL_AT])]
    yield share("passage retrieved: answered", (not a.refused for _, a in found), aim=0.85)
    yield share("evidence deleted: refused", (a.refused for _, a in results.of(Class.DELETED)))


def _controls(results: Results) -> Iterator[Share]:
    pairs = results.of(Class.ANSWERABLE)
    outside = results.of(Class.OUT_OF_SCOPE)
    closed = [(item, results.closed[item.id]) for item, _ in pairs if item.id in results.closed]
    yield share("closed book: short answer right", (short_and_right(_first(t), _label(i)) for i, t in closed))
    yield share("always refuse: out of scope refused", (True for _ in outside))
    yield share("always refuse: short answer right", (False for _ in pairs))
    yield share(
        "always answer: short answer right",
        (short_and_right(always_answer(_control(i.found)).text, _label(i)) for i, _ in pairs),
    )
    yield share("always answer: out of scope refused", (False for _ in outside))
    yield share(
        f"cosine {COSINE} only: out of scope refused",
        (cosine_only(_control(i.found), threshold=COSINE).refused for i, _ in outside),
    )
    yield share(
        f"cosine {COSINE} only: answerable answered",
        (not cosine_only(_control(i.found), threshold=COSINE).refused for i, _ in pairs),
    )
    yield share(
        "paste top 3: the answer occurs",
        (is_right(paste_top(_control(i.found)).text, _label(i)) for i, _ in pairs),
    )
    yield share(
        "shuffled top 3: the answer occurs",
        (
            is_right(paste_top(_control(pairs[(place + len(pairs) // 2) % len(pairs)][0].found)).text, _label(i))
            for place, (i, _) in enumerate(pairs)
        ),
    )
    plain = results.of(Class.ANSWERABLE, extracted=True)
    yield share("without a model: short answer right", (short_and_right(a.text, _label(i)) for i, a in plain))
    yield share("without a model: right with one quote", (right_with_quote(a, _label(i)) for i, a in plain))


def _first(reply: str) -> str:
    sentences = take_sentences(reply, ended=True).sentences
    return sentences[0] if sentences else ""


def _control(passages: Sequence[Passage]) -> list[ControlPassage]:
    return [
        ControlPassage(document=passage.id, text=passage.text, cosine=passage.similarity or 0.0)
        for passage in passages
    ]


def _checker(pairs: Sequence[Pair]) -> Iterator[Share]:
    made = list(claims([item for item, _ in pairs], [tuple(ordered(item)[:SHOWN]) for item, _ in pairs]))
    judged = [(c, judge_sentence(c.sentence, c.passages, c.question).supported) for c in made]
    yield share("made claims: precision", (claim.supported for claim, passed in judged if passed))
    yield share("made claims: recall", (passed for claim, passed in judged if claim.supported))
    for kind in sorted({claim.kind for claim in made}):
        yield share(f"passed: {kind}", (passed for claim, passed in judged if claim.kind == kind))
    said = [(i, a, _first(a.reply)) for i, a in pairs if a.reply]
    checked = [(is_right(t, _label(i)), judge_sentence(t, a.passages, i.question).supported) for i, a, t in said]
    yield share("model's first sentence: right unchecked", (right for right, _ in checked))
    yield share("model's first sentence: right of passed", (right for right, passed in checked if passed))
    yield share("model's first sentence: passed of right", (passed for right, passed in checked if right))
