# SPDX-License-Identifier: Apache-2.0
"""A hub on loopback behind made-up names, and a loader's parts to try on it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from loader_testing.hub import COMMIT, REPO, Hub
from loader_testing.server import LoopbackServer
from loader_testing.tiny import TinyModel
from nimblet_egress.client import Client
from nimblet_egress.credentials import Credentials
from nimblet_egress.policy import AllowRule, S3Policy
from nimblet_egress.retry import Pace
from nimblet_egress.sigv4 import AccessKey
from nimblet_loader.age import Identities
from nimblet_loader.connector import Connector
from nimblet_loader.connectors import connect
from nimblet_loader.contract import Artifact, ArtifactFile, FetchPolicy, FetchReport, OCIPolicy, Source
from nimblet_loader.facts import header_facts
from nimblet_loader.fetch import Fetch, fetch
from nimblet_loader.gguf import parse_header
from nimblet_loader.progress import Progress
from nimblet_loader.resolve import resolve
from nimblet_loader.sealed import resolve_sealed
from nimblet_loader.trust import trusted

MODEL = "tiny-Q4_0.gguf"
ADDRESSES = {
    "hub.test": ["127.0.0.1"],
    "cdn.test": ["127.0.0.1"],
    "elsewhere.test": ["127.0.0.1"],
    "inside.test": ["10.1.2.3"],
    "metadata.test": ["169.254.169.254"],
}


@dataclass
class Bench:
    """A hub that serves, and a loader's policy, credentials and pace to try on it."""

    hub: Hub
    server: LoopbackServer
    root: Path
    naps: list[float] = field(default_factory=list)
    rules: tuple[AllowRule, ...] = ()
    token: str | None = None
    addresses: dict[str, list[str]] = field(default_factory=lambda: dict(ADDRESSES))
    attempts: int = 3
    s3_endpoint: str | None = None
    access_key: AccessKey | None = None
    login: tuple[str, str] | None = None
    claim: Path = Path("/nowhere")
    registries: tuple[str, ...] = ()
    stall_seconds: float = 60.0
    now: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    @property
    def content(self) -> bytes:
        """Return the model's bytes."""
        return self.hub.files[MODEL]

    @property
    def digest(self) -> str:
        """Return the model's sha256."""
        return hashlib.sha256(self.content).hexdigest()

    def base(self, host: str = "hub.test") -> str:
        """Return the server's URL under one of its made-up names."""
        return f"http://{host}:{self.server.port}"

    def authority(self, host: str = "hub.test") -> str:
        """Return host and port of the server under one of its made-up names."""
        return f"{host}:{self.server.port}"

    def policy(self) -> FetchPolicy:
        """Return the admin's policy: the made-up names on loopback."""
        names = ("hub.test", "cdn.test", "inside.test", "metadata.test")
        rules = tuple(AllowRule(host=name, cidr="127.0.0.0/8", allow_http=True) for name in names)
        return FetchPolicy(
            version=1,
            hf_endpoint=self.base(),
            s3=S3Policy(endpoint=self.s3_endpoint or self.base()),
            ollama_registry=self.base(),
            oci=OCIPolicy(plain_http=(self.authority(), *self.registries)),
            allow=self.rules or rules,
            credential_hosts=("hub.test",),
            stall_timeout_seconds=self.stall_seconds,
        )

    def client(self) -> Client:
        """Return a client that resolves names by the bench's table."""
        policy = self.policy()
        return Client(
            policy,
            Credentials(self.token, policy.credential_hosts, self.access_key, self.login),
            resolve=self.resolve_name,
        )

    def resolve_name(self, host: str, port: int) -> Sequence[str]:  # noqa: ARG002 - the resolver's signature
        """Look a name up in the bench's table."""
        if host not in self.addresses:
            raise OSError("no such name")
        return self.addresses[host]

    def pace(self) -> Pace:
        """Return retries that wait in no time."""
        return Pace(attempts=self.attempts, sleep=self.naps.append, share=lambda: 0.0)

    def source(self, **overrides: object) -> Source:
        """Return the hub's repository as a source, or another one."""
        return Source.model_validate_json(json.dumps({"version": 1, "uri": f"hf://{REPO}", **overrides}))

    def resolve(self, **overrides: object) -> Artifact:
        """Resolve the hub's repository, or another source."""
        source = self.source(**overrides)
        client = self.client()
        try:
            connector = connect(client, self.policy(), uri=source.uri, revision=source.revision, claim=self.claim)
            resolving = resolve if source.encryption is None else resolve_sealed
            return resolving(trusted(source, self.now), connector, self.policy(), self.pace())
        finally:
            client.close()

    @contextmanager
    def connected(self, artifact: Artifact) -> Iterator[Connector]:
        """Connect to an artifact's source, as a fetch does."""
        with closing(self.client()) as client:
            yield connect(client, self.policy(), uri=artifact.uri, revision=artifact.commit, claim=self.claim)

    def artifact(
        self, *, uri: str = f"hf://{REPO}", sha256: str | None = "", size: int = 0, tag: str | None = None
    ) -> Artifact:
        """Return the artifact of the model as it is now; with another digest or size if given."""
        content = self.content
        digest = self.digest if sha256 == "" else sha256
        pinned = ArtifactFile(path=MODEL, size=size or len(content), sha256=digest, tag=tag)
        facts = header_facts(MODEL, [(parse_header(iter([TinyModel().file()])), len(TinyModel().file()))])
        return Artifact(
            version=1, uri=uri, commit=COMMIT, files=(pinned,), digest_source="Source", format="GGUF", header=facts
        )

    def fetch(
        self,
        artifact: Artifact | None = None,
        *,
        progress: Progress | None = None,
        identities: Identities | None = None,
    ) -> FetchReport:
        """Fetch the artifact (the model as it is now, unless given) into the bench's folder."""
        wanted = artifact or self.artifact()
        with self.connected(wanted) as connector:
            return fetch(
                Fetch(
                    artifact=wanted,
                    connector=connector,
                    policy=self.policy(),
                    root=self.root,
                    uid="uid-1",
                    pace=self.pace(),
                    progress=progress or Progress(),
                    now=lambda: 0.0,
                    identities=identities,
                )
            )

    @property
    def partial(self) -> Path:
        """Return the temporary file's path."""
        return self.root / f".{MODEL}.uid-1.part"
