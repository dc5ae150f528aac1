# SPDX-License-Identifier: Apache-2.0
"""Real TLS over loopback: who is refused, and what a rotation does to those who ask meanwhile."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nimblet_tls.folder import TLSError, TLSFolder
from tls_testing.mounted import MountedSecret, new_authority, serial_of, trusting

HOST = "m-model.team.svc"
TURNS = 12


@pytest.fixture
def secret(tmp_path: Path) -> MountedSecret:
    """A mounted Secret, still empty."""
    return MountedSecret(tmp_path / "tls", host=HOST)


@asynccontextmanager
async def echoing(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve what is sent back; yield the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def asked(port: int, trust: ssl.SSLContext, *, host: str = HOST) -> str:
    """Ask once; return the serial number of the certificate that was shown."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=host)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    serial = serial_of(writer.get_extra_info("ssl_object"))
    writer.close()
    await writer.wait_closed()
    return serial


def test_a_server_of_another_authority_or_name_is_refused(secret: MountedSecret) -> None:
    ours, others = new_authority(), new_authority()
    secret.mount(ours)

    async def scene() -> None:
        async with echoing(TLSFolder(secret.folder).server()) as port:
            assert await asked(port, trusting(ours))
            with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed certificate|unable to get"):
                await asked(port, trusting(others))
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await asked(port, trusting(ours), host="other-model.team.svc")

    asyncio.run(scene())


def test_rotation_under_load_fails_no_request_and_is_shown(secret: MountedSecret) -> None:
    ours = new_authority()
    secret.mount(ours)
    folder = TLSFolder(secret.folder)
    serials: list[str] = []

    async def scene() -> None:
        trust, going = trusting(ours), True
        answered: asyncio.Queue[str] = asyncio.Queue()

        async def load() -> None:
            while going:
                await answered.put(await asked(port, trust))

        async with echoing(folder.server()) as port:
            workers = [asyncio.create_task(load()) for _ in range(4)]
            for _ in range(TURNS):
                serials.extend([await answered.get() for _ in range(4)])
                secret.mount(ours)
                assert folder.look()
            going = False
            await asyncio.gather(*workers)
            assert await asked(port, trust) not in serials

    asyncio.run(scene())
    assert len(set(serials)) > TURNS // 2


def test_an_open_connection_outlives_a_rotation(secret: MountedSecret) -> None:
    ours = new_authority()
    secret.mount(ours)
    folder = TLSFolder(secret.folder)

    async def scene() -> None:
        trust = trusting(ours)
        async with echoing(folder.server()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=HOST)
            before = serial_of(writer.get_extra_info("ssl_object"))
            secret.mount(ours)
            assert folder.look()
            writer.write(b"still here\n")
            assert await reader.readline() == b"still here\n"
            assert await asked(port, trust) != before
            writer.close()
            await writer.wait_closed()

    asyncio.run(scene())


def test_a_client_that_names_no_host_gets_the_new_certificate_too(secret: MountedSecret) -> None:
    """A kubelet asks by address, names no host and verifies nothing."""
    ours = new_authority()
    secret.mount(ours)
    folder = TLSFolder(secret.folder)

    async def scene() -> None:
        nameless = trusting(ours)
        nameless.check_hostname = False
        async with echoing(folder.server()) as port:
            before = await asked(port, nameless, host="")
            secret.mount(ours)
            assert folder.look()
            assert await asked(port, nameless, host="") != before

    asyncio.run(scene())


def test_a_new_authority_is_trusted_beside_the_old_one(secret: MountedSecret, tmp_path: Path) -> None:
    old, new = new_authority(), new_authority()
    secret.mount(old)
    renewed = MountedSecret(tmp_path / "renewed", host=HOST)
    renewed.mount(new)
    asking = TLSFolder(secret.folder)

    async def scene() -> None:
        trust = asking.client()
        async with echoing(TLSFolder(renewed.folder).server()) as port:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asked(port, trust)
            secret.mount(old, old, new)
            assert asking.look()
            assert await asked(port, trust)
        async with echoing(TLSFolder(secret.folder).server()) as port:
            assert await asked(port, trust)

    asyncio.run(scene())


def test_what_can_not_be_read_leaves_what_was_read_last(
    secret: MountedSecret, caplog: pytest.LogCaptureFixture
) -> None:
    ours = new_authority()
    secret.mount(ours)
    folder = TLSFolder(secret.folder)

    async def scene() -> None:
        trust = trusting(ours)
        async with echoing(folder.server()) as port:
            before = await asked(port, trust)
            broken = base64.b64encode(b"no certificate").decode()
            secret.write({"tls.crt": broken, "tls.key": broken, "ca.crt": broken})
            assert not folder.look()
            assert await asked(port, trust) == before
            secret.mount(ours)
            assert folder.look()
            assert await asked(port, trust) != before

    asyncio.run(scene())
    assert "what was read before stays in use" in caplog.text


def test_an_empty_folder_is_told_by_its_missing_file(secret: MountedSecret) -> None:
    with pytest.raises(TLSError, match=r"tls\.crt and tls\.key"):
        TLSFolder(secret.folder).server()
    with pytest.raises(TLSError, match=r"ca\.crt"):
        TLSFolder(secret.folder).client()
