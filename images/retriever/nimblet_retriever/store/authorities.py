# SPDX-License-Identifier: Apache-2.0
"""Whom a store on servers trusts. Knows nothing of the client of those servers, whose import takes its time."""

from nimblet_retriever.config import RetrieverConfig, ServerConfig
from nimblet_tls.folder import TLSFolder


def store_authorities(config: RetrieverConfig) -> TLSFolder | None:
    """Return the folder with the authorities that servers are verified by; None for the usual ones."""
    store = config.store
    if not isinstance(store, ServerConfig) or store.tls_folder is None:
        return None
    return TLSFolder(store.tls_folder)
