# SPDX-License-Identifier: Apache-2.0
"""The one error that a command shows to its user without a traceback."""


class CommandError(Exception):
    """What was expected, what was found, what to do."""
