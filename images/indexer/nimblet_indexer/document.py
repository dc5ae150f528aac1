# SPDX-License-Identifier: Apache-2.0
"""A document as parsed: title and sections with their place, or why it was refused. Values only."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Refusal(StrEnum):
    """Why a file was left out; it stands in the index's status with the file's name."""

    TOO_LARGE = "TooLarge"
    EXPANDS_TOO_MUCH = "ExpandsTooMuch"
    ENCRYPTED = "Encrypted"
    DAMAGED = "Damaged"
    BAD_ENCODING = "BadEncoding"
    NO_TEXT = "NoText"
    UNSUPPORTED = "Unsupported"
    TIMED_OUT = "TimedOut"
    PARSER_DIED = "ParserDied"
    UNREADABLE = "Unreadable"
    UNSAFE_NAME = "UnsafeName"
    LINK = "Link"
    SUBMODULE = "Submodule"
    NOT_FOUND = "NotFound"
    ACCESS_DENIED = "AccessDenied"
    UNREACHABLE = "Unreachable"
    OTHER_SITE = "OtherSite"
    ROBOTS_DISALLOWED = "RobotsDisallowed"
    TOO_MANY = "TooMany"


class FileRefused(Exception):  # noqa: N818 - what happened, in the words that the status has
    """A file that can't be indexed; the others are. The message says what was found and what to do."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Section(BaseModel):
    """Text under one heading or on one page: paragraphs apart by blank lines, table rows one a line."""

    model_config = ConfigDict(frozen=True)

    text: str
    headings: tuple[str, ...] = ()
    """The headings above it, outermost first."""
    page: int | None = None
    """From 1, in formats that have pages."""

    @property
    def location(self) -> str:
        """The place as a citation shows it."""
        path = " > ".join(self.headings)
        page = f"page {self.page}" if self.page is not None else ""
        return ", ".join(part for part in (path, page) if part)


class Parsed(BaseModel):
    """A parsed document; the title is empty where the file has none."""

    model_config = ConfigDict(frozen=True)

    title: str
    sections: tuple[Section, ...]
