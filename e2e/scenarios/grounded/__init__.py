# SPDX-License-Identifier: Apache-2.0
"""Grounded answers on real pods. A package, so that one desk is made for all of its files."""
