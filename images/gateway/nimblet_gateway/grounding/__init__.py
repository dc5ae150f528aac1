# SPDX-License-Identifier: Apache-2.0
"""What makes an answer grounded: prompt, relevance, support, sentences, citations. Pure.

"Supported" is provenance, not truth: docs/grounding.md says what it means and what it does not.
"""
