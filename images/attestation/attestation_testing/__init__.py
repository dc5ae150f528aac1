# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a verifier, for tests; it signs with real keys and looks at no evidence."""
