# SPDX-License-Identifier: Apache-2.0
"""Hardware profiles as data: what pods of each kind of hardware ask for. Knows no node, no model and no cluster.

Resources, labels and images are those of Node Feature Discovery 0.19, NVIDIA's device plugin 0.20 and its feature
discovery, Intel's device plugins 0.36, Habana's and AMD's device plugins, and llama.cpp's published server images.
Taints are tolerated whose key is the device's resource, as the admission plugin ExtendedResourceToleration has it.
The administrator's own profiles, and changes of these, come by the settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nimblet.api.hardware import HardwareClass, Sharing
from nimblet.api.scheduling import Toleration

ANY: Final = "*"
"""Ends a resource's name that stands for all that begin so: partitions are named by their size."""
NFD: Final = "feature.node.kubernetes.io"
_LLAMACPP: Final = "ghcr.io/ggml-org/llama.cpp:server-{}-b11434"
_VLLM: Final = "docker.io/vllm/vllm-openai{}:v0.32.0"
_TGI: Final = "ghcr.io/huggingface/text-generation-inference:3.3.7{}"
"""Images of the versions whose flags plan/runtime knows, as upstream tags them for each backend."""


def _images(*, llamacpp: str = "", vllm: str | None = None, tgi: str) -> Mapping[str, str]:
    """Return the images of one kind of device, by the runtime's name."""
    own = {"LlamaCpp": _LLAMACPP.format(llamacpp)} if llamacpp else {}
    return {**own, **({"VLLM": _VLLM.format(vllm)} if vllm is not None else {}), "TGI": _TGI.format(tgi)}


CPU_CLASSES: Final = frozenset({"cpu", "xeon"})
"""Classes without devices."""
SLICED_RESOURCE: Final = "nvidia.com/gpu"
SHARING_LABEL: Final = "nvidia.com/gpu.sharing-strategy"
SHARED_STRATEGIES: Final = ("mps", "time-slicing")
"""What that label says of a node whose SLICED_RESOURCE are slices of time that were not renamed."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """One way in which nodes offer the devices of a profile."""

    resource: str
    sharing: Sharing = "Whole"
    memory_label: str = ""
    """Label with the memory of one device, `{resource}` standing for the resource; empty where none tells it."""

    def matches(self, resource: str) -> bool:
        """Tell whether a node's resource is of this kind."""
        if self.resource.endswith(ANY):
            return resource.startswith(self.resource.removesuffix(ANY))
        return resource == self.resource


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """What pods ask for to run on one kind of hardware."""

    name: str
    class_: HardwareClass
    devices: tuple[Device, ...] = ()
    """Ways to have a device, the best first; none: it runs on the CPU."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that a node must have."""
    preferred_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that make a node better than another."""
    tolerations: tuple[Toleration, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    """Runtime → image. On the CPU classes those of the settings' `images` stand where none is named here."""
    device_memory_bytes: int = 0
    """Memory of one device, where the administrator says it and no label does."""
    supplemental_groups: tuple[int, ...] = ()
    shm_bytes: int = 0
    """Size of /dev/shm, in memory; 0 leaves the container runtime's."""
    hugepages: Mapping[str, int] = field(default_factory=dict)
    """Page size, such as 2Mi → bytes for each device."""
    host_ipc: bool = False
    capabilities: tuple[str, ...] = ()
    runtime_class: str = ""
    whole_cores: bool = False
    """Whole CPUs, and limits equal to requests: what the static CPU manager pins and the memory manager aligns."""
    on_demand: bool = False
    """An autoscaler makes its nodes for pods that wait: that there is none yet refuses nothing."""
    by_auto: bool = True
    """`auto` may choose it."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Return what it asks for beyond restricted Pod Security (and beyond baseline, too)."""
        # Pod Security Standards: host namespaces are refused from baseline on, and so is every added capability
        # but a few that no device asks for; supplemental groups are not restricted
        return (*(["hostIPC"] if self.host_ipc else []), *(f"capability {name}" for name in self.capabilities))


BUILT_IN: Final[Mapping[str, HardwareProfile]] = {
    profile.name: profile
    for profile in (
        HardwareProfile(name="cpu", class_="cpu"),
        HardwareProfile(
            name="xeon",
            class_="xeon",
            labels={f"{NFD}/cpu-cpuid.AVX512F": "true"},
            # llama.cpp takes the code for AMX at run time, from the same image
            preferred_labels={f"{NFD}/cpu-cpuid.AMXINT8": "true", f"{NFD}/cpu-cpuid.AMXBF16": "true"},
            whole_cores=True,
        ),
        HardwareProfile(
            name="nvidia",
            class_="nvidia",
            devices=(
                Device(resource=SLICED_RESOURCE, memory_label="{resource}.memory"),
                Device(resource="nvidia.com/mig-*", sharing="Partition", memory_label="{resource}.memory"),
                Device(resource="nvidia.com/gpu.shared", sharing="Shared", memory_label="nvidia.com/gpu.memory"),
                Device(resource=SLICED_RESOURCE, sharing="Shared", memory_label="{resource}.memory"),
            ),
            # slices keep the taint that the administrator gave whole ones
            tolerations=(Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),),
            images=_images(llamacpp="cuda", vllm="", tgi=""),
        ),
        # llama.cpp has no backend for it; of vLLM's images none but Intel's own, named by driver, runs there
        HardwareProfile(
            name="gaudi",
            class_="gaudi",
            devices=(Device(resource="habana.ai/gaudi"),),
            images=_images(tgi="-gaudi"),
        ),
        HardwareProfile(
            name="intel-gpu",
            class_="intel-gpu",
            devices=(Device(resource="gpu.intel.com/xe"), Device(resource="gpu.intel.com/i915")),
            images=_images(llamacpp="intel", vllm="-xpu", tgi="-intel-xpu"),
        ),
        HardwareProfile(
            name="amd",
            class_="amd",
            devices=(Device(resource="amd.com/gpu", memory_label="{resource}.vram"),),
            images=_images(llamacpp="rocm", vllm="-rocm", tgi="-rocm"),
        ),
    )
}
"""The profiles that need no setting."""
