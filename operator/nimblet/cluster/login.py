# SPDX-License-Identifier: Apache-2.0
"""How to log in to the API server, for a library that brings its own connections (the watches)."""

from dataclasses import dataclass, field
from pathlib import Path

from nimblet.cluster.transport import load_configuration


@dataclass(frozen=True, kw_only=True)
class Login:
    """Address and credentials; paths are files in PEM form."""

    server: str
    authority: str | None
    certificate: str | None
    private_key: str | None
    insecure: bool
    token: str | None = field(repr=False)


async def read_login(kubeconfig: Path | None) -> Login:
    """Read the same configuration as our own client does; called again when a token was refused."""
    configuration = await load_configuration(kubeconfig)
    header = await configuration.get_api_key_with_prefix("BearerToken")
    return Login(
        server=configuration.host,
        authority=configuration.ssl_ca_cert,
        certificate=configuration.cert_file,
        private_key=configuration.key_file,
        insecure=not configuration.verify_ssl,
        token=header.split(" ")[-1] if header else None,
    )
