# SPDX-License-Identifier: Apache-2.0
"""From the pydantic models of `nimblet.api` to CustomResourceDefinitions, their chart copies and docs/api.md.

Pure functions make texts; only `__main__` touches files. Knows no cluster.
"""
