# SPDX-License-Identifier: Apache-2.0
"""The objects that scenarios apply: namespaces, CompactModels over the mirror's real files. Pure."""

from typing import Final

from e2e.mirror.demo import SPLIT_REPO
from e2e.models import GEMMA3_270M, MINILM, MINILM_CLASSIFY, MINILM_RERANK, SMOLLM2
from nimblet.labels import API_VERSION

Manifest = dict[str, object]

SMOLLM2_URI: Final = f"hf://{SMOLLM2.repo}"
GEMMA_URI: Final = f"hf://{GEMMA3_270M.repo}"
MINILM_URI: Final = f"hf://{MINILM.repo}"
RERANK_URI: Final = f"hf://{MINILM_RERANK.repo}"
CLASSIFY_URI: Final = f"hf://{MINILM_CLASSIFY.repo}"
SPLIT_URI: Final = f"hf://{SPLIT_REPO}"


def namespace_manifest(name: str) -> Manifest:
    """Return a namespace that admits restricted pods only."""
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def model_manifest(
    name: str, namespace: str, *, uri: str = SMOLLM2_URI, source: Manifest | None = None, **spec: object
) -> Manifest:
    """Return a CompactModel with 1024 tokens of context and one slot, so that a small node holds several."""
    runtime: Manifest = {"contextLength": 1024, "parallel": 1}
    return {
        "apiVersion": API_VERSION,
        "kind": "CompactModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": {"uri": uri, **(source or {})}, "runtime": runtime, **spec},
    }


def autoscaler_manifest(model: str, namespace: str, *, smallest: int, largest: int) -> Manifest:
    """Return an HPA over the model's /scale; without a metrics server it still keeps `minReplicas`."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": model, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": API_VERSION, "kind": "CompactModel", "name": model},
            "minReplicas": smallest,
            "maxReplicas": largest,
        },
    }
