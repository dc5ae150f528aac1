# SPDX-License-Identifier: Apache-2.0
"""The errors of the cluster program; each message says what was expected, what was found, what to do."""


class ClusterError(Exception):
    """The cluster, or a tool that it needs, can't do what was asked; the message is for a person."""


class MissingError(ClusterError):
    """The machine lacks something; the message lists everything that is missing, with the fix."""


class ApiError(ClusterError):
    """The apiserver answered with an error.

    `status` is the HTTP status code; 0 means that no answer came.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
