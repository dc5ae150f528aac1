# SPDX-License-Identifier: Apache-2.0
"""The parts of `answers`: programs, questions, replies, verdicts, tables."""
