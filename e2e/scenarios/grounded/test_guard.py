# SPDX-License-Identifier: Apache-2.0
"""A guard on real pods: a small classifier lets a question and its answer pass, or blocks one of the two.

Its labels are sport, money and weather (e2e/minilm.py): no guard model of a real use could be had here.
"""

import pytest

from e2e.support.answers import ASSISTANT, Answers
from e2e.support.desk import HELPDESK, Desk
from e2e.support.manifests import CLASSIFY_URI, model_manifest

pytestmark = pytest.mark.timeout(600, func_only=True)

GUARD = "guard"
ABOUT_MONEY = "halvarra library max late fee"
ANSWERED_WITH_MONEY = "Fine for riding without a ticket when I own up first?"
HARMLESS = "How long does the sea clothes wash run on the WM-7?"


def test_a_guard_screens_questions_and_answers(desk: Desk, answers: Answers) -> None:
    kube, namespace = desk.kube, desk.namespace
    asked = (ABOUT_MONEY, ANSWERED_WITH_MONEY, HARMLESS)
    # Given an assistant that answers all three
    before = {question: answers.ask(question).refusal for question in asked}
    assert set(before.values()) == {None}, before
    # When a guard blocks what is of money
    runtime = {"contextLength": 512, "parallel": 1}
    kube.apply(model_manifest(GUARD, namespace, uri=CLASSIFY_URI, task="Classify", runtime=runtime))
    guard = {"name": GUARD, "blocked": ["money"], "thresholdPercent": 35}
    kube.patch(ASSISTANT, HELPDESK, namespace, merge={"spec": {"guardRef": guard}})
    desk.settled()
    heard = {question: answers.ask(question) for question in asked}
    # Then a question is refused, an answer is, and what is harmless leaves as before
    assert {question: answer.refusal for question, answer in heard.items()} == {
        ABOUT_MONEY: "BlockedQuestion",
        ANSWERED_WITH_MONEY: "BlockedAnswer",
        HARMLESS: None,
    }
    assert all(not heard[question].citations for question in (ABOUT_MONEY, ANSWERED_WITH_MONEY))
    assert "crowns" not in heard[ANSWERED_WITH_MONEY].text
    # When the guard goes, nothing is answered until it is no longer asked for
    kube.patch("compactmodel", GUARD, namespace, merge={"spec": {"suspend": True}})
    desk.assistant(Serving="False", Ready="ModelNotServing")
    kube.patch(ASSISTANT, HELPDESK, namespace, merge={"spec": {"guardRef": None}})
    desk.settled()
    assert answers.ask(ABOUT_MONEY).refusal is None
    kube.run("delete", "compactmodel", GUARD, f"--namespace={namespace}", "--wait=false")
