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
from nimblet_retriever.store.payload import Payload, payload_of

HEADER: Final = struct.Struct(">I")
"""Length of the JSON that follows, in bytes."""


class Point(StoredModel):
    """A chunk on its way to the engine: id, stored form, and its vector as base64 of float32."""

    id: str
    payload: Payload
    vector: str


class AddRequest(StoredModel):
    """Keep these points durably."""

    do: Literal["add"] = "add"
    points: tuple[Point, ...]


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


def point_of(chunk: Chunk) -> Point:
    """Return a chunk as it is sent."""
    return Point(id=chunk.id, payload=payload_of(chunk), vector=pack_vector(chunk.vector))
