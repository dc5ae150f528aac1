# SPDX-License-Identifier: Apache-2.0
"""A client's side of a server that speaks TLS: asked by an address, verified by the name of its Service."""

import socket
import ssl
from dataclasses import dataclass
from typing import Protocol

import openai

from e2e.support.kube import Kube
from nimblet import names


class Request(Protocol):
    """What a hook of the client may change."""

    extensions: dict[str, object]


AUTHORITIES = "ca.crt"
SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Secure:
    """The name that a certificate must be good for, and who must have signed it; the usual ones where None."""

    host: str
    authorities: str | None

    def context(self) -> ssl.SSLContext:
        """Return what verifies."""
        if self.authorities is None:
            return ssl.create_default_context()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.authorities)
        return context

    def client(self) -> openai.DefaultHttpxClient:
        """Return a client for the openai package that asks any address for this name: nothing here resolves it."""

        def named(request: Request) -> None:
            request.extensions = {**request.extensions, "sni_hostname": self.host}

        return openai.DefaultHttpxClient(verify=self.context(), event_hooks={"request": [named]})

    def serial(self, url: str) -> str:
        """Return the number of the certificate that is shown now; ssl's errors where it is not verified."""
        host, _, port = url.partition("://")[2].partition(":")
        with (
            socket.create_connection((host, int(port)), timeout=SECONDS) as plain,
            self.context().wrap_socket(plain, server_hostname=self.host) as connection,
        ):
            return str((connection.getpeercert() or {})["serialNumber"])


def secure_of(kube: Kube, service: str, namespace: str, *, endpoint: str) -> Secure | None:
    """Return how a Service of ours is verified: by what lies beside its certificate. None for plain HTTP."""
    if not endpoint.startswith("https://"):
        return None
    authorities = kube.secret_value(names.certificate(service), AUTHORITIES, namespace)
    return Secure(host=names.service_host(service, namespace), authorities=authorities)
