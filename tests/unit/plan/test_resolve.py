# SPDX-License-Identifier: Apache-2.0
"""The source's stage: Jobs, their retries, the Secret, the stored artifact."""

from datetime import timedelta

import pytest

from nimblet import labels
from nimblet.api.common import Condition, ConditionStatus
from nimblet.api.compactmodel import CompactModelStatus
from nimblet.plan.facts import ContainerFailure, FailureKind, ModelFacts, SecretFacts
from nimblet.settings import Fetch, Settings
from tests.builders import (
    API_KEY,
    NOW,
    SMOLLM2_URI,
    a_job,
    a_model,
    a_secret,
    artifact_text,
    base_facts,
    child,
    edited,
    failed_job,
    hash_of,
    kinds,
    plan_of,
    served,
    serving_facts,
    stored,
)
from tests.conditions import message, shown

WITH_SECRET = {"uri": SMOLLM2_URI, "credentialsSecretRef": {"name": "hub"}}


def test_first_pass_makes_a_resolver_job_and_no_deployment() -> None:
    plan = plan_of(a_model(), ModelFacts(api_key=API_KEY))
    assert kinds(plan)[-1] == "Job"
    assert "Deployment" not in kinds(plan)
    assert child(plan.children, "Job")["metadata"]["annotations"][labels.ATTEMPT] == "1"
    assert shown(plan, "Resolved") == ("Unknown", "Resolving")
    assert shown(plan, "Ready") == ("Unknown", "Resolving")
    assert shown(plan, "Reconciling") == ("True", "Resolving")
    assert shown(plan, "Serving") == ("False", "Resolving")
    assert shown(plan, "Stalled") is None


def test_running_job_is_left_alone() -> None:
    model = a_model()
    plan = plan_of(model, ModelFacts(jobs=(a_job(model),)))
    assert "Job" not in kinds(plan)
    assert plan.deletions == ()
    assert shown(plan, "Resolved") == ("Unknown", "Resolving")


def test_job_that_can_not_start_says_why() -> None:
    model = a_model()
    failure = ContainerFailure(kind=FailureKind.IMAGE_PULL, container="resolver", message="not found")
    plan = plan_of(model, ModelFacts(jobs=(a_job(model, failure=failure),)))
    assert shown(plan, "Ready") == ("False", "ImagePullFailed")
    assert shown(plan, "Stalled") == ("True", "ImagePullFailed")


@pytest.mark.parametrize("ended", [{"succeeded": True}, {"exit_code": 0}], ids=["job complete", "pod ended well"])
def test_result_becomes_an_artifact_and_at_once_a_deployment(ended: dict[str, int]) -> None:
    model = a_model()
    plan = plan_of(model, ModelFacts(jobs=(a_job(model, result=artifact_text(), **ended),)))
    assert child(plan.children, "ConfigMap", stored(model).name)["data"]["artifact.json"] == artifact_text()
    assert "Deployment" in kinds(plan)
    assert plan.deletions == ()
    assert shown(plan, "Resolved") == ("True", "Resolved")


def test_words_of_a_resolver_that_failed_are_no_artifact() -> None:
    model = a_model()
    plan = plan_of(model, ModelFacts(jobs=(a_job(model, result=artifact_text(), exit_code=1),)))
    assert "Deployment" not in kinds(plan)


def test_stored_artifact_ends_the_jobs() -> None:
    model = a_model()
    job = a_job(model, succeeded=True, result=artifact_text())
    plan = plan_of(model, base_facts(model, jobs=(job,)))
    assert [(item.kind, item.uid) for item in plan.deletions] == [("Job", job.uid)]


@pytest.mark.parametrize(("attempt", "wait"), [(1, 15), (2, 30), (3, 60), (5, 240), (6, 300), (40, 300)])
def test_failed_job_is_tried_again_with_a_growing_wait(attempt: int, wait: int) -> None:
    model = a_model()
    job = failed_job(model, attempt=attempt, finished_at=NOW)
    early = plan_of(model, ModelFacts(jobs=(job,)))
    assert early.requeue_after == wait
    assert "Job" not in kinds(early)
    late = plan_of(model, ModelFacts(jobs=(job,)), now=NOW + timedelta(seconds=wait))
    assert child(late.children, "Job")["metadata"]["annotations"][labels.ATTEMPT] == str(attempt + 1)
    assert [item.name for item in late.deletions] == [job.name]
    assert shown(late, "Ready") == ("False", "RepositoryNotFound")


def test_failed_job_tells_the_loaders_words_which_name_the_next_step_themselves() -> None:
    model = a_model()
    plan = plan_of(model, ModelFacts(jobs=(failed_job(model),)))
    assert shown(plan, "Resolved") == ("False", "RepositoryNotFound")
    assert message(plan, "Ready") == "The hub said RepositoryNotFound."
    assert shown(plan, "Reconciling") is None


def test_retry_under_way_keeps_the_last_failure_in_view() -> None:
    model = a_model()
    failed = plan_of(model, ModelFacts(jobs=(failed_job(model),)))
    told = model.model_copy(update={"status": failed.status})
    plan = plan_of(told, ModelFacts(jobs=(a_job(model, attempt=2),)))
    assert plan.status.conditions == failed.status.conditions


def test_retry_after_an_edit_starts_with_a_clean_view() -> None:
    model = a_model()
    failed = plan_of(model, ModelFacts(jobs=(failed_job(model),)))
    told = model.model_copy(update={"status": failed.status, "generation": model.generation + 1})
    plan = plan_of(told, ModelFacts(jobs=(a_job(model, attempt=2),)))
    assert shown(plan, "Ready") == ("Unknown", "Resolving")


@pytest.mark.parametrize(
    ("result", "said"),
    [(None, "exit code 20"), ("not JSON", "exit code 20"), ('{"version": 2}', "exit code 20")],
)
def test_job_without_a_readable_report_is_told_by_its_exit_code(result: str | None, said: str) -> None:
    model = a_model()
    plan = plan_of(model, ModelFacts(jobs=(failed_job(model, result=result),)))
    assert shown(plan, "Ready") == ("False", "RepositoryNotFound")
    assert said in message(plan, "Ready")


@pytest.mark.parametrize(("code", "said"), [(3, "exit code 3"), (None, "no result")])
def test_job_that_tells_nothing_at_all_is_a_loader_failure(code: int | None, said: str) -> None:
    model = a_model()
    plan = plan_of(model, ModelFacts(jobs=(failed_job(model, result=None, exit_code=code),)))
    assert shown(plan, "Ready") == ("False", "LoaderFailed")
    assert said in message(plan, "Ready")


def test_reason_of_a_newer_loader_is_a_loader_failure_with_its_words() -> None:
    model = a_model()
    plan = plan_of(model, ModelFacts(jobs=(failed_job(model, "FromTheFuture"),)))
    assert shown(plan, "Ready") == ("False", "LoaderFailed")
    assert "The hub said FromTheFuture." in message(plan, "Ready")


def test_success_without_a_result_is_tried_again() -> None:
    model = a_model()
    plan = plan_of(model, ModelFacts(jobs=(a_job(model, succeeded=True, finished_at=NOW),)))
    assert shown(plan, "Ready") == ("False", "LoaderFailed")
    assert plan.requeue_after == 15


def test_changed_secret_starts_a_new_try_at_once() -> None:
    model = a_model(source=WITH_SECRET)
    job = failed_job(model, "TokenInvalid", credentials_hash="secret-hash-1", finished_at=NOW)
    same = plan_of(model, ModelFacts(jobs=(job,), secret=a_secret()))
    assert "Job" not in kinds(same)
    changed = plan_of(model, ModelFacts(jobs=(job,), secret=a_secret(content_hash="secret-hash-2")))
    made = child(changed.children, "Job")["metadata"]["annotations"]
    assert (made[labels.ATTEMPT], made[labels.CREDENTIALS_HASH]) == ("2", "secret-hash-2")


@pytest.mark.parametrize(
    ("secret", "reason", "said"),
    [
        (None, "SecretMissing", "Secret hub is not in namespace team"),
        (a_secret(usable=False), "SecretNotUsable", "not labelled"),
        (a_secret(keys=("password",)), "SecretNotUsable", "no key `token`"),
        (a_secret(hosts=()), "SecretNotUsable", "names no host"),
    ],
)
def test_secret_that_can_not_be_used_stops_before_any_job(
    secret: SecretFacts | None, reason: str, said: str
) -> None:
    plan = plan_of(a_model(source=WITH_SECRET), ModelFacts(secret=secret))
    assert shown(plan, "Ready") == ("False", reason)
    assert shown(plan, "Stalled") == ("True", reason)
    assert said in message(plan, "Ready")
    assert "Job" not in kinds(plan)


def stalled_since(seconds: float) -> CompactModelStatus:
    """A status that went Stalled some time ago."""
    told = Condition(
        type="Stalled",
        status=ConditionStatus.TRUE,
        reason="SecretMissing",
        message="",
        observed_generation=1,
        last_transition_time=NOW - timedelta(seconds=seconds),
    )
    return CompactModelStatus(conditions=[told], observed_generation=1)


@pytest.mark.parametrize(("stalled", "wait"), [(0, 5), (40, 5), (100, 10), (9000, 30)])
def test_secret_found_wanting_is_read_again_soon_and_then_less_often(stalled: float, wait: float) -> None:
    model = a_model(source=WITH_SECRET, status=stalled_since(stalled))
    assert plan_of(model, ModelFacts(secret=None)).requeue_after == wait
    refused = failed_job(model, "TokenInvalid", credentials_hash="secret-hash-1", finished_at=NOW, attempt=5)
    assert plan_of(model, ModelFacts(jobs=(refused,), secret=a_secret())).requeue_after == wait


def test_failure_that_no_secret_heals_waits_for_its_turn() -> None:
    model = a_model(source=WITH_SECRET)
    stalled = failed_job(model, "DownloadStalled", credentials_hash="secret-hash-1", finished_at=NOW, attempt=5)
    assert plan_of(model, ModelFacts(jobs=(stalled,), secret=a_secret())).requeue_after == 240


def test_usable_secret_is_mounted_by_reference() -> None:
    plan = plan_of(a_model(source=WITH_SECRET), ModelFacts(secret=a_secret()))
    volumes = child(plan.children, "Job")["spec"]["template"]["spec"]["volumes"]
    assert {"secretName": "hub", "items": [{"key": "token", "path": "token"}], "defaultMode": 0o440} in [
        volume.get("secret") for volume in volumes
    ]


def test_bucket_gets_the_keys_of_an_access_key_and_no_others() -> None:
    model = a_model(source={"uri": "s3://models/tiny", "credentialsSecretRef": {"name": "hub"}})
    half = plan_of(model, ModelFacts(secret=a_secret(keys=("accessKeyId", "token"))))
    assert "no key `secretAccessKey`" in message(half, "Ready")
    whole = ("accessKeyId", "secretAccessKey", "token")
    plans = [plan_of(model, ModelFacts(secret=a_secret(keys=keys))) for keys in (whole, (*whole, "sessionToken"))]
    volumes = [child(plan.children, "Job")["spec"]["template"]["spec"]["volumes"] for plan in plans]
    assert volumes[0] == volumes[1], "a session token that comes or goes restarts no pod"
    (sources,) = [volume["projected"]["sources"] for volume in volumes[0] if "projected" in volume]
    mounted = [
        (item["key"], part["secret"].get("optional", False))
        for part in sources
        for item in part["secret"]["items"]
    ]
    assert mounted == [("accessKeyId", False), ("secretAccessKey", False), ("sessionToken", True)]


def test_registry_gets_a_login_and_time_to_read_an_image() -> None:
    model = a_model(source={"uri": "oci://registry.example/m:v1", "credentialsSecretRef": {"name": "hub"}})
    half = plan_of(model, ModelFacts(secret=a_secret(keys=("token", "username"))))
    assert "no key `password`" in message(half, "Ready")
    plan = plan_of(model, ModelFacts(secret=a_secret(keys=("username", "password"))))
    job = child(plan.children, "Job")["spec"]
    assert job["activeDeadlineSeconds"] == 3600
    (secret,) = [item["secret"] for item in job["template"]["spec"]["volumes"] if "secret" in item]
    assert [item["key"] for item in secret["items"]] == ["username", "password"]


def test_another_hub_resolves_no_registry_or_claim_anew() -> None:
    elsewhere = Settings(fetch=Fetch(hf_endpoint="https://mirror.example"))
    for uri in ("oci://registry.example/m:v1", "pvc://weights"):
        model = a_model(source={"uri": uri})
        assert hash_of(model, elsewhere) == hash_of(model)


def test_other_source_gets_a_job_of_its_own_and_ends_the_old_one() -> None:
    before = a_model()
    after = edited(before, source={"uri": "hf://other/model"})
    plan = plan_of(after, ModelFacts(jobs=(failed_job(before),)))
    assert child(plan.children, "Job")["metadata"]["annotations"][labels.ATTEMPT] == "1"
    assert [item.name for item in plan.deletions] == [failed_job(before).name]


def test_unreadable_artifact_is_made_anew() -> None:
    model = a_model()
    damaged = stored(model, "{}")
    plan = plan_of(model, ModelFacts(artifacts=(damaged,)))
    assert [item.uid for item in plan.deletions] == [damaged.uid]
    assert "Job" in kinds(plan)


def test_superseded_artifact_goes_only_when_the_rollout_is_complete() -> None:
    old = a_model()
    new = edited(served(old), source={"uri": "hf://other/model"})
    both = (stored(old), stored(new))
    rolling = plan_of(new, serving_facts(old, artifacts=both))
    assert rolling.deletions == ()
    complete = plan_of(new, serving_facts(new, artifacts=both))
    assert [item.uid for item in complete.deletions] == [stored(old).uid]


def test_superseded_artifact_stays_while_a_pod_still_ends() -> None:
    old = a_model()
    new = edited(served(old), source={"uri": "hf://other/model"})
    facts = serving_facts(new, artifacts=(stored(old), stored(new)))
    ending = serving_facts(old).pods[0]
    pods = (*facts.pods, type(ending)(**{**vars(ending), "terminating": True}))
    plan = plan_of(new, serving_facts(new, artifacts=facts.artifacts, pods=pods))
    assert plan.deletions == ()
