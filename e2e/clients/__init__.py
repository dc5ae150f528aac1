# SPDX-License-Identifier: Apache-2.0
"""Programs as users write them against an OpenAI-compatible endpoint; each is run as a process of its own.

They take the address and the key from OPENAI_BASE_URL and OPENAI_API_KEY, a model's name and a question from the
command line, and print one line of JSON. Nothing in them knows Nimblet.
"""
