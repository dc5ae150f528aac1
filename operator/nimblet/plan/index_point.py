# SPDX-License-Identifier: Apache-2.0
"""What the status says of an index's operating point: the serving generation's, as the retriever told it. Pure.

It decides nothing: the retriever calibrates, and tells the gateway with every answer.
"""

from typing import Final

from nimblet.api.indexstatus import OperatingPointStatus
from nimblet.plan.indexfacts import GenerationFacts, PointFacts

CALIBRATED: Final = "Calibrated"
NO_GOLDEN_QUESTIONS: Final = "NoGoldenQuestions"
TOO_FEW_QUESTIONS: Final = "TooFewQuestions"
DIGITS: Final = 4


def operating_point(serving: GenerationFacts) -> OperatingPointStatus:
    """Return from which score on is answered from the serving generation, and what that rests on."""
    point = serving.point
    if point is None:
        return OperatingPointStatus(
            generation=serving.name,
            basis=NO_GOLDEN_QUESTIONS,
            message="The default threshold stays: no golden question calibrated this generation. Name some in "
            "spec.qualityGate.goldenRef and have a generation built.",
        )
    return OperatingPointStatus(
        generation=serving.name,
        basis=point.basis,
        threshold=round(point.threshold, DIGITS) if point.basis == CALIBRATED else None,
        asked=point.asked,
        answered=round(point.answered, DIGITS),
        refused=round(point.refused, DIGITS),
        message=_words(point),
    )


def _words(point: PointFacts) -> str:
    if point.basis == CALIBRATED:
        return (
            f"Of {point.asked} golden questions {point.answered:.0%} are answered, and {point.refused:.0%} are "
            "refused where their own documents are left out."
        )
    if point.basis == TOO_FEW_QUESTIONS:
        return (
            f"The default threshold stays: of {point.asked} golden questions too few find anything once their own "
            "documents are left out. Give at least 20, over several documents."
        )
    return (
        "The default threshold stays: golden questions score as high without their documents as with them. See "
        "whether several documents hold the same answers, or whether the embedding model fits the language."
    )
