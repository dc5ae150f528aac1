# SPDX-License-Identifier: Apache-2.0
"""Registry credentials of the pods: on their ServiceAccounts, so that no pod template changes with them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from nimblet.plan.assistant import plan_assistant
from nimblet.plan.compactmodel import plan_compactmodel
from nimblet.plan.retrievalindex import plan_retrievalindex
from nimblet.settings import Images, Settings
from tests import assistants, indexes
from tests.builders import NOW, a_model, serving_facts

Children = Sequence[Mapping[str, Any]]
NAMED = Settings(images=Images(pull_secrets=("mirror", "vendor")))


def of_a_model(settings: Settings) -> Children:
    model = a_model()
    return plan_compactmodel(model, serving_facts(model), settings, NOW).children


def of_an_index(settings: Settings) -> Children:
    index = indexes.an_index()
    return plan_retrievalindex(index, indexes.running_facts(index), settings, NOW).children


def of_an_assistant(settings: Settings) -> Children:
    assistant = assistants.an_assistant()
    return plan_assistant(assistant, assistants.serving(assistant), settings, NOW).children


@pytest.mark.parametrize("children", [of_a_model, of_an_index, of_an_assistant])
def test_each_service_account_names_them_and_nothing_else_changes(children: Any) -> None:
    found, plain = children(NAMED), children(Settings())
    accounts = [child for child in found if child["kind"] == "ServiceAccount"]
    assert accounts
    for account in accounts:
        assert account.pop("imagePullSecrets") == [{"name": "mirror"}, {"name": "vendor"}]
    assert found == plain
