# SPDX-License-Identifier: Apache-2.0
"""What can go wrong while a question is answered or a build is fed, beyond the store's own errors. Values only."""


class EmbeddingUnavailable(Exception):  # noqa: N818 - what happened
    """The embedding model did not answer; asking again may help."""


class EmbeddingRefused(Exception):  # noqa: N818
    """The embedding model refused the request, its key or its size; asking again does not help."""

    def __init__(self, message: str, *, is_too_long: bool = False) -> None:
        super().__init__(message)
        self.is_too_long = is_too_long


class EmbeddingChanged(Exception):  # noqa: N818
    """The model embeds otherwise than it did for a generation: a search would compare what can't be compared."""


class IndexEmpty(Exception):  # noqa: N818
    """No generation serves yet."""


class AccessRefused(Exception):  # noqa: N818
    """A key would decide over others than those it stands for."""


class DocumentUnknown(Exception):  # noqa: N818
    """No such document, or none that the key may see."""


class DocumentRefused(Exception):  # noqa: N818
    """A pushed document that can't be read, or holds no text."""
