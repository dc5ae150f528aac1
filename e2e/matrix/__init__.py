# SPDX-License-Identifier: Apache-2.0
"""The fault matrix: every failure a user can meet, provoked for real, timed, healed, and written down as a table.

`python -m e2e.matrix` runs it and writes docs/fault-matrix.md; e2e/scenarios/test_fault_matrix.py is its test.
"""
