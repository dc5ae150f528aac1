# SPDX-License-Identifier: Apache-2.0
"""Servers of a store that speak TLS, on real sockets: whom the retriever trusts. They are make-believe ones."""

from pathlib import Path

import pytest

from nimblet_retriever.config import ServerConfig, SnapshotConfig
from nimblet_retriever.store.chunk import StoreUnavailable
from nimblet_retriever.store.opening import open_servers, open_snapshots
from nimblet_tls.folder import TLSFolder
from retriever_testing.process import serving
from retriever_testing.restserver import RestServer
from retriever_testing.stores import asked, chunk, found, sealed
from tls_testing.mounted import MountedSecret, new_authority

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
]
PUMP = chunk("pump", "The pump X200 runs at 45 bar.")
HOST = "localhost"


def a_config(url: str, tls: Path, key: Path) -> ServerConfig:
    key.write_text("secret")
    snapshots = SnapshotConfig(servers=(url,))
    return ServerConfig(url=url, prefix="docs", key_file=key, tls_folder=tls, snapshots=snapshots)


async def test_generations_pass_over_tls_to_whom_the_folder_names(tmp_path: Path) -> None:
    ours, strange = (MountedSecret(tmp_path / name, host=HOST) for name in ("ours", "strange"))
    for folder in (ours, strange):
        folder.mount(new_authority())
    with serving(RestServer(key="secret").app(), tls=ours.folder) as url:
        config = a_config(url, ours.folder, tmp_path / "key")
        store = open_servers(config, trust=TLSFolder(ours.folder).client())
        name = await sealed(store, [PUMP])
        assert await found(store, name, asked("pump")) == ["pump"]
        # whoever trusts another authority, or the system's, gets nothing
        for other in (open_servers(config, trust=TLSFolder(strange.folder).client()), open_servers(config)):
            with pytest.raises(StoreUnavailable, match="ConnectError"):
                await other.serving()
            await other.close()
        await store.close()


async def test_snapshots_are_asked_for_by_each_servers_own_name_over_tls(tmp_path: Path) -> None:
    ours = new_authority()
    shown = MountedSecret(tmp_path / "qdrant", host=HOST)
    shown.mount(ours)
    with serving(RestServer(key="secret").app(), tls=shown.folder) as url:
        config = a_config(url, shown.folder, tmp_path / "key")
        trusting = open_snapshots(config, trust=TLSFolder(shown.folder).client())
        usual = open_snapshots(config)
        assert trusting is not None
        assert usual is not None
        await trusting.clear("docs-unknown")
        with pytest.raises(StoreUnavailable, match="ConnectError"):
            await usual.clear("docs-unknown")
        for opened in (trusting, usual):
            await opened.close()


async def test_another_authority_in_the_folder_is_taken_up(tmp_path: Path) -> None:
    old, new = new_authority(), new_authority()
    shown = MountedSecret(tmp_path / "qdrant", host=HOST)
    shown.mount(new)
    trusted = MountedSecret(tmp_path / "trusted", host=HOST)
    trusted.mount(old)
    with serving(RestServer(key="secret").app(), tls=shown.folder) as url:
        folder = TLSFolder(trusted.folder)
        store = open_servers(a_config(url, trusted.folder, tmp_path / "key"), trust=folder.client())
        with pytest.raises(StoreUnavailable, match="ConnectError"):
            await store.serving()
        trusted.mount(old, old, new)
        assert folder.look()
        assert await store.serving() is None
        await store.close()
