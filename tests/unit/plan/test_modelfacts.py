# SPDX-License-Identifier: Apache-2.0
"""References to a CompactModel: what is wrong with one, and what only needs time."""

import pytest

from nimblet.plan.modelfacts import ModelReference, not_serving, reference_flaw
from nimblet.plan.stage import Problem, Progress

SERVING = ModelReference(name="smollm2", found=True, serving=True, reason="Answering", task="Chat")


def test_a_model_that_is_not_there_or_made_for_other_work_is_a_flaw() -> None:
    gone = reference_flaw(
        ModelReference(name="nano", found=False), field="modelRef", tasks=("Chat",), namespace="team"
    )
    other = reference_flaw(SERVING, field="embedding.modelRef", tasks=("Embedding",), namespace="team")
    assert gone is not None
    assert gone.reason == "ModelMissing"
    assert "nano, named in modelRef, is not in namespace team. Create" in gone.message
    assert other is not None
    assert other.reason == "ModelTaskDiffers"
    assert "has the task Chat, but embedding.modelRef needs one of Embedding." in other.message
    assert reference_flaw(SERVING, field="modelRef", tasks=("Chat", "Classify"), namespace="team") is None


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("", Progress),
        ("Starting", Progress),
        ("Downloading", Progress),
        ("Suspended", Problem),
        ("ScaledToZero", Problem),
        ("OOMKilled", Problem),
    ],
)
def test_a_model_that_starts_needs_nobody_and_any_other_that_does_not_serve_does(
    reason: str, expected: type[Problem | Progress]
) -> None:
    model = ModelReference(name="nano", found=True, task="Chat", reason=reason, message="It says why.")
    found = not_serving(model, field="modelRef")
    assert isinstance(found, expected)
    assert found.reason == "ModelNotServing"
    assert "CompactModel nano, named in modelRef, is not Serving" in found.message
    assert not_serving(SERVING, field="modelRef") is None
