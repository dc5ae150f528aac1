# SPDX-License-Identifier: Apache-2.0
"""Asking a served model the way its users do: the `openai` package, through the model's Service.

The native cluster routes Service addresses to the host, so a client meets kube-proxy as a pod would. On kind a
port-forward stands in, which holds on to one pod: a rolling change can't be followed through it.
"""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import openai

from e2e.support.kube import Kube
from e2e.support.secure import Secure, secure_of
from e2e.support.wait import until
from nimblet import names
from nimblet.manifests.configuration import API_KEY

CONNECT_SECONDS = 5.0
TIMEOUT_SECONDS = 60.0
ROUTED_SECONDS = 60.0
PORTS = {"http": 80, "https": 443}
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers, and the key that opens it."""

    url: str
    """Without /v1."""
    api_key: str
    model: str
    secure: Secure | None = None
    """How it is verified; None where it speaks plain HTTP."""

    def client(self, *, api_key: str | None = None) -> openai.OpenAI:
        """Return a client that never retries by itself: the tests count failures."""
        key = self.api_key if api_key is None else api_key
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=key,
            max_retries=0,
            timeout=TIMEOUT_SECONDS,
            http_client=self.secure.client() if self.secure is not None else None,
        )


@contextmanager
def endpoint_of(kube: Kube, model: str, namespace: str) -> Iterator[Endpoint]:
    """Give the endpoint of a model that serves; its key comes from the Secret that the status names."""
    status = kube.model(model, namespace).status
    key = kube.secret_value(status.key_secret, API_KEY, namespace).splitlines()[0]
    service = names.server(model)
    secure = secure_of(kube, service, namespace, endpoint=status.endpoint)
    with service_url(kube, service, namespace, secure=secure) as url:
        await_route(url)
        yield Endpoint(url=url, api_key=key, model=model, secure=secure)


def await_route(url: str) -> None:
    """Return once a Service leads to a pod: a busy node learns of it seconds after the pod is Ready."""
    until(lambda: _is_routed(httpx.URL(url)), what=f"a way to a pod at {url}", seconds=ROUTED_SECONDS)


def _is_routed(url: httpx.URL) -> bool:
    try:
        with socket.create_connection((url.host, url.port or PORTS[url.scheme]), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False


@contextmanager
def service_url(kube: Kube, service: str, namespace: str, *, secure: Secure | None = None) -> Iterator[str]:
    """Give a URL under which the host reaches the first port of a Service. `secure`: of one that speaks TLS."""
    scheme = "http" if secure is None else "https"
    where = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}"
    address = kube.run("get", "service", service, f"--namespace={namespace}", f"--output={where}")
    if kube.cluster.on_kind:
        with _forwarded(kube, service, namespace, port=address.rpartition(":")[2]) as forwarded:
            yield f"{scheme}://{forwarded}"
        return
    yield f"{scheme}://{address}"


@contextmanager
def _forwarded(kube: Kube, service: str, namespace: str, *, port: str) -> Iterator[str]:
    cluster = kube.cluster
    argv = [str(cluster.kubectl_binary), f"--kubeconfig={cluster.kubeconfig}", "port-forward"]
    argv += [f"--namespace={namespace}", f"service/{service}", f":{port}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            found = _FORWARDED.search(line)
            if found is None:
                raise ConnectionError(f"expected kubectl port-forward to name its port, found {line!r}")
            yield f"127.0.0.1:{found[1]}"
        finally:
            process.terminate()


def ask(endpoint: Endpoint, question: str, *, max_tokens: int = 48) -> str:
    """Return the answer's text."""
    with endpoint.client() as client:
        answer = client.chat.completions.create(
            model=endpoint.model,
            messages=[{"role": "user", "content": question}],
            max_tokens=max_tokens,
            temperature=0,
        )
    return answer.choices[0].message.content or ""
