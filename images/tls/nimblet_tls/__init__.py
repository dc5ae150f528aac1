# SPDX-License-Identifier: Apache-2.0
"""TLS by a folder that the operator mounts: shared by gateway, retriever and indexer.

It knows certificates and nothing of what is asked over them; it never logs a key.
"""
