# SPDX-License-Identifier: Apache-2.0
"""Nimblet: the operator for small models and cited answers."""

__version__ = "0.1.0"
