# SPDX-License-Identifier: Apache-2.0
"""The connector for `ollama://name:tag`: the model layer of a manifest in an Ollama registry.

The registry speaks the OCI distribution protocol: https://github.com/opencontainers/distribution-spec. The layer
of type application/vnd.ollama.image.model is the GGUF file, and its digest is its name. Templates, parameters and
licences of the manifest are not used.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from nimblet_egress.client import Answer, Client
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.status import status_error
from nimblet_loader.connector import Body, Snapshot, Span, open_http, tag_error
from nimblet_loader.selection import Entry

_URI = re.compile(
    r"^ollama://(?:([a-z0-9][a-z0-9_.-]{0,79})/)?([A-Za-z0-9][A-Za-z0-9_.-]{0,79})"
    r"(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,79}))?$"
)
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_MODEL_LAYER = "application/vnd.ollama.image.model"
_MANIFEST_BYTES = 4 * 2**20
_OK = 200
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")

_Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Json(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Layer(_Json):
    media_type: str = Field(alias="mediaType")
    digest: _Digest
    size: Annotated[int, Field(ge=0)]


class _ManifestJson(_Json):
    layers: tuple[_Layer, ...]


class OllamaConnector:
    """One tag of a registry; its only file carries the model's name."""

    def __init__(self, client: Client, *, registry: str, uri: str) -> None:
        found = _URI.match(uri)
        if found is None:
            raise SourceError(
                Reason.ConfigInvalid,
                f"Expected a source of the form ollama://name:tag or ollama://owner/name:tag; found "
                f"{quoted(uri)}. Correct it.",
            )
        self._client = client
        self._repository = f"{found[1] or 'library'}/{found[2]}"
        self._tag = found[3] or "latest"
        self._base = f"{registry.rstrip('/')}/v2/{self._repository}"
        self.file = f"{found[2]}-{self._tag}.gguf"

    def snapshot(self) -> Snapshot:
        """Read the manifest of the tag; its digest is the commit, and the layer's digest the file's tag."""
        with self._client.get(f"{self._base}/manifests/{self._tag}", {"Accept": _MANIFEST}) as answer:
            if answer.last.status != _OK:
                raise self._manifest_error(answer)
            raw = answer.text(_MANIFEST_BYTES)
        try:
            layers = _ManifestJson.model_validate_json(raw).layers
        except ValidationError as error:
            raise SourceError(
                Reason.UnexpectedResponse,
                f"Expected the manifest of {self._shown}; the answer is none. Check the administrator's registry.",
            ) from error
        models = [layer for layer in layers if layer.media_type == _MODEL_LAYER]
        if len(models) != 1:
            raise SourceError(
                Reason.UnsupportedFormat,
                f"Expected one model layer in {self._shown}; found {len(models)}. Use a model of one GGUF file.",
            )
        digest = models[0].digest
        commit = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        return Snapshot(commit, (Entry(self.file, models[0].size, digest.removeprefix("sha256:"), digest),))

    def measure(self, entry: Entry) -> Entry:
        """Return the entry as it is: the manifest told its digest."""
        return entry

    @contextmanager
    def open(self, path: str, *, commit: str, span: Span) -> Iterator[Body]:  # noqa: ARG002 - the tag is the blob
        """Open the layer that the file's tag names, wherever the registry's own tag has moved since."""
        if span.tag is None or _DIGEST.match(span.tag) is None:
            raise SourceError(
                Reason.ConfigInvalid,
                f"Expected the artifact to name the layer of {quoted(path)}; it does not. "
                "Resolve the source again.",
            )

        def explain(answer: Answer) -> SourceError:
            return status_error(answer, what=f"{quoted(path)} of {self._shown}")

        url, plain = f"{self._base}/blobs/{span.tag}", replace(span, tag=None)
        with open_http(self._client, url, span=plain, explain=explain) as (_, body):
            yield replace(body, tag=span.tag, linked_sha256=span.tag.removeprefix("sha256:"))

    @property
    def _shown(self) -> str:
        return f"{self._repository}:{self._tag}"

    def _manifest_error(self, answer: Answer) -> SourceError:
        return tag_error(status_error(answer, what=self._shown), answer, shown=self._shown)
