# SPDX-License-Identifier: Apache-2.0
"""How the retriever and its builder process talk: frames of JSON on pipes, vectors as base64 of float32.

Parsing and printing only. One request, one answer; whoever reads gets None at the end of the pipe.
"""

import base64
import struct
from array import array
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from nimblet_retriever.store.chunk import Chunk
from nimblet_retriever.store.generation import Counts, StoredModel

HEADER: Final = struct.Struct(">I")
"""Length of the JSON that follows, in bytes."""


class WireChunk(StoredModel):
    """A chunk on the wire."""

    document: str
    position: int
    text: str
    source: str
    title: str
    location: str
    reuse_key: str
    labels: dict[str, str]
    access: tuple[str, ...]
    vector: str


class AddRequest(StoredModel):
    """Keep these chunks durably."""

    do: Literal["add"] = "add"
    chunks: tuple[WireChunk, ...]


class VectorsRequest(StoredModel):
    """Tell the vectors of these reuse keys."""

    do: Literal["vectors"] = "vectors"
    reuse_keys: tuple[str, ...]


class SealRequest(StoredModel):
    """Optimize, close and count."""

    do: Literal["seal"] = "seal"


Request = Annotated[AddRequest | VectorsRequest | SealRequest, Field(discriminator="do")]
REQUEST: Final[TypeAdapter[AddRequest | VectorsRequest | SealRequest]] = TypeAdapter(Request)


class Answer(StoredModel):
    """What came of a request; `error` is the engine's words where it failed."""

    error: str = ""
    vectors: dict[str, str] = Field(default_factory=dict)
    counts: Counts | None = None


def frame(message: StoredModel) -> bytes:
    """Return a message with its length before it."""
    body = message.model_dump_json(by_alias=True).encode()
    return HEADER.pack(len(body)) + body


def pack_vector(vector: Sequence[float]) -> str:
    """Return a vector as base64 of little-endian float32, which is what the engine keeps."""
    return base64.b64encode(array("f", vector).tobytes()).decode()


def unpack_vector(text: str) -> Sequence[float]:
    """Return the vector in `text`."""
    return array("f", base64.b64decode(text)).tolist()


def unpack_vectors(packed: Mapping[str, str]) -> dict[str, Sequence[float]]:
    """Return vectors by reuse key."""
    return {key: unpack_vector(text) for key, text in packed.items()}


def wire_of(chunk: Chunk) -> WireChunk:
    """Return a chunk as it is sent."""
    return WireChunk(
        document=chunk.document,
        position=chunk.position,
        text=chunk.text,
        source=chunk.source,
        title=chunk.title,
        location=chunk.location,
        reuse_key=chunk.reuse_key,
        labels=dict(chunk.labels),
        access=chunk.access,
        vector=pack_vector(chunk.vector),
    )


def chunk_of(wire: WireChunk) -> Chunk:
    """Return a chunk as it was sent."""
    return Chunk(
        document=wire.document,
        position=wire.position,
        text=wire.text,
        source=wire.source,
        title=wire.title,
        location=wire.location,
        reuse_key=wire.reuse_key,
        labels=wire.labels,
        access=wire.access,
        vector=unpack_vector(wire.vector),
    )
