# SPDX-License-Identifier: Apache-2.0
"""Which format of weights is taken where a source holds both, and which server loads which. Pure; the one place.

The resolver's request, the refusal before any pod and the choice of a runtime read it here.
"""

from collections.abc import Mapping
from typing import Final

from nimblet.api.compactmodel import CompactModelSpec
from nimblet.conditions import Reason
from nimblet.hardware import CPU_CLASSES, HardwareProfile
from nimblet.plan.artifact import Artifact, Format
from nimblet.plan.stage import Problem, problem

LOADS: Final[Mapping[str, frozenset[Format]]] = {
    "LlamaCpp": frozenset({"GGUF"}),
    "VLLM": frozenset({"Safetensors"}),
    "TGI": frozenset({"Safetensors"}),
}
"""What each runtime loads. vLLM's GGUF is an experimental plugin outside of it, TGI's llama.cpp has no image."""


def preferred_format(spec: CompactModelSpec, profiles: Mapping[str, HardwareProfile]) -> Format:
    """Return the format to take where a source holds both.

    A quantization names a GGUF file. A named runtime takes what it loads. With Auto the class decides: GGUF for
    CPUs and for `auto`, which is decided only after the size is known; safetensors where a device is asked for.
    A profile that is none of `profiles` is refused elsewhere.
    """
    if spec.source.quantization is not None:
        return "GGUF"
    loaded = LOADS.get(spec.runtime.name)
    if loaded is not None:
        return min(loaded)
    profile = profiles.get(spec.hardware.profile)
    return "Safetensors" if profile is not None and profile.class_ not in CPU_CLASSES else "GGUF"


def format_problem(runtime: str, artifact: Artifact) -> Problem | None:
    """Return why this runtime can't load the artifact, or None."""
    loaded = LOADS[runtime]
    if artifact.format in loaded:
        return None
    others = sorted(name for name, formats in LOADS.items() if artifact.format in formats)
    verb = "loads" if len(others) == 1 else "load"
    message = (
        f"The model is in {artifact.format}, and {runtime} loads {min(loaded)} alone; "
        f"{' and '.join(others)} {verb} {artifact.format}."
    )
    return problem(Reason.FORMAT_MISMATCH, message)
