# SPDX-License-Identifier: Apache-2.0
"""The ways to run confidentially: RuntimeClasses, node labels and devices of each technology. Data only.

Names are those of Node Feature Discovery, kata-deploy 4.1 and the NVIDIA GPU operator 26.7 (RuntimeClasses
template of kata-deploy; features of NFD; confidential containers of NVIDIA).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nimblet.api.teepolicy import Technology

_TDX: Final = {"feature.node.kubernetes.io/cpu-security.tdx.enabled": "true"}
_SNP: Final = {"feature.node.kubernetes.io/cpu-security.sev.snp.enabled": "true"}
_SGX: Final = {"feature.node.kubernetes.io/cpu-security.sgx.enabled": "true"}
_GPU: Final = {"nvidia.com/cc.ready.state": "true"}
GPU_RESOURCE: Final = "nvidia.com/pgpu"
"""Confidential GPUs are passed through whole: such nodes offer no nvidia.com/gpu."""
EPC_RESOURCE: Final = "sgx.intel.com/epc"


@dataclass(frozen=True, kw_only=True)
class Place:
    """One way to run confidentially. A technology has several where host and device go together."""

    technology: Technology
    runtime_class: str
    node_labels: Mapping[str, str]
    server_class: str = ""
    """RuntimeClass of the model server, where a device needs another."""
    device: str = ""
    memory_resource: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return all RuntimeClasses that its pods have, the model server's first."""
        return (self.server_class, self.runtime_class) if self.server_class else (self.runtime_class,)


PLACES: Final[Mapping[Technology, tuple[Place, ...]]] = {
    "TDX": (Place(technology="TDX", runtime_class="kata-qemu-tdx", node_labels=_TDX),),
    "SNP": (Place(technology="SNP", runtime_class="kata-qemu-snp", node_labels=_SNP),),
    "SGX": (Place(technology="SGX", runtime_class="", node_labels=_SGX, memory_resource=EPC_RESOURCE),),
    "NVIDIA-CC": (
        Place(
            technology="NVIDIA-CC",
            runtime_class="kata-qemu-tdx",
            server_class="kata-qemu-nvidia-gpu-tdx",
            node_labels={**_GPU, **_TDX},
            device=GPU_RESOURCE,
        ),
        Place(
            technology="NVIDIA-CC",
            runtime_class="kata-qemu-snp",
            server_class="kata-qemu-nvidia-gpu-snp",
            node_labels={**_GPU, **_SNP},
            device=GPU_RESOURCE,
        ),
    ),
}
"""The key of a TDX or SNP guest is asked for by the RuntimeClass's overhead, and so by no container."""
