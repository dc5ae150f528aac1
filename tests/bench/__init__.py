# SPDX-License-Identifier: Apache-2.0
"""Figures about the real thing, always as ratios inside one run: `python -m tests.bench NAME ...`.

None is a test: they print, and fail only where a must is broken. docs/figures.md records what they printed.
"""
