# SPDX-License-Identifier: Apache-2.0
"""A small model hub: real files over the Hugging Face hub's protocol, for clusters that cannot reach it.

A test double for development only; standard library only, so that its image needs nothing but Python.
"""
