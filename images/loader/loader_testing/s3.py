# SPDX-License-Identifier: Apache-2.0
"""A real S3 service on loopback: moto's server as a process, which checks signatures once it is set up."""

import hashlib
import os
import re
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from e2e.cluster.controlplane import free_ports
from nimblet_egress.sigv4 import AccessKey

BUCKET = "weights"
SUMMED = "summed/tiny-Q4_0.gguf"
"""The first object once more, uploaded with its SHA-256."""
ROLE = "arn:aws:iam::123456789012:role/reader"
_SCRIPT = Path(__file__).with_name("s3server.py")
_START_SECONDS = 90.0
"""The first start installs the server's locked packages into uv's cache."""
_POLICY = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
_TRUST = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRoleWithWebIdentity"}]}'


@dataclass(frozen=True)
class S3:
    """The service's port and a key that it knows."""

    port: int
    key: AccessKey


@contextmanager
def serving_s3(objects: Mapping[str, bytes], *, folder: Path) -> Iterator[S3]:
    """Serve objects of one bucket inside the block; requests must be signed with the yielded key."""
    (port,) = free_ports(1)
    environment = {
        "INITIAL_NO_AUTH_ACTION_COUNT": "1000",  # until all is set up
        "S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true",  # else it takes the made-up host's first label for a bucket
    }
    argv = ["uv", "run", "--quiet", "--script", str(_SCRIPT), "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(argv, env={**os.environ, **environment}, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                _wait(client, process)
                key = _fill(client, objects)
                admit(port, unsigned=0)
                yield S3(port, key)
        finally:
            process.terminate()
            process.wait(timeout=60)


def admit(port: int, *, unsigned: int) -> None:
    """Let the next requests pass unsigned: the server knows no other way for the exchange of a token."""
    url = f"http://127.0.0.1:{port}/moto-api/reset-auth"
    httpx.post(url, content=str(unsigned), timeout=60).raise_for_status()


def _wait(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            client.get("/moto-api/")
        except httpx.TransportError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.1)
        else:
            return


def _fill(client: httpx.Client, objects: Mapping[str, bytes]) -> AccessKey:
    client.put(f"/{BUCKET}").raise_for_status()
    for name, content in objects.items():
        client.put(f"/{BUCKET}/{name}", content=content).raise_for_status()
    summed = b64encode(hashlib.sha256(next(iter(objects.values()))).digest()).decode()
    headers = {"x-amz-checksum-sha256": summed, "x-amz-sdk-checksum-algorithm": "SHA256"}
    first = next(iter(objects.values()))
    client.put(f"/{BUCKET}/{SUMMED}", content=first, headers=headers).raise_for_status()
    _iam(client, Action="CreateRole", RoleName="reader", AssumeRolePolicyDocument=_TRUST)
    _iam(client, Action="PutRolePolicy", RoleName="reader", PolicyName="p", PolicyDocument=_POLICY)
    _iam(client, Action="CreateUser", UserName="u")
    _iam(client, Action="PutUserPolicy", UserName="u", PolicyName="p", PolicyDocument=_POLICY)
    answer = _iam(client, Action="CreateAccessKey", UserName="u")
    found = [re.search(f"<{name}>([^<]+)<", answer) for name in ("AccessKeyId", "SecretAccessKey")]
    key_id, secret = (match[1] for match in found if match is not None)
    return AccessKey(key_id, secret)


def _iam(client: httpx.Client, **form: str) -> str:
    # The server routes by the service in the credential's scope; before the last setup action it checks no more.
    scope = (
        "AWS4-HMAC-SHA256 Credential=setup/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0"
    )
    answer = client.post("/", data={"Version": "2010-05-08", **form}, headers={"Authorization": scope})
    return answer.raise_for_status().text
