# SPDX-License-Identifier: Apache-2.0
"""What all tests of the repository share: how they are spread over pytest's workers. It holds no fixture."""

pytest_plugins = ("tests.lanes",)
