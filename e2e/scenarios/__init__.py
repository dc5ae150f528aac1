# SPDX-License-Identifier: Apache-2.0
"""User journeys on real pods. A package, so that the cluster goes after the last of them."""
