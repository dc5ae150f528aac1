# SPDX-License-Identifier: Apache-2.0
"""What the loader's tests share: a faulty hub on loopback and tiny GGUF files. Never shipped."""
