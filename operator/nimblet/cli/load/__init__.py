# SPDX-License-Identifier: Apache-2.0
"""An open-loop load on an endpoint, what it measured, and how that is shown."""
