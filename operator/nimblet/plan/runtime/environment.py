# SPDX-License-Identifier: Apache-2.0
"""What the containers of Python servers share: variables and directories of their own. Pure.

They run without root, with a root filesystem that is read-only, and reach no hub: everything that they write goes
to volumes of the pod. No variable here can name code to load.
"""

from collections.abc import Mapping
from typing import Final

from nimblet.manifests.common import Manifest
from nimblet.manifests.deployment import Scratch
from nimblet.manifests.loader import ADAPTERS_DIR, DRAFT_DIR, MODELS_DIR
from nimblet.plan.runtime.interface import LoadedAdapter, Serve

CACHE_DIR: Final = "/cache"
CACHE_LIMIT: Final = "4Gi"
"""Compiled kernels and graphs; the weights are not copied here."""
TMP_LIMIT: Final = "512Mi"
"""Sockets between processes, and what a compiler leaves while it works."""
SHM_LIMIT: Final = "256Mi"
SHM_LIMIT_SHARDED: Final = "1Gi"
"""Shared memory between the processes of one server; those of several devices exchange tensors there."""
COMMON: Final[Mapping[str, str]] = {
    "HOME": CACHE_DIR,
    # torch names its caches by the user, who has no entry in the image's /etc/passwd
    "USER": "nimblet",
    "XDG_CACHE_HOME": CACHE_DIR,
    "HF_HOME": f"{CACHE_DIR}/huggingface",
    "TRITON_CACHE_DIR": f"{CACHE_DIR}/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_DIR}/inductor",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Sources: huggingface_hub's constants.py, torch's _inductor/runtime/cache_dir_utils.py, triton's knobs."""


def variables(own: Mapping[str, str], *, key: str, secret: tuple[str, str]) -> list[Manifest]:
    """Return the variables of a server; the key is a reference, since neither server reads it from a file."""
    name, entry = secret
    reference: Manifest = {"name": key, "valueFrom": {"secretKeyRef": {"name": name, "key": entry}}}
    plain: list[Manifest] = [{"name": item, "value": text} for item, text in sorted({**COMMON, **own}.items())]
    return [*plain, reference]


def models_folder(folder: str) -> str:
    """Return where a model's files are, as an argument or a variable: Kubernetes expands $(NAME) in both."""
    return f"{MODELS_DIR}/{folder}".rstrip("/").replace("$", "$$")


def draft_folder(folder: str) -> str:
    """Return where the files of the drafting model are, as an argument: Kubernetes expands $(NAME) there."""
    return f"{DRAFT_DIR}/{folder}".rstrip("/").replace("$", "$$")


def adapter_folder(adapter: LoadedAdapter) -> str:
    """Return the folder of an adapter's files, as an argument or a variable."""
    folder = adapter.file.rpartition("/")[0]
    return f"{ADAPTERS_DIR}/{adapter.name}/{folder}".rstrip("/").replace("$", "$$")


def directories(server: Serve) -> tuple[Scratch, ...]:
    """Return where a server writes beside /tmp."""
    shm = SHM_LIMIT if server.devices <= 1 else SHM_LIMIT_SHARDED
    return (
        Scratch(name="cache", path=CACHE_DIR, limit=CACHE_LIMIT),
        Scratch(name="shm", path="/dev/shm", limit=shm, in_memory=True),  # noqa: S108 - a volume of the pod's own
    )
