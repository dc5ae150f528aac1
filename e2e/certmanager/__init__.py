# SPDX-License-Identifier: Apache-2.0
"""Our Certificates before cert-manager itself; apart from the other tests, for it takes minutes to build."""
