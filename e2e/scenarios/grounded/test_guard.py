# SPDX-License-Identifier: Apache-2.0
"""A guard on real pods: a small classifier lets a question and its answer pass, or blocks one of the two.

Its labels are sport, money and weather (e2e/minilm.py): no guard model of a real use could be had here.
"""

from collections.abc import Iterator

import pytest

from e2e.support.answers import ASSISTANT, Answers
from e2e.support.desk import HELPDESK, Desk
from e2e.support.manifests import CLASSIFY_URI, Manifest, model_manifest

pytestmark = pytest.mark.timeout(600, func_only=True)

GUARD = "guard"
ABOUT_MONEY = "halvarra library max late fee"
ANSWERED_WITH_MONEY = ("How long is a single tram ticket valid?", "double bass on vellmark tram where allowed")
"""The passages that answer them speak of prices, the questions do not."""
HARMLESS = "How long does the sea clothes wash run on the WM-7?"


@pytest.fixture
def guard(desk: Desk) -> Iterator[Manifest]:
    """A guard model, applied; what refers to it is taken away with it."""
    runtime: Manifest = {"contextLength": 512, "parallel": 1}
    made = model_manifest(GUARD, desk.namespace, uri=CLASSIFY_URI, task="Classify", runtime=runtime)
    desk.kube.apply(made)
    yield {"name": GUARD, "blocked": ["money"], "thresholdPercent": 32}
    desk.kube.patch(ASSISTANT, HELPDESK, desk.namespace, merge={"spec": {"guardRef": None}})
    desk.kube.run("delete", "compactmodel", GUARD, f"--namespace={desk.namespace}", "--wait=false")
    desk.handed_over()


def test_a_guard_screens_questions_and_answers(desk: Desk, answers: Answers, guard: Manifest) -> None:
    kube, namespace = desk.kube, desk.namespace
    # Given an assistant that answers
    before = {question: answers.ask(question) for question in (ABOUT_MONEY, HARMLESS, *ANSWERED_WITH_MONEY)}
    print("\n".join(f"{question} -> {answer.refusal} {answer.text!r}" for question, answer in before.items()))
    assert before[ABOUT_MONEY].refusal is before[HARMLESS].refusal is None
    # which of these it finds passages for is the retrieval's matter
    screened = [question for question in ANSWERED_WITH_MONEY if before[question].refusal is None]
    # When a guard blocks what is of money
    kube.patch(ASSISTANT, HELPDESK, namespace, merge={"spec": {"guardRef": guard}})
    desk.handed_over()
    # Then a question is refused, and what is harmless leaves as before
    assert answers.ask(ABOUT_MONEY).refusal == "BlockedQuestion"
    assert answers.ask(HARMLESS).refusal is None
    # And an answer is refused whose question was none to block; nothing of it leaves
    heard = {question: answers.ask(question) for question in screened}
    refusals = {question: answer.refusal for question, answer in heard.items()}
    assert set(refusals.values()) <= {None, "BlockedAnswer"}, refusals
    assert "BlockedAnswer" in refusals.values(), refusals
    for question, answer in heard.items():
        if answer.refusal is not None:
            assert not answer.citations
            assert before[question].text not in answer.text
    # When the guard goes, nothing is answered until it is no longer asked for
    kube.patch("compactmodel", GUARD, namespace, merge={"spec": {"suspend": True}})
    desk.assistant(Serving="False", Ready="ModelNotServing")
    kube.patch(ASSISTANT, HELPDESK, namespace, merge={"spec": {"guardRef": None}})
    desk.handed_over()
    assert answers.ask(ABOUT_MONEY).refusal is None
