# SPDX-License-Identifier: Apache-2.0
"""Takes documents that are pushed: whose they are, who may see them, their passages. Knows no HTTP and no files.

A pushed document's id is made here out of the key's and its own, so that no push takes the place of another key's
document or of a source's. A key gives no access label that it has not itself.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Base64Bytes, Field, StringConstraints, model_validator

from nimblet_indexer.document import FileRefused, Parsed
from nimblet_indexer.parse.text import parse_text
from nimblet_indexer.passage import Budget, Passage, plan_passages
from nimblet_retriever.config import ConfigModel, Label, PushConfig
from nimblet_retriever.embedding import Embedder
from nimblet_retriever.errors import AccessRefused, DocumentRefused, DocumentUnknown
from nimblet_retriever.keys import Key
from nimblet_retriever.spaces import CANARY, space_like
from nimblet_retriever.status import PushStatus
from nimblet_retriever.store.chunk import Chunk, StoreError
from nimblet_retriever.store.interface import Store
from nimblet_retriever.store.pushed import PREFIX, Document, Receipt, Space, is_repeated

if TYPE_CHECKING:
    from nimblet_indexer.parse.worker import ParserProcess

SUFFIXES: Final = {
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/html": ".html",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
}
"""What is read, and the file name's end that the parsers know it by."""
PLAIN: Final = "text/plain"
OwnId = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,900}$")]
LabelName = Annotated[str, StringConstraints(pattern=r"^[^=]{1,200}$")]
Version = Annotated[int, Field(ge=0, le=2**53 - 1)]


class PushRequest(ConfigModel):
    """POST /v1/documents: a text, or the bytes of a file and their type."""

    id: OwnId
    version: Version | None = Field(default=None, description="Higher is newer; without one the last push counts.")
    title: Label = ""
    text: Annotated[str, StringConstraints(max_length=20 * 2**20)] | None = None
    content: Base64Bytes | None = None
    content_type: str = PLAIN
    labels: dict[LabelName, Label] = Field(default_factory=dict, max_length=20)
    access: tuple[Label, ...] | None = Field(default=None, max_length=100)

    @model_validator(mode="after")
    def _one_content(self) -> "PushRequest":
        if (self.text is None) == (self.content is None):
            raise ValueError("expected either text or content")
        if self.content_type not in SUFFIXES:
            raise ValueError(f"expected contentType to be one of {', '.join(SUFFIXES)}")
        return self

    @property
    def data(self) -> bytes:
        """What is to be parsed."""
        return self.text.encode() if self.text is not None else self.content or b""


class RemoveRequest(ConfigModel):
    """The parameters of DELETE /v1/documents/{id}."""

    version: Version | None = Field(default=None, description="Of the document to be deleted; any without one.")


class PushAnswer(ConfigModel):
    """Durable and searchable now. `push` is the push's number; `id` what citations and DELETE name."""

    id: str
    version: int
    push: int


@dataclass(frozen=True, kw_only=True)
class _Cut:
    title: str
    passages: tuple[Passage, ...]


class Pushes:
    """Pushed documents of one index. Files are parsed one after another."""

    def __init__(self, store: Store, embedder: Embedder, config: PushConfig, *, language: str) -> None:
        self._store = store
        self._embedder = embedder
        self._language = language
        self._budget = Budget(tokens=config.tokens, overlap=config.overlap)
        self._config = config
        self._parser: ParserProcess | None = None
        self._turn = asyncio.Lock()
        self._counted = PushStatus()

    async def put(self, key: Key, asked: PushRequest) -> PushAnswer:
        """Keep a document. AccessRefused, DocumentRefused, VersionRefused, StoreFull, the embedder's errors."""
        access = granted(key, asked.access)
        id_ = own_id(key, asked.id)
        digest = _digest(asked, access)
        overlay = await self._store.overlay()
        entry = await overlay.entry(id_)
        if entry is not None and is_repeated(entry, version=asked.version, digest=digest):
            return PushAnswer(id=id_, version=entry.version, push=entry.sequence)
        cut = await self._cut(asked)
        space, vectors = await self._embedded([passage.embedded for passage in cut.passages])
        made = [
            Chunk(
                document=id_,
                position=passage.position,
                text=passage.text,
                source=f"{PREFIX}{key.id}",
                title=cut.title,
                location=passage.location,
                reuse_key=hashlib.sha256(f"{space.id}\0{passage.embedded}".encode()).hexdigest(),
                labels=asked.labels,
                access=access,
                context=passage.embedded.removesuffix(passage.text).removesuffix("\n"),
                vector=vector,
            )
            for passage, vector in zip(cut.passages, vectors, strict=True)
        ]
        document = Document(id=id_, version=asked.version, digest=digest, space=space, chunks=tuple(made))
        return _answer(id_, await overlay.put(document))

    async def remove(self, key: Key, id_: str, version: int | None) -> PushAnswer:
        """Delete the key's own document, or hide a source's. DocumentUnknown, AccessRefused, VersionRefused."""
        overlay = await self._store.overlay()
        own = own_id(key, id_)
        if await overlay.entry(own) is not None:
            return _answer(own, await overlay.remove(own, version))
        await self._check_source_document(key, id_)
        return _answer(id_, await overlay.remove(id_, None))

    async def restore(self, key: Key, id_: str) -> PushAnswer:
        """Show a source's document again. As for remove."""
        await self._check_source_document(key, id_)
        return _answer(id_, await (await self._store.overlay()).restore(id_))

    async def status(self) -> PushStatus:
        """Count what is there; while the store does not answer, what was there."""
        try:
            totals = await (await self._store.overlay()).totals()
        except StoreError:  # the store's own health tells why
            return self._counted
        self._counted = PushStatus(
            sequence=totals.sequence, documents=totals.documents, tombstones=totals.tombstones
        )
        return self._counted

    async def close(self) -> None:
        """End the parser."""
        async with self._turn:
            if self._parser is not None:
                await asyncio.to_thread(self._parser.__exit__)

    async def _check_source_document(self, key: Key, id_: str) -> None:
        """Let a key decide over a source's document only if all who may see it are in the key's own labels."""
        labels = frozenset() if id_.startswith(PREFIX) else await self._store.access_of(id_)
        if labels.isdisjoint(key.access):
            raise DocumentUnknown("no document of that id was pushed by this key or is visible to it")
        if not labels <= key.access:
            raise AccessRefused("others may see this document too; use a key that has all of its access labels")

    async def _cut(self, asked: PushRequest) -> _Cut:
        try:
            parsed = await self._parsed(asked)
        except FileRefused as refused:
            raise DocumentRefused(f"{refused.reason}: {refused.message}") from refused
        titled = parsed.model_copy(update={"title": asked.title or parsed.title})
        loop = asyncio.get_running_loop()

        def count(texts: Sequence[str]) -> Sequence[int]:
            return asyncio.run_coroutine_threadsafe(self._embedder.count(texts), loop).result()

        passages = await asyncio.to_thread(plan_passages, titled, name=asked.id, budget=self._budget, count=count)
        if not passages:
            raise DocumentRefused("NoText: it holds no text; to remove a document, delete it")
        return _Cut(title=(titled.title or asked.id)[:200], passages=passages)

    async def _parsed(self, asked: PushRequest) -> Parsed:
        if asked.content_type == PLAIN:  # no parser can be hurt, but 20 MiB take longer than a search may wait
            return await asyncio.to_thread(parse_text, asked.data)
        async with self._turn:
            return await asyncio.to_thread(self._parsed_apart, asked)

    def _parsed_apart(self, asked: PushRequest) -> Parsed:
        """Parse in the process whose memory and time are limited; it reads a file."""
        name = f"document{SUFFIXES[asked.content_type]}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder).resolve() / name
            path.write_bytes(asked.data)
            return self._started().parse(path, name=name).document

    def _started(self) -> "ParserProcess":
        if self._parser is None:
            # the parsers take long to import: the first file that is pushed waits for them, no start does
            from nimblet_indexer.parse.worker import Limits, ParserProcess  # noqa: PLC0415

            config = self._config
            self._parser = ParserProcess(
                Limits(file_bytes=config.file_bytes, memory_bytes=config.memory_bytes, seconds=config.seconds)
            )
        return self._parser

    async def _embedded(self, texts: Sequence[str]) -> tuple[Space, Sequence[Sequence[float]]]:
        """Return the vectors, and the space they are in: the canary goes through the model with them."""
        canary, *vectors = await self._embedder.embed_passages([CANARY, *texts])
        made = Space(embedding=self._embedder.fingerprint, canary=tuple(canary), language=self._language)
        known = await (await self._store.overlay()).spaces()
        return space_like(made, known), vectors


def own_id(key: Key, id_: str) -> str:
    """Return the full id of a key's document; a full id of its own stays."""
    begins = f"{PREFIX}{key.id}/"
    return id_ if id_.startswith(begins) else f"{begins}{id_}"


def granted(key: Key, asked: Sequence[str] | None) -> tuple[str, ...]:
    """Return who may see a document. AccessRefused for labels that the key has not, or where it is not clear."""
    labels = tuple(sorted(set(asked) if asked is not None else key.access))
    if not labels or (asked is None and len(labels) > 1):
        raise AccessRefused(
            f"the key has {len(key.access)} access labels; name in access who may see the document"
        )
    if not key.access.issuperset(labels):
        raise AccessRefused("the key lacks an access label that the document is to have; leave it out")
    return labels


def _digest(asked: PushRequest, access: Sequence[str]) -> str:
    """Return what tells a repeated push from another one."""
    labels = sorted(asked.labels.items())
    told = repr((asked.title, asked.content_type, labels, access))
    return hashlib.sha256(told.encode() + b"\0" + asked.data).hexdigest()


def _answer(id_: str, receipt: Receipt) -> PushAnswer:
    return PushAnswer(id=id_, version=receipt.version, push=receipt.sequence)
