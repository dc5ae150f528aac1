# SPDX-License-Identifier: Apache-2.0
"""How a generation's collection is laid out on a Qdrant server: parts, copies, memory, compression. Pure.

Settings out of a shape; nothing newer than Qdrant 1.18 (1.19 says `memory` where these say `on_disk`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qdrant_client import models

from nimblet_retriever.config import CollectionConfig
from nimblet_retriever.store.payload import DENSE, LEXICAL

QUANTILE: Final = 0.99
"""Share of the numbers that int8 spans: outliers would cost all others precision (Qdrant's recommendation)."""
OVERSAMPLING: Final = 3.0
"""One bit a number ranks coarsely: so many times more candidates are scored again with the whole vectors."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The settings of one collection, as the client takes them. None leaves it to the server."""

    vectors: Mapping[str, models.VectorParams]
    sparse: Mapping[str, models.SparseVectorParams]
    shards: int | None
    copies: int | None
    confirmed: int | None
    quantization: models.QuantizationConfig | None


def layout(config: CollectionConfig | None, *, dimension: int) -> Layout:
    """Return the settings of a collection; without a configuration all but the vectors is the server's."""
    if config is None:
        return Layout(
            vectors={DENSE: models.VectorParams(size=dimension, distance=models.Distance.COSINE)},
            sparse={LEXICAL: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            shards=None,
            copies=None,
            confirmed=None,
            quantization=None,
        )
    mapped = config.memory == "OnDisk"
    # the graph is only slow to walk on disk where there is no compressed copy to walk it with
    graph = models.HnswConfigDiff(on_disk=mapped and config.quantization == "None")
    dense = models.VectorParams(size=dimension, distance=models.Distance.COSINE, on_disk=mapped, hnsw_config=graph)
    words = models.SparseVectorParams(modifier=models.Modifier.IDF, index=models.SparseIndexParams(on_disk=mapped))
    return Layout(
        vectors={DENSE: dense},
        sparse={LEXICAL: words},
        shards=config.shards,
        copies=config.replication_factor,
        confirmed=config.write_consistency_factor,
        quantization=_quantization(config),
    )


def search_params(config: CollectionConfig | None) -> models.SearchParams | None:
    """Return how a dense ranking searches; a collection without a compressed copy ignores it."""
    if config is None or config.quantization == "None":
        return None
    oversampling = OVERSAMPLING if config.quantization == "Binary" else None
    rescored = models.QuantizationSearchParams(rescore=True, oversampling=oversampling)
    return models.SearchParams(quantization=rescored)


def _quantization(config: CollectionConfig) -> models.QuantizationConfig | None:
    """Return the compressed copy's settings; it is what is searched, so it stays in memory."""
    if config.quantization == "Scalar":
        scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=QUANTILE, always_ram=True)
        return models.ScalarQuantization(scalar=scalar)
    if config.quantization == "Binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    return None
