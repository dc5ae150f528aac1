# SPDX-License-Identifier: Apache-2.0
"""Figures about the real thing, always as ratios inside one run: `python -m tests.bench`.

`sizing` holds the arithmetic of plan/sizing against a real llama-server; `ready` times the way from apply to
Ready on the disposable cluster. Neither is a test: they print, and fail only where a must is broken.
"""
