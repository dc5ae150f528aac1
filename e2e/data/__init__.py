# SPDX-License-Identifier: Apache-2.0
"""An invented corpus with questions, and what is made from it mechanically, to measure grounded answers.

`e2e.data.corpus` is the way in. Nothing here may be tuned to a checker: the labels are frozen by LABELS.sha256.
"""
