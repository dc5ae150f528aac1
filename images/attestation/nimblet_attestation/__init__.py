# SPDX-License-Identifier: Apache-2.0
"""What an attestation token proves: the same judgement in the guest, which fetches weights, and in the operator.

Pure: no network, no clock, no files.
"""
