# SPDX-License-Identifier: Apache-2.0
"""TLS by a folder that the operator mounts: shared by gateway, retriever and indexer.

It knows certificates, and with the extra `serve` how an application is served by them; of what is asked it knows
nothing, and it never logs a key.
"""
