# SPDX-License-Identifier: Apache-2.0
"""Only for tests: folders of certificates as the operator makes them."""
