# SPDX-License-Identifier: Apache-2.0
"""How well passages can answer a question, and from which score on one is answered.

A library of the gateway, which refuses by it, and of the retriever, which finds the threshold of a generation:
with two ways to score, the threshold would belong to another one. Pure; it asks nobody.
"""
