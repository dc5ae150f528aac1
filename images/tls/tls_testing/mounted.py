# SPDX-License-Identifier: Apache-2.0
"""A folder as a kubelet mounts a Secret: the files are links into a folder that is replaced as a whole."""

import base64
import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

from nimblet.cluster.pki import ENTROPY_BYTES, Authority, bundle_of, issue, make_authority, secret_data

DAY = 86400


def new_authority() -> Authority:
    """Return an authority of its own."""
    return make_authority(entropy=os.urandom(ENTROPY_BYTES), now=datetime.now(UTC), seconds=4 * DAY)


class MountedSecret:
    """A mounted Secret for one name. `mount` replaces it."""

    def __init__(self, folder: Path, *, host: str) -> None:
        self.folder = folder
        self._host = host
        self._turn = 0
        folder.mkdir()

    def mount(self, signer: Authority, *trusted: Authority) -> None:
        """Bring a new certificate by `signer`, and what is trusted: `signer` alone where nothing is named."""
        leaf = issue(
            signer,
            names=[self._host],
            entropy=os.urandom(ENTROPY_BYTES),
            now=datetime.now(UTC),
            seconds=DAY,
        )
        self.write(secret_data(leaf, bundle_of(trusted or (signer,))))

    def write(self, data: dict[str, str]) -> None:
        """Bring these entries, in base64, by one rename."""
        self._turn += 1
        turn = self.folder / f"..{self._turn}"
        turn.mkdir()
        for name, text in data.items():
            (turn / name).write_bytes(base64.b64decode(text))
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(Path("..data") / name)
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(turn.name)
        fresh.rename(self.folder / "..data")


def trusting(*authorities: Authority) -> ssl.SSLContext:
    """Return a client's context that trusts these alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=bundle_of(authorities))
    return context


def serial_of(writer_ssl: ssl.SSLObject | ssl.SSLSocket) -> str:
    """Return the serial number of the certificate that a server showed."""
    shown = writer_ssl.getpeercert()
    return str(shown["serialNumber"]) if shown else ""
