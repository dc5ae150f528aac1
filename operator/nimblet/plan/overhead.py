# SPDX-License-Identifier: Apache-2.0
"""What a RuntimeClass costs beside the containers: counted against nodes, told in the status. Pure arithmetic."""

from nimblet.api.compactmodel import SizingStatus
from nimblet.plan.teefacts import RuntimeClassFacts
from nimblet.quantity import bytes_of, human_bytes, mebibytes, millicores, millicores_of


def with_overhead(sizing: SizingStatus, class_: RuntimeClassFacts) -> SizingStatus:
    """Return the size of a whole pod, as the scheduler counts it: container and podFixed."""
    return sizing.model_copy(
        update={
            "memory": mebibytes(bytes_of(sizing.memory) + class_.memory_bytes),
            "cpu": millicores(millicores_of(sizing.cpu) + class_.cpu_millicores),
        }
    )


def tell_overhead(sizing: SizingStatus, class_: RuntimeClassFacts) -> SizingStatus:
    """Return the container's size with what its pod costs beyond it."""
    line = (
        f"overhead: RuntimeClass {class_.name} adds {human_bytes(class_.memory_bytes)} and "
        f"{class_.cpu_millicores}m to each pod"
    )
    return sizing.model_copy(update={"overhead_bytes": class_.memory_bytes, "formula": [*sizing.formula, line]})
