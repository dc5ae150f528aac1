# SPDX-License-Identifier: Apache-2.0
"""The gateway: one OpenAI-compatible endpoint that answers from indexes and says which passages."""
