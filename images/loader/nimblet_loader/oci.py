# SPDX-License-Identifier: Apache-2.0
"""The connector for `oci://registry/repository`: a model as an OCI artifact, or in the layers of an image.

Artifacts: the CNCF ModelPack format (https://github.com/modelpack/model-spec) and what ORAS pushes: raw layers
whose annotation names a file. Images: the ModelCar layout, files below /models. A file is named by its layer's
digest, and in an image also by where its bytes lie in the layer. The whole layer is hashed while the source is
resolved, which ties each file's sha256 to the manifest. It must not unpack anything.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from nimblet_egress.client import Client
from nimblet_egress.errors import Reason, SourceError, listed, quoted
from nimblet_loader.connector import Body, Snapshot, Span
from nimblet_loader.contract import OCIPolicy
from nimblet_loader.manifest import ACCEPT, Descriptor, Document, choose_platform, parse_document, raw_entries
from nimblet_loader.registry import Registry
from nimblet_loader.selection import Entry
from nimblet_loader.tarlayer import Member, inflated, members, sliced

_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_URI = re.compile(
    r"^oci://([A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?)"
    rf"/({_PART}(?:/{_PART})*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@(sha256:[0-9a-f]{{64}}))?$"
)
_TAG = re.compile(r"^(sha256:[0-9a-f]{64})(?:\+(tar|gzip)@([0-9]{1,18}):([0-9]{1,18}))?$")
_FOLDER = "models"
_WEIGHTS = (".gguf", ".safetensors")
_LARGEST_ARCHIVE = 4
"""An image's layer may unpack to so many times the largest file: it holds one model, perhaps in several parts."""


@dataclass(frozen=True)
class _Stretch:
    """Where a file's bytes lie: a blob, or `size` bytes from `offset` on in a tar stream, gzipped or not."""

    digest: str
    form: str | None = None
    offset: int = 0
    size: int = 0

    @property
    def tag(self) -> str:
        return self.digest if self.form is None else f"{self.digest}+{self.form}@{self.offset}:{self.size}"


class OCIConnector:
    """One tag or digest of a repository; `machine` chooses among an index's platforms, as Go names CPUs."""

    def __init__(self, client: Client, policy: OCIPolicy, *, uri: str, max_bytes: int, machine: str) -> None:
        found = _URI.match(uri)
        if found is None:
            raise SourceError(
                Reason.ConfigInvalid,
                "Expected a source of the form oci://registry/repository:tag or …@sha256:digest; found "
                f"{quoted(uri)}. Correct it.",
            )
        host, repository, tag, self._digest = found.groups()
        scheme = "http" if host.lower() in {name.lower() for name in policy.plain_http} else "https"
        self._reference = self._digest or tag or "latest"
        self._shown = f"{host}/{repository}{'@' if self._digest else ':'}{self._reference}"
        self._registry = Registry(client, base=f"{scheme}://{host}", repository=repository, shown=self._shown)
        self._limit = max_bytes * _LARGEST_ARCHIVE
        self._machine = machine
        self._vouched: frozenset[str] = frozenset()

    def snapshot(self) -> Snapshot:
        """Read the manifest; for an image also its layers, whole."""
        commit, document = self._document(self._reference)
        if document.manifests is not None:
            digest = choose_platform(document.manifests, machine=self._machine, shown=self._shown).digest
            commit, document = self._document(digest)
        entries = raw_entries(document)
        if not any(entry.path.lower().endswith(_WEIGHTS) for entry in entries) and document.is_image:
            entries = self._image_entries(document.layers)
        if not entries:
            kinds = listed({layer.media_type for layer in document.layers}) or "no layers"
            raise SourceError(
                Reason.UnsupportedFormat,
                f"Expected {self._shown} to be a model artifact of raw layers with file names, or an image with "
                f"files below /{_FOLDER}; found {kinds}. Push the files as raw layers.",
            )
        return Snapshot(commit, entries)

    def measure(self, entry: Entry) -> Entry:
        """Return the entry as it is: the manifest or the resolver's reading of the layer told its digest."""
        return entry

    @contextmanager
    def open(self, path: str, *, commit: str, span: Span) -> Iterator[Body]:
        """Open the file that the tag names; its layer must be one of the pinned manifest's."""
        stretch = _stretch(span.tag, path)
        self._check_listed(stretch.digest, commit)
        opened = self._open_raw if stretch.form is None else partial(self._open_member, stretch=stretch)
        with opened(f"{quoted(path)} of {self._shown}", span) as body:
            yield replace(body, tag=span.tag)

    @contextmanager
    def _open_raw(self, what: str, span: Span) -> Iterator[Body]:
        digest = _stretch(span.tag, what).digest
        with self._registry.blob(digest, span=span, what=what) as body:
            yield replace(body, linked_sha256=digest.removeprefix("sha256:"))

    @contextmanager
    def _open_member(self, what: str, span: Span, *, stretch: _Stretch) -> Iterator[Body]:
        stop = stretch.size if span.stop is None else min(span.stop, stretch.size)
        count = max(stop - span.start, 0)
        begin = stretch.offset + span.start
        # A gzip stream can't be entered in its middle; a plain archive can, like any other file.
        wanted = Span(begin, begin + count) if stretch.form == "tar" else Span()
        with self._registry.blob(stretch.digest, span=wanted, what=what) as body:
            source = body.chunks if stretch.form == "tar" else lambda: inflated(body.chunks(), self._shown)
            skip = begin - body.start

            def chunks() -> Iterator[bytes]:
                return sliced(source(), skip=skip, count=count)

            yield Body(start=span.start, total=stretch.size, tag=span.tag, chunks=chunks)

    def _document(self, reference: str) -> tuple[str, Document]:
        """Return a manifest's or index's digest and content; what a digest names must have it."""
        raw = self._registry.document(reference, ACCEPT)
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if reference.startswith("sha256:") and reference != digest:
            raise SourceError(
                Reason.DigestMismatch,
                f"Expected the manifest {reference} of {self._shown}; the registry sends {digest}. "
                "The registry or a proxy before it is at fault: do not use it.",
            )
        return digest, parse_document(raw, self._shown)

    def _image_entries(self, layers: Sequence[Descriptor]) -> tuple[Entry, ...]:
        """Return the files of all layers; what a later layer holds hides what an earlier one had."""
        found: dict[str, Entry] = {}
        for layer in layers:
            form = layer.archive(self._shown)
            for member in self._members(layer, form):
                tag = _Stretch(layer.digest, form, member.offset, member.size).tag
                found[member.path] = Entry(member.path, member.size, member.sha256, tag)
        return tuple(found.values())

    def _members(self, layer: Descriptor, form: str) -> list[Member]:
        digest, length = hashlib.sha256(), 0

        def hashed(chunks: Iterator[bytes]) -> Iterator[bytes]:
            nonlocal length
            for chunk in chunks:
                length += len(chunk)
                if length > layer.size:
                    raise self._wrong_layer(layer, "it is longer")
                digest.update(chunk)
                yield chunk

        with self._registry.blob(layer.digest, span=Span(), what=f"a layer of {self._shown}") as body:
            raw = hashed(body.chunks())
            archive = inflated(raw, self._shown) if form == "gzip" else raw
            found = members(archive, folder=_FOLDER, shown=self._shown, limit=self._limit)
            for _ in raw:  # what follows the archive's end belongs to the digest too
                pass
        if f"sha256:{digest.hexdigest()}" != layer.digest:
            raise self._wrong_layer(layer, f"{length} bytes of sha256:{digest.hexdigest()} came")
        return found

    def _wrong_layer(self, layer: Descriptor, found: str) -> SourceError:
        return SourceError(
            Reason.DigestMismatch,
            f"Expected the layer {layer.digest} of {layer.size} bytes in {self._shown}; {found}. "
            "The registry or a proxy before it is at fault: do not use it.",
        )

    def _check_listed(self, digest: str, commit: str) -> None:
        """Raise SourceChanged unless the layer is in the pinned manifest, and that in what the source names."""
        if not self._vouched:
            _, document = self._document(commit)
            self._vouched = frozenset(layer.digest for layer in document.layers)
            if self._digest not in (None, commit):
                _, index = self._document(str(self._digest))
                if commit not in {item.digest for item in index.manifests or ()}:
                    raise self._unlisted(f"the manifest {commit}")
        if digest not in self._vouched:
            raise self._unlisted(f"the layer {digest}")

    def _unlisted(self, what: str) -> SourceError:
        return SourceError(
            Reason.SourceChanged,
            f"Expected {self._shown} to list {what}; it does not. Delete the artifact's ConfigMap, so that the "
            "source is resolved again, and see who could write it.",
        )


def _stretch(tag: str | None, path: str) -> _Stretch:
    found = _TAG.match(tag or "")
    if found is None:
        raise SourceError(
            Reason.ConfigInvalid,
            f"Expected the artifact to name the layer of {quoted(path)}; it does not. Resolve the source again.",
        )
    digest, form, offset, size = found.groups()
    return _Stretch(digest, form, int(offset or 0), int(size or 0))
