# SPDX-License-Identifier: Apache-2.0
"""Nimblet's loader: turns a model source into pinned facts, and those into verified files.

It runs in the tenant's pod. It must never follow a URL, an address or a path that the policy and the
artifact do not name, and never leave an unverified file under its final name.
"""
