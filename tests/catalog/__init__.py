# SPDX-License-Identifier: Apache-2.0
"""The catalogue of samples/catalog: what is published of each model, and what the plan makes of it."""
