# SPDX-License-Identifier: Apache-2.0
"""Entry point of the operator's image."""
